"""The rules of the code, as tests: one place for each thing, and nothing that knows another thing's inside.

That imports go downward is tested in test_imports.py.
"""

import ast
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

LONGEST_FILE, LONGEST_FUNCTION = 300, 50
MODELS = {"DecoderOnly", "EncoderDecoder", "EncoderOnly"}
KINDS_OF_MODELS = "models/family.py"  # the one table of them
FAMILIES = "zoo/families"  # tables of weight names, which are what a family is
WEIGHT_NAME = re.compile(r"(^|\.)([a-z]+_proj|(cross_)?attn_norm|ffn_norm)(\.|$)|\.(cross_)?attn$")
PRIVATE = re.compile(r"^torch\.(_|ops\.|distributed\._|testing\._internal)|^torch(\.\w+)*\._[a-z]")
FORBIDDEN_IN_TESTS = re.compile(r"^torch\.(_|ops\.)")


def sources(root: Path) -> list[tuple[str, ast.Module]]:
    """Every file of the package, by its path in it, and what it says."""
    package = root / "transformer_zoo"
    return [
        (path.relative_to(package).as_posix(), ast.parse(path.read_text(encoding="utf-8")))
        for path in sorted(package.rglob("*.py"))
    ]


def classes(tree: ast.AST) -> set[str]:
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def blocks(root: Path) -> dict[str, str]:
    """Each class of a block, and its file."""
    return {name: path for path, tree in sources(root) if path.startswith("blocks/") for name in classes(tree)}


def annotations(tree: ast.AST) -> Iterator[ast.expr]:
    """What says of which type something is, such as list[Attention]."""
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(slice=kind) | ast.arg(annotation=ast.expr() as kind) | ast.AnnAssign(annotation=kind):
                yield kind
            case ast.FunctionDef(returns=ast.expr() as kind):
                yield kind


def named_in_a_list(tree: ast.AST, names: set[str]) -> list[tuple[int, str]]:
    """Line and name of every class that is told from others: in isinstance, a list, a dict, a pattern, a string."""
    found = []
    types = {id(inner) for kind in annotations(tree) for inner in ast.walk(kind)}
    for node in ast.walk(tree):
        if id(node) in types:
            continue
        within: list[ast.expr | ast.pattern | None] = []
        match node:
            case ast.Call(func=ast.Name(id="isinstance" | "issubclass"), args=[_, kinds]):
                within = [inner for inner in ast.walk(kinds) if isinstance(inner, ast.expr)]
            case ast.List(elts=inside) | ast.Set(elts=inside) | ast.Tuple(elts=inside):
                within = list(inside)
            case ast.Dict(keys=keys, values=values):
                within = [*keys, *values]
            case ast.MatchClass(cls=kind):
                within = [kind]
            case ast.Constant(value=str(text)) if text in names:
                found.append((node.lineno, text))
        found += [(inner.lineno, inner.id) for inner in within if isinstance(inner, ast.Name) and inner.id in names]
    return found


def without_exports(tree: ast.Module) -> ast.Module:
    """Without `__all__`, without what a package's `__init__` lists, and without docstrings."""
    doors = ("__all__", "_LAZY")
    body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.Assign | ast.AnnAssign) and any(door in ast.unparse(node) for door in doors))
    ]
    bare = ast.Module(body, [])
    for node in ast.walk(bare):
        inside = getattr(node, "body", None)
        if isinstance(inside, list) and inside and isinstance(inside[0], ast.Expr):
            inside[0].value = ast.copy_location(ast.Constant(...), inside[0])
    return bare


def test_no_class_of_a_block_is_known_elsewhere(root: Path) -> None:
    known = blocks(root)
    assert len(known) > 10
    problems = [
        f"{path}:{line}: {name}"
        for path, tree in sources(root)
        for line, name in named_in_a_list(without_exports(tree), set(known))
        if known[name] != path
    ]
    assert not problems, "\n".join(problems)


def test_a_kind_of_model_is_asked_for_in_one_table(root: Path) -> None:
    problems = [
        f"{path}:{line}: {name}"
        for path, tree in sources(root)
        for line, name in named_in_a_list(without_exports(tree), MODELS)
        if path != KINDS_OF_MODELS
    ]
    assert not problems, "\n".join(problems)


