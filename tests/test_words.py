"""The words of docstrings, comments, errors and pages: the field's word for each thing, and sentences that are short.

Readers learned their English at school. A word of `WORDS` fails with what to write instead; so does a sentence of more
than `LONGEST` words. Text in code spans, fences, tables and headings is not looked at.
"""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from . import prose
from .prose import Line, Sentence

LONGEST = 35

SIZES = {
    r"n_embd|hidden_size|emb_dim": "d_model",
    r"nhead|num_heads|num_attention_heads": "n_heads",
    r"head_size": "head_dim",
    r"ffn_dim|mlp_dim|intermediate_size": "d_ff",
    r"num_layers|n_layer|num_hidden_layers": "n_layers",
    r"block_size|n_ctx": "max_seq_len",
}
"""Names of sizes, as docs/blocks.md has them; names of other projects are code, and are written in code spans."""
WORDS = {
    # What the field has a word for.
    r"doors?": "function, command, entry point or argument",
    r"houses?": "project or package",
    r"rooms|(?:the|a|this|its|that|each|every|one|another) room(?! for)": "package, module or space",
    r"waves?": "sinusoid, frequency or wavelength",
    r"turn(?:s|ed|ing)? (?:its |the )?(?:quer(?:y|ies)|keys|pairs|faster|slower|together|often|seldom)": "rotate",
    r"fill(?:s|ed|ing)? (?:\w+ ){0,4}up": "pad",
    r"learn(?:s|ed|t)? (?:\w+ )?by heart": "memorise",
    r"learnt": "learned",
    r"newcomers?": "new family, new rows, or who is new",
    r"guess(?:es|ed)? ahead": "draft",
    r"dataloaders?": "data loader",
    r"pre-?normali[sz]ation": "pre-norm",
    r"mend(?:s|ed)?": "fix",
    # What is shorter or better known.
    r"but for": "except for",
    r"in place of": "instead of",
    r"anew": "again",
    r"likeliest": "most likely",
    r"as ever": "as before",
    r"who(?:so)?ever": "who, or name the caller",
    r"lest": "so that ... not",
    r"thereof|therein|thereby|hereby|herein|whence|whither|wherein|whereof|hence|thus": "so, from which, in which",
    r"albeit|notwithstanding|inasmuch|insofar": "although, as far as",
    r"utili[sz](?:e|es|ed|ing|ation)": "use",
    r"in order to": "to",
    r"vice versa": "the other way round",
    # The subject comes first.
    r"(?<!there )(?:is|are|was|were) no(?! longer| more| less| fewer| better| faster| slower| worse| larger| smaller)":
        "is not a ..., has no ...",
}  # fmt: skip
FIRST = {
    r"Of (?!course|these|those)": "the subject first, and what it is a part of after it",
    r"So (?:do|does|is|are|did|was|were|has|have|can|will) (?!it\b|there\b)": "the subject first: ... too",
}
"""What no sentence begins with."""
SPANS = re.compile(r"(`+).*?\1|\$[^$\n]+\$|\]\([^)]*\)|https?://\S+|\"[^\"]*\"")
"""Parts of a line that are not looked at: code, addresses, quotations such as titles of papers."""


@cache
def patterns(sizes: bool) -> list[tuple[re.Pattern[str], str]]:
    return [(re.compile(rf"(?<![\w-])(?:{word})(?![\w-])", re.I), instead)
            for word, instead in ((SIZES if sizes else {}) | WORDS).items()]  # fmt: skip


def wrong_words(lines: list[Line], *, sizes: bool = True) -> list[tuple[int, str]]:
    """Line and complaint for each word of the list in a paragraph, also where a line ends within it."""
    starts, text = [], ""
    for line in lines:
        starts.append((len(text), line.number))
        text += line.text.strip() + " "
    text = SPANS.sub(lambda span: "_" * len(span[0]), text)
    found = [(word.start(), word[0].strip(), instead)
             for known, instead in patterns(sizes) for word in known.finditer(text)]  # fmt: skip
    return [(max(number for start, number in starts if start <= at), f"{word!r}: {instead}")
            for at, word, instead in sorted(found)]  # fmt: skip


def wrong_sentences(found: list[Sentence]) -> list[tuple[int, str]]:
    """Line and complaint for each sentence that is too long or begins with what it should not."""
    long = [(one.line, f"{one.n_words} words, at most {LONGEST}: {one.text[:60]}...")
            for one in found if one.n_words > LONGEST]  # fmt: skip
    return long + [
        (one.line, f"{one.text[:40]!r}: {instead}")
        for one in found
        for start, instead in FIRST.items()
        if re.match(start, one.text)
    ]


