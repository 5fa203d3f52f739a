"""Every family is one graph for torch.export and for ONNX, with any batch and length, cached decoding included."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.export import Dim, export
from torch.testing import assert_close
from torch.utils._pytree import tree_leaves

from tests.zoo.huggingface import test_encoders
from tests.zoo.huggingface.models import TEXT_CASES, TRANSLATION_CASES, their_config
from transformer_zoo.config import EncoderConfig, TextsSpec, TokensSpec
from transformer_zoo.zoo import build
from transformer_zoo.zoo.families import FAMILIES

PAGE = Path(__file__).parents[2] / "docs" / "torch_export.md"
CASES = {**TEXT_CASES, **TRANSLATION_CASES, **test_encoders.CASES}
MOST = 29


def of_each_family() -> dict[str, Any]:
    """A small configuration of each."""
    found: dict[str, Any] = {}
    for name, fields in CASES.values():
        theirs = their_config(name, **fields).to_dict()
        if theirs["model_type"] not in found:
            found[theirs["model_type"]] = FAMILIES[theirs["model_type"]].read(theirs)
    labels = ("bad", "so so", "good")
    found["bert for texts"] = found["bert"].changed(head=TextsSpec(labels=labels))
    found["modernbert for tokens"] = found["modernbert"].changed(head=TokensSpec(labels=labels))
    return found


CONFIGS = of_each_family()
EVERY = [
    pytest.param(name, marks=[] if name in ("gpt2", "t5", "bert", "bert for texts") else pytest.mark.slow)
    for name in CONFIGS
]


def page() -> dict[str, Any]:
    """What the page defines in its first example."""
    body = re.search(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.S)
    names: dict[str, Any] = {}
    assert body is not None
    exec(body[1], names)
    return names


def ids(rows: int, width: int) -> Tensor:
    return torch.randint(20, 80, (rows, width))


def parts(model: Any) -> dict[str, tuple[Any, Any, Any]]:
    """What becomes a graph: modules, with inputs to look at and the sizes that are open."""
    names, batch, length = page(), Dim("batch", max=1024), Dim("source", max=MOST)
    real = torch.ones(2, 7, dtype=torch.bool)
    real[0, 5:] = False
    inputs, sizes = (ids(2, 7), real), ({0: batch, 1: length},) * 2
    if isinstance(model.config, EncoderConfig):
        return {"whole": (model, inputs, sizes)}
    found = {}
    if model.facts.has_source:
        begin = names["Begin"](model, 20)
        found["begin"], cache = (begin.eval(), inputs, sizes), begin.cache(*inputs)
    else:
        found["whole"], cache = (model, inputs, sizes), model.new_cache(2, 20, static=True)
    step, sizes = names["step_and_sizes"](model, cache, MOST)
    return {**found, "step": (step, (ids(2, 3), cache.tensors), sizes)}


@pytest.mark.parametrize("name", EVERY)
@torch.no_grad()
def test_a_graph(name: str) -> None:
    model = build(CONFIGS[name]).eval()
    graphs = {
        part: export(module, inputs, dynamic_shapes=sizes).module()
        for part, (module, inputs, sizes) in parts(model).items()
    }
    source, real, target = ids(3, 11), torch.ones(3, 11, dtype=torch.bool), ids(3, 5)
    real[1, 4:] = False
    if "whole" in graphs:
        got, wanted = graphs["whole"](source, real), model(source, real)
        of = real if got.dim() == 3 else slice(None)  # of texts
        assert_close(got[of], wanted[of], atol=1e-5, rtol=1e-4)
    if "step" not in graphs:
        return
    if "begin" in graphs:
        held, wanted = graphs["begin"](source, real), model(source, target, real)
    else:
        held, wanted = model.new_cache(3, 15, static=True).tensors, model(target)
    got = []
    for some in target.split([3, 1, 1], dim=1):
        logits, held = graphs["step"](some, held)
        got.append(logits)
    assert_close(torch.cat(got, 1), wanted, atol=1e-5, rtol=1e-4)


needs_onnx = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("onnxscript", "onnxruntime"))), reason="the extra `onnx` is not installed"
)


@needs_onnx
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_onnx(name: str, tmp_path: Path) -> None:
    import onnxruntime

    model = build(CONFIGS[name]).eval()
    for part, (module, inputs, sizes) in parts(model).items():
        program = torch.onnx.export(module, inputs, dynamic_shapes=sizes, dynamo=True, verbose=False)
        assert program is not None
        program.save(tmp_path / f"{part}.onnx")
        session = onnxruntime.InferenceSession(tmp_path / f"{part}.onnx")
        others = [leaf.repeat(2, *[1] * (leaf.dim() - 1)) if leaf.dim() else leaf for leaf in tree_leaves(inputs)]
        fed = {one.name: leaf.numpy() for one, leaf in zip(session.get_inputs(), others, strict=True)}
        wanted = tree_leaves(module(*(others if part != "step" else (others[0], others[1:]))))
        for got, want in zip(session.run(None, fed), wanted, strict=True):
            assert_close(torch.from_numpy(got), want, atol=1e-4, rtol=1e-3)