def weight_names(tree: ast.AST) -> list[tuple[int, str]]:
    """Line and text of each string that names a weight which is not made in the same file."""
    own = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    return [
        (node.lineno, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if WEIGHT_NAME.search(node.value) and node.value not in own
    ]


def test_no_weight_is_named_in_a_string(root: Path) -> None:
    problems = [
        f"{path}:{line}: {name}"
        for path, tree in sources(root)
        if not path.startswith((FAMILIES, "blocks/"))
        for line, name in weight_names(without_exports(tree))
    ]
    assert not problems, "\n".join(problems)


def torch_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and full name of everything of torch that is used."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute():
                yield node.lineno, ast.unparse(node)
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=str(module), names=names):
                yield from ((node.lineno, f"{module}.{alias.name}") for alias in names)


def test_nothing_private_of_torch_outside_the_kernels(root: Path) -> None:
    problems = [
        f"{path}:{line}: {name}"
        for path, tree in sources(root)
        if not path.startswith("kernels/")
        for line, name in torch_names(tree)
        if PRIVATE.search(name)
    ]
    assert not problems, "\n".join(problems)


def test_no_function_hides_its_module(root: Path) -> None:
    package = root / "transformer_zoo"
    problems = []
    for path, tree in sources(root):
        folder = (package / path).parent
        if path.endswith("__init__.py"):
            here = ".".join(["transformer_zoo", *path.split("/")[:-1]])
            found = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module != here]
            names = {alias.asname or alias.name for node in found for alias in node.names}
            modules = {module.stem for module in folder.iterdir() if module.suffix == ".py" or module.is_dir()}
            problems += [f"{path}: {name}" for name in sorted(names & modules)]
    assert not problems, "\n".join(problems)


def functions(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Name and lines of every function, its docstring not counted."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            first = node.body[0]
            if ast.get_docstring(node, clean=False) is not None:
                lines -= (first.end_lineno or first.lineno) - first.lineno + 1
            yield node.name, lines


def test_files_and_functions_are_short(root: Path) -> None:
    files = sources(root)
    long_files = [
        f"{path}: {n} lines"
        for path, _ in files
        if (n := len((root / "transformer_zoo" / path).read_text(encoding="utf-8").splitlines())) > LONGEST_FILE
    ]
    found = [(path, name, lines) for path, tree in files for name, lines in functions(tree)]
    long_functions = [f"{path}: {name}: {n} lines" for path, name, n in found if n > LONGEST_FUNCTION]
    assert not long_files + long_functions, "\n".join(long_files + long_functions)
    lengths = [lines for _, _, lines in found]
    assert statistics.median(lengths) <= 8
    assert statistics.quantiles(lengths, n=10)[-1] < 25


def untyped_options(tree: ast.AST) -> list[tuple[int, str]]:
    """Line and name of every argument or variable that holds options by their names, without a declaration."""
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.arg(arg=name, annotation=kind) | ast.AnnAssign(target=ast.Name(id=name), annotation=kind):
                is_untyped = kind is not None and ast.unparse(kind) == "dict[str, Any]"
                if is_untyped and re.search("option|kwargs|setting", name):
                    found.append((node.lineno, name))
    return found


def test_options_are_declared(root: Path) -> None:
    problems = [f"{path}:{line}: {name}" for path, tree in sources(root) for line, name in untyped_options(tree)]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    "source",
    [
        "isinstance(x, Attention)",
        "isinstance(x, RMSNorm | Attention)",
        "KINDS = [Attention]",
        "TABLE = {'attention': Attention}",
        "match x:\n    case Attention(): pass",
        "name == 'Attention'",
    ],
)
def test_the_checker_sees_a_class(source: str) -> None:
    assert named_in_a_list(ast.parse(source), {"Attention"})


@pytest.mark.parametrize("source", ["'q_proj'", "name.endswith('ffn.up_proj')", "'decoder.layers.0.attn'"])
def test_the_checker_sees_a_weight(source: str) -> None:
    assert weight_names(ast.parse(source))


@pytest.mark.parametrize(
    "source",
    ["torch._foreach_add_(x, y)", "torch.ops.aten.mm(x, y)", "from torch._inductor import config", "import torch._C"],
)
def test_the_checker_sees_what_is_private(source: str) -> None:
    assert any(PRIVATE.search(name) for _, name in torch_names(ast.parse(source)))


def test_the_checker_lets_other_words_pass() -> None:
    tree = ast.parse("torch.nn.functional.linear(x, w)\nattention = Attention(8, 2)\n'projects'")
    assert not [name for _, name in torch_names(tree) if PRIVATE.search(name)]
    assert not named_in_a_list(tree, {"Attention"})
    assert not weight_names(tree)
