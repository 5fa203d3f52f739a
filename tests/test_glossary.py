"""Every word of docs/glossary.md is one: of ours, of torch, of transformers."""

import dataclasses
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import transformer_zoo as tz
from transformer_zoo.config.changes import SHORT
from transformer_zoo.config.mixture import MixtureSpec
from transformer_zoo.training import config as training
from transformer_zoo.training.tasks.translation_recipe import TranslationTraining

transformers = pytest.importorskip("transformers")
COLUMNS = {"ours": 1, "torch": 4, "transformers": 5}
WORD = re.compile(r"(?P<path>\w+(\.\w+)*)(\((?P<argument>\w+)\))?")


def rows(root: Path) -> list[list[str]]:
    """The cells of each row of the tables, heads and rules left out."""
    page = (root / "docs" / "glossary.md").read_text("utf-8")
    found = [line.split("|") for line in page.splitlines() if line.startswith("| ")]
    return [cells for cells in found if cells[1].strip() != "ours"]


def words(root: Path, column: str) -> list[str]:
    return [word for cells in rows(root) for word in re.findall(r"`([^`]+)`", cells[COLUMNS[column]])]


def fields() -> Iterator[str]:
    """The fields of configurations and recipes, by their short names too."""
    kinds: list[type] = [tz.EncoderDecoderConfig, tz.DecoderConfig, tz.EncoderConfig, MixtureSpec, TranslationTraining]
    kinds += [kind for kind in vars(training).values() if inspect.isclass(kind) and dataclasses.is_dataclass(kind)]
    for kind in kinds:
        yield from (field.name for field in dataclasses.fields(kind))
    yield from SHORT


def has(thing: Any, name: str) -> bool:
    """As an attribute, or as a field of what it makes."""
    if hasattr(thing, name) or name in getattr(thing, "__dataclass_fields__", {}):
        return True
    return inspect.isclass(thing) and thing.__name__.endswith("Config") and hasattr(thing(), name)


def takes(thing: Any, argument: str) -> bool:
    """Whether a call takes it; a function of torch's own says so in its docstring alone."""
    try:
        return argument in inspect.signature(thing).parameters
    except ValueError:
        return re.search(rf"\b{argument}\b", str(thing.__doc__).partition("->")[0]) is not None


def is_there(word: str, module: Any) -> bool:
    """Whether a path leads from the module to something, which takes the argument if there is one."""
    found = WORD.fullmatch(word)
    if found is None:
        return False
    thing, *names = module, *found["path"].split(".")
    for i, name in enumerate(names):
        if inspect.ismodule(thing) and not hasattr(thing, name):
            try:
                thing = importlib.import_module(f"{thing.__name__}.{name}")
            except ImportError:
                return False
        elif i == len(names) - 1 and not hasattr(thing, name):
            return found["argument"] is None and has(thing, name)
        elif not hasattr(thing, name):
            return False
        else:
            thing = getattr(thing, name)
    return found["argument"] is None or takes(thing, found["argument"])


def test_ours_are_ours(root: Path) -> None:
    known = set(fields())
    found = words(root, "ours")
    assert len(found) > 60
    assert [word for word in found if word not in known and not is_there(word, tz)] == []


@pytest.mark.parametrize(("column", "module"), [("torch", torch), ("transformers", transformers)])
def test_theirs_are_theirs(column: str, module: Any, root: Path) -> None:
    found = words(root, column)
    assert len(found) > 30
    assert [word for word in found if not is_there(word, module)] == []


def test_every_row_has_a_word_a_meaning_and_five_cells(root: Path) -> None:
    for cells in rows(root):
        assert len(cells) == 7, cells
        assert all(cells[i].strip() for i in (1, 2)), cells


@pytest.mark.parametrize(
    ("word", "module"),
    [
        ("blocks.Attension", tz), ("blocks.Attention(n_head)", tz), ("nn.Transformer(n_heads)", torch),
        ("nn.Tranformer", torch),
        ("LlamaConfig.n_heads", transformers), ("no such word", tz), ("LlamaModel.forward(mask)", transformers),
    ],
)  # fmt: skip
def test_a_word_that_is_none_is_seen(word: str, module: Any) -> None:
    assert not is_there(word, module)
