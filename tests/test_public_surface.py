"""What people may import, and that it says what it takes and gives."""

import importlib
import inspect
import re
from types import ModuleType

import pytest

import transformer_zoo as tz

# A shape as the docstrings write it: (B, T, D), (B,H,Tq,Tk), (N,), (..., V).
SHAPE = re.compile(r"\((?:\.\.\.|…|[A-Z1-9]\w*)(?:\s*[·*]\s*\w+)?\s*,(?:\s*[\w.·*…+ -]+,?)*\)")


def public(module: ModuleType) -> list[tuple[str, object]]:
    return [(name, getattr(module, name)) for name in module.__all__]


def test_the_front_door() -> None:
    assert {"list_models", "get_config", "create_model", "load_run"} <= set(tz.__all__)
    for name in tz.__all__:
        assert getattr(tz, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        tz.no_such_name  # noqa: B018


@pytest.mark.parametrize("room", ["blocks", "models", "zoo", "generation", "data", "training", "evaluation"])
def test_public_names_can_be_imported_and_are_documented(room: str) -> None:
    module = importlib.import_module(f"transformer_zoo.{room}")
    names = public(module)
    assert names
    undocumented = [name for name, thing in names if callable(thing) and not inspect.getdoc(thing)]
    assert not undocumented


@pytest.mark.parametrize("room", ["blocks", "models"])
def test_docstrings_of_tensor_code_give_shapes(room: str) -> None:
    module = importlib.import_module(f"transformer_zoo.{room}")
    silent = []
    for name, thing in public(module):
        if inspect.isclass(thing) or inspect.isfunction(thing):
            text = inspect.getdoc(thing) or ""
            if inspect.isclass(thing) and "forward" in vars(thing):
                text += inspect.getdoc(vars(thing)["forward"]) or ""
            if not SHAPE.search(text):
                silent.append(name)
    assert not silent


@pytest.mark.parametrize("name", ["Attention", "FeedForward", "RMSNorm", "LayerNorm", "SinusoidalPositions"])
def test_the_promised_blocks_are_there(name: str) -> None:
    from transformer_zoo import blocks

    assert name in blocks.__all__
    assert inspect.isclass(getattr(blocks, name))
