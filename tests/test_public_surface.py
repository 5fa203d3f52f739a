"""What people may import, and that it says what it takes and gives."""

import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import transformer_zoo as tz

# A shape as the docstrings write it: (B, T, D), (B,H,Tq,Tk), (N,), (..., V).
SHAPE = re.compile(r"\((?:\.\.\.|…|[A-Z1-9]\w*)(?:\s*[·*]\s*\w+)?\s*,(?:\s*[\w.·*…+ -]+,?)*\)")


def public(room: str) -> list[tuple[str, object]]:
    module = importlib.import_module(f"transformer_zoo.{room}")
    return [(name, getattr(module, name)) for name in module.__all__]


def test_the_front_door() -> None:
    assert {"list_models", "get_config", "create_model", "load_run"} <= set(tz.__all__)
    for name in tz.__all__:
        assert getattr(tz, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        tz.no_such_name  # noqa: B018


def test_what_there_is_can_be_looked_up(root: Path) -> None:
    rooms = {path.stem for path in (root / "transformer_zoo").iterdir() if path.suffix in ("", ".py")}
    rooms -= {"__init__", "__main__", "__pycache__"}
    assert set(dir(tz)) == {*tz.__all__, *rooms, "__version__"}
    code = (
        "import sys, transformer_zoo as tz; shown = dir(tz); assert 'torch' not in sys.modules\n"
        f"for room in {sorted(rooms)}: assert getattr(tz, room).__name__ == 'transformer_zoo.' + room\n"
        "for name in shown: getattr(tz, name)\n"
        "assert 'Attention' in dir(tz.blocks) and callable(tz.training.loss.linear_cross_entropy)"
    )
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(root)}, check=True)
    assert "loss" in dir(tz.training)
    with pytest.raises(AttributeError, match="no_such_name"):
        tz.training.no_such_name  # noqa: B018


@pytest.mark.parametrize("room", ["blocks", "models", "tokenizers", "zoo", "inference", "data", "evaluation"])
def test_public_names_can_be_imported_and_are_documented(room: str) -> None:
    names = public(room)
    assert names
    undocumented = [name for name, thing in names if callable(thing) and not inspect.getdoc(thing)]
    assert not undocumented


def handles_tensors(thing: object) -> bool:
    """A layer, or a function that says so in its annotations."""
    if inspect.isclass(thing):
        return "forward" in vars(thing)
    annotations = inspect.get_annotations(thing) if inspect.isfunction(thing) else {}
    return any("Tensor" in str(annotation) for annotation in annotations.values())


def gives_shapes(thing: object) -> bool:
    text = inspect.getdoc(thing) or ""
    if inspect.isclass(thing):
        text += inspect.getdoc(vars(thing)["forward"]) or ""
    return bool(SHAPE.search(text)) or "any shape" in text or "Shapes" in text


@pytest.mark.parametrize("room", ["blocks", "models"])
def test_docstrings_of_tensor_code_give_shapes(room: str) -> None:
    tensor_code = [(name, thing) for name, thing in public(room) if handles_tensors(thing)]
    assert tensor_code
    assert [name for name, thing in tensor_code if not gives_shapes(thing)] == []


def test_the_shape_check_can_fail() -> None:
    class Silent:
        """A layer."""

        def forward(self, x: object) -> object:
            """x in, x out (really)."""
            return x

    assert handles_tensors(Silent)
    assert not gives_shapes(Silent)


@pytest.mark.parametrize("name", ["Attention", "FeedForward", "RMSNorm", "LayerNorm", "SinusoidalPositions"])
def test_the_promised_blocks_are_there(name: str) -> None:
    from transformer_zoo import blocks

    assert name in blocks.__all__
    assert inspect.isclass(getattr(blocks, name))
