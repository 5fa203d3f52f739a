"""The prose of the project, in paragraphs and sentences: docstrings and comments, README.md and pages."""

import ast
import re
import tokenize
from collections.abc import Iterator
from io import StringIO
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

_FENCE = re.compile(r"^\s*(```|~~~)")
_FRONT = re.compile(r"\A---\n.*?^---$", re.M | re.S)  # metadata of jupytext
_ITEM = re.compile(r"^\s*([-*] |\d+\. |[\w`*.]+(, [\w`*.]+)*:( |$))")
"""What begins a paragraph of its own: an item of a list, an argument of a docstring."""
_NO_PROSE = re.compile(r"^\s*(#|\||<|\$\$|>>> |\.\.\. |!\[|---$|[%@])")
"""Headings, tables, HTML, formulas, examples, pictures."""
_CODE = re.compile(r"(`+).*?\1|\$[^$\n]+\$")
_LINK = re.compile(r"!?\[([^]]*)\]\([^)]*\)|<?https?://\S+|[*_]{2}")
_SHORT = re.compile(r"\b(e\.g|i\.e|et al|vs|cf|eq|etc|Fig|No|approx)\.")
_END = re.compile(r"(?<=[.!?])[)\"”*]*\s+(?=[\"“(\[*A-Z0-9])|(?<=:)\s+(?=[A-Z])")
_WORD = re.compile(r"[^\W\d_]{2,}[\w'’-]*")
_SAYS = re.compile(r"(Error|Refusal|\bwarn)$")
_DIRECTIVE = re.compile(r"#\s*(noqa|type:|fmt:|ruff:|mypy:|pragma|!)|# [\w.]+\.yaml$")


class Line(NamedTuple):
    """A line of a file that is prose, or the prose in it."""

    number: int
    text: str


class Sentence(NamedTuple):
    """The line that its paragraph begins in, and its text without marks; a span of code is the word Code."""

    line: int
    text: str

    @property
    def n_words(self) -> int:
        return len(_WORD.findall(self.text))


def plain(text: str) -> str:
    """Without marks of Markdown; code is the word Code."""
    return _LINK.sub(r"\1", _CODE.sub("Code", text))


def sentences(paragraph: list[Line]) -> list[Sentence]:
    """The sentences of a paragraph."""
    text = _SHORT.sub(r"\1", plain(" ".join(line.text.strip() for line in paragraph)))
    return [Sentence(paragraph[0].number, one) for one in _END.split(text) if one.strip()]


def paragraphs(lines: list[Line]) -> Iterator[list[Line]]:
    """Lines that belong together: up to a blank line, an item of a list, or what is not prose."""
    found: list[Line] = []
    for line in lines:
        no_prose = not line.text.strip() or _NO_PROSE.match(line.text)
        if found and (no_prose or _ITEM.match(line.text)):
            yield found
            found = []
        if not no_prose:
            found.append(line)
    if found:
        yield found


def of_page(text: str) -> list[list[Line]]:
    """The paragraphs of a page of Markdown, without fences and metadata."""
    text = _FRONT.sub(lambda found: "\n" * found[0].count("\n"), text)
    lines, within = [], False
    for number, line in enumerate(text.splitlines(), 1):
        if _FENCE.match(line):
            within = not within
            lines.append(Line(number, ""))
        elif not within:
            lines.append(Line(number, line))
    return [*paragraphs(lines)]


def docstrings(tree: ast.Module) -> Iterator[list[Line]]:
    """The docstrings of a module, and the strings below a field that say what it is."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else []:
            match statement:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    yield [Line(statement.lineno + i, line) for i, line in enumerate(text.splitlines())]


def messages(tree: ast.Module) -> Iterator[list[Line]]:
    """What errors and warnings say to people; a value in it is _."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _SAYS.search(ast.unparse(node.func)):
            for said in node.args:
                match said:
                    case ast.Constant(value=str(text)):
                        yield [Line(said.lineno, text)]
                    case ast.JoinedStr(values=parts):
                        text = "".join(str(part.value) if isinstance(part, ast.Constant) else "_" for part in parts)
                        yield [Line(said.lineno, text)]


def comments(text: str) -> list[list[Line]]:
    """The comments of a module; those that follow each other are one."""
    tokens = [token for token in tokenize.generate_tokens(StringIO(text).readline) if token.type == tokenize.COMMENT]
    lines = [Line(token.start[0], token.string[1:]) for token in tokens if not _DIRECTIVE.match(token.string)]
    own = {token.start[0] for token in tokens if token.line.lstrip().startswith("#")}
    blocks = groupby(enumerate(lines), key=lambda pair: pair[1].number - pair[0] if pair[1].number in own else -pair[0])
    return [[line for _, line in block] for _, block in blocks]


def of_module(text: str) -> list[list[Line]]:
    """The paragraphs of a module's docstrings and comments."""
    found = [part for lines in docstrings(ast.parse(text)) for part in paragraphs(lines)]
    return found + [part for lines in comments(text) for part in paragraphs(lines)]


def prose(root: Path) -> Iterator[tuple[str, list[Line]]]:
    """Every paragraph of the project, and the path of its file."""
    for folder in ("transformer_zoo", "recipes", "data", "tests", "docs"):
        for path in sorted((root / folder).rglob("*.py")):
            for lines in of_module(path.read_text(encoding="utf-8")):
                yield path.relative_to(root).as_posix(), lines
    for path in [root / "README.md", *sorted((root / "docs").rglob("*.md"))]:
        for lines in of_page(path.read_text(encoding="utf-8")):
            yield path.relative_to(root).as_posix(), lines