@cache
def everything(root: Path) -> list[tuple[str, list[Line]]]:
    return [*prose.prose(root)]


def complaints(root: Path) -> list[str]:
    found = [
        f"{path}:{line}: {complaint}"
        for path, lines in everything(root)
        for line, complaint in wrong_words(lines) + wrong_sentences(prose.sentences(lines))
    ]
    for path in sorted((root / "transformer_zoo").rglob("*.py")):
        name, tree = path.relative_to(root).as_posix(), ast.parse(path.read_text(encoding="utf-8"))
        for lines in prose.messages(tree):
            # Fields of files are not in code spans there.
            found += [f"{name}:{line}: {complaint}" for line, complaint in wrong_words(lines, sizes=False)]
    return found


def test_words_and_sentences_are_those_of_readers(root: Path) -> None:
    found = complaints(root)
    assert not found, f"{len(found)} to rewrite:\n" + "\n".join(found)


def test_all_kinds_of_text_are_read(root: Path) -> None:
    read = [path for path, _ in everything(root)]
    for path in ("README.md", "docs/blocks.md", "docs/learn/2_attention.md", "transformer_zoo/blocks/attention.py",
                 "recipes/translation/train.py", "data/numbers/prepare.py", "tests/test_words.py"):  # fmt: skip
        assert read.count(path) > 0, path
    assert len(read) > 5000


@pytest.mark.parametrize(
    ("text", "n_words"),
    [
        ("One, e.g. this, is Smith et al. 2020's. Two.", [6, 1]),
        ("`A. B.` is code. [A link. Its text](x.md) is read.", [3, 1, 4]),
        ("- one item\n- another one\n\nAnd text.", [2, 2, 2]),
        ("Before:\n\n```python\nno. Words here.\n```\n\nAfter 1.5 GB.", [1, 2]),
        ("| a table | is not |\n|---|---|\n\n# No heading\n\nText.", [1]),
        ("Numbers (B, T, D) and 3.14 are no words: x^2 neither.", [6]),
    ],
)
def test_sentences_are_cut_where_they_end(text: str, n_words: list[int]) -> None:
    found = [one.n_words for lines in prose.of_page(text) for one in prose.sentences(lines)]
    assert found == n_words


MODULE = '''"""A module.

Its text goes
on.
"""

SIZE = 3  # of a comment
"""What it is."""


def f(x: int) -> str:
    """Do it.

    Args:
        x: a number
            of things.

    >>> f("no prose")
    """
    # Two lines
    # of one.
    return "no prose"
'''


def test_docstrings_and_comments_are_found_with_their_lines() -> None:
    found = {(lines[0].number, " ".join(line.text.strip() for line in lines)) for lines in prose.of_module(MODULE)}
    assert found == {
        (1, "A module."), (3, "Its text goes on."), (7, "of a comment"), (8, "What it is."), (12, "Do it."),
        (14, "Args:"), (15, "x: a number of things."), (20, "Two lines of one."),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("A wave.", "1: 'wave': sinusoid"),
        ("Two lines\nof waves.", "2: 'waves': sinusoid"),
        ("In\nplace of it.", "1: 'In"),
        ("It is no size.", "1: 'is no': is not a"),
        ("Of a word it is the end.", "1: 'Of a word"),
        ("`x`. Of it.", "1: 'Of it"),
        (" ".join(["word"] * 36) + ".", "1: 36 words"),
        ("They fill the row up.", "1: 'fill the row up': pad"),
        ("So does this.", "1: 'So does this"),
    ],
)
def test_what_is_hard_to_read_is_found(text: str, complaint: str) -> None:
    lines = prose.of_page(text)[0]
    found = [f"{line}: {said}" for line, said in wrong_words(lines) + wrong_sentences(prose.sentences(lines))]
    assert found
    assert found[0].startswith(complaint)


@pytest.mark.parametrize(
    "text",
    [
        "`wave` and `a room`, [a page](docs/house.md).",
        "There is no mask.",
        "It is no longer there.",
        "Of course.",
        "Of these, two.",
        "This is so, and so is that.",
        " ".join(["word"] * 35) + ".",
        "There is room for ten tokens.",
        "A part of it.",
        "The microwave.",
    ],
)
def test_what_is_easy_to_read_passes(text: str) -> None:
    lines = prose.of_page(text)[0]
    assert wrong_words(lines) + wrong_sentences(prose.sentences(lines)) == []
