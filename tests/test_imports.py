"""Imports go in one direction only: each package may use the packages below it and nothing else."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

# Who may import whom. `errors` is what everybody may raise, and how a command line shows it.
BELOW: dict[str, set[str]] = {
    "errors": set(),
    "characters": set(),
    "files": {"errors"},
    "checksums": {"errors", "files"},
    "words": set(),
    "languages": set(),
    "lent": {"errors"},
    "commandline": {"errors", "words", "lent", "files", "checksums"},
    "threads": set(),
    "config": {"errors", "words"},
    "kernels": set(),
    "blocks": {"errors", "kernels"},
    "models": {"errors", "config", "kernels", "blocks"},
    "zoo": {"errors", "words", "files", "checksums", "config", "blocks", "models"},
    "tokenizers": {"errors", "characters", "files", "checksums"},
    "inference": {
        "errors",
        "threads",
        "characters",
        "languages",
        "config",
        "kernels",
        "blocks",
        "models",
        "tokenizers",
    },
    "data": {"errors", "characters", "commandline", "files", "checksums", "config", "tokenizers"},
    "evaluation": {
        "errors",
        "threads",
        "characters",
        "languages",
        "files",
        "checksums",
        "config",
        "kernels",
        "models",
        "tokenizers",
        "data",
        "inference",
    },
    "training": {
        "errors",
        "lent",
        "threads",
        "words",
        "files",
        "checksums",
        "config",
        "kernels",
        "blocks",
        "models",
        "zoo",
        "tokenizers",
        "data",
        "inference",
        "evaluation",
    },
    "runs": {
        "errors",
        "words",
        "characters",
        "commandline",
        "files",
        "checksums",
        "config",
        "blocks",
        "models",
        "zoo",
        "tokenizers",
        "data",
        "inference",
        "evaluation",
        "training",
    },
    "pictures": {"errors", "runs"},
    "serving": {"errors", "threads", "words", "languages", "config", "models", "tokenizers", "inference", "runs"},
    "cli": {
        "errors",
        "lent",
        "words",
        "characters",
        "commandline",
        "files",
        "checksums",
        "config",
        "blocks",
        "models",
        "zoo",
        "tokenizers",
        "inference",
        "data",
        "training",
        "runs",
        "evaluation",
        "pictures",
        "serving",
    },
}
# The lowest packages also list what they take from outside. A package that is not named here is free to choose.
OUTSIDE: dict[str, set[str]] = {
    "errors": set(),
    "characters": {"regex"},
    "files": set(),
    "checksums": {"xxhash"},
    "threads": {"torch", "tqdm"},
    "words": set(),
    "languages": {"babel"},
    "config": set(),
    "kernels": {"torch"},
    "blocks": {"torch"},
    "models": {"torch"},
    "tokenizers": {"numpy", "sacremoses", "sentencepiece", "tiktoken", "tokenizers", "xxhash"},
}


def imported_modules(source: str, module: str, is_package: bool) -> list[tuple[int, str]]:
    """Line and absolute name of everything `source` imports: also in functions, also for typing only."""
    package = module if is_package else module.rpartition(".")[0]
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            # `from transformer_zoo import blocks` names a module; `from x.y import name` is at least x.y.
            if base == "transformer_zoo":
                found += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
            else:
                found.append((node.lineno, base))
    return found


def upward_imports(source: str, module: str, is_package: bool = False) -> list[str]:
    """One line for each import that the package of `module` may not make."""
    room = module.split(".")[1]
    problems = []
    for line, name in imported_modules(source, module, is_package):
        top, *rest = name.split(".")
        if name == "transformer_zoo.__version__":
            continue
        if top == "transformer_zoo":
            other = rest[0] if rest else "transformer_zoo"
            if other != room and other not in BELOW[room]:
                problems.append(f"{module}:{line}: {room} may not import {name}")
        elif top not in sys.stdlib_module_names and room in OUTSIDE and top not in OUTSIDE[room]:
            problems.append(f"{module}:{line}: {room} may not depend on {top}")
    return problems


def package_files(root: Path) -> list[Path]:
    """Every module of the package except each `__init__`, which may import all packages."""
    package = root / "transformer_zoo"
    doors = {package / "__init__.py", package / "__main__.py"}
    return sorted(path for path in package.rglob("*.py") if path not in doors)


def test_no_room_imports_upward(root: Path) -> None:
    files = package_files(root)
    assert files
    problems = []
    for path in files:
        parts = path.relative_to(root).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        module = ".".join(parts[:-1] if is_package else parts)
        problems += upward_imports(path.read_text(encoding="utf-8"), module, is_package)
    assert not problems, "\n".join(problems)


def test_every_room_is_listed(root: Path) -> None:
    inside = (root / "transformer_zoo").iterdir()
    rooms = {path.stem for path in inside if path.is_dir() or path.suffix == ".py"}
    assert rooms - {"__init__", "__pycache__", "__main__"} == set(BELOW)


def test_the_rooms_have_no_cycle() -> None:
    order: list[str] = []
    while len(order) < len(BELOW):
        ready = [room for room, below in BELOW.items() if room not in order and below <= set(order)]
        assert ready, f"cycle among {set(BELOW) - set(order)}"
        order += ready


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("transformer_zoo.blocks.attention", "from transformer_zoo.models import EncoderDecoder"),
        ("transformer_zoo.blocks.attention", "from transformer_zoo import models"),
        ("transformer_zoo.blocks.attention", "import transformer_zoo.config as c"),
        ("transformer_zoo.blocks.attention", "from ..models.encoder_decoder import EncoderDecoder"),
        ("transformer_zoo.blocks.attention", "def f():\n    from transformer_zoo import create_model"),
        ("transformer_zoo.blocks.attention", "import numpy as np"),
        ("transformer_zoo.config", "if TYPE_CHECKING:\n    import torch"),
        ("transformer_zoo.data.batching", "from transformer_zoo.training.loss import linear_cross_entropy"),
    ],
)
def test_the_checker_sees_an_upward_import(module: str, source: str) -> None:
    assert upward_imports(source, module)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("transformer_zoo.blocks.layers", "import math\nimport torch\nfrom .attention import Attention"),
        ("transformer_zoo.models.encoder_decoder", "from ..blocks import Attention\nfrom ..config import X"),
        ("transformer_zoo.cli.translate", "from transformer_zoo.evaluation import corpus_score"),
    ],
)
def test_the_checker_lets_a_downward_import_pass(module: str, source: str) -> None:
    assert upward_imports(source, module) == []


FAMILY = re.compile(
    "(?<![a-z])(gpt2|gpt_?neo_?x|pythia|opt|bloom|llama|mistral|qwen|gemma|marian|m?bart|m2_?m|nllb|t5)(?![a-z])"
)
# Named after the family that introduced them, and chosen by a field of any model: initialisation, rotary scaling.
METHODS = {"init_gpt2", "Llama3Scaling"}
CHOICES = {("decoder_only.py", "gpt2")}


def family_names(source: str) -> list[tuple[int, str]]:
    """Line and text of every name or string that names a family, outside docstrings and comments."""
    nodes = list(ast.walk(ast.parse(source)))
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    found = []
    for node in nodes:
        fields = [] if id(node) in docstrings else [value for _, value in ast.iter_fields(node)]
        words = [word for value in fields for word in (value if isinstance(value, list) else [value])]
        for word in words:
            if isinstance(word, str):
                parts = re.sub("(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", word).lower()
                if FAMILY.search(parts) and word not in METHODS:
                    found.append((getattr(node, "lineno", 0), word))
    return found


def test_no_block_or_model_knows_of_a_family(root: Path) -> None:
    files = [path for room in ("blocks", "models") for path in (root / "transformer_zoo" / room).rglob("*.py")]
    assert len(files) > 10
    found = [(path.name, *place) for path in sorted(files) for place in family_names(path.read_text(encoding="utf-8"))]
    assert {(file, word) for file, _, word in found} == CHOICES, found
    assert len(found) == len(CHOICES), found


@pytest.mark.parametrize(
    "source",
    [
        "if config.family == 'gpt_neox': pass",
        "class T5Attention: pass",
        "def f(is_bloom): pass",
        "model.opt_offset = 2",
        "f(qwen2=True)",
        "from x import GPTNeoXLayer",
        "f'{x} of M2M100'",
    ],
)
def test_the_checker_sees_a_family(source: str) -> None:
    assert family_names(source)


def test_the_checker_lets_other_words_pass() -> None:
    assert family_names('def f(options):\n    """As in OPT."""\n    return "optional"  # T5') == []


@pytest.mark.parametrize(
    "module", ["transformer_zoo", "transformer_zoo.config", "transformer_zoo.errors", "transformer_zoo.tokenizers"]
)
def test_importing_it_does_not_import_torch(module: str, root: Path) -> None:
    code = f"import sys, {module}; print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(root)}
    output = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    assert output.strip() == "False"
