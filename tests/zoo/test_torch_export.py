"""Every family is one graph for torch.export and for ONNX, with any batch and length, cached decoding included."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram, export
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
Graph = Callable[..., list[Tensor]]


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
ALWAYS = ("gpt2", "t5", "bert", "bert for texts")
EVERY = [pytest.param(name, marks=[] if name in ALWAYS else pytest.mark.slow) for name in CONFIGS]


def page() -> dict[str, Any]:
    """What the page defines in its first example."""
    body = re.search(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.S)
    names: dict[str, Any] = {}
    assert body is not None
    exec(body[1], names)
    return names


def ids(rows: int, width: int) -> Tensor:
    return torch.randint(20, 80, (rows, width))


def programs(model: Any) -> dict[str, ExportedProgram]:
    """What becomes a graph: the whole model, or what reads a source; and a step."""
    names, batch, length = page(), Dim("batch", max=1024), Dim("source", max=MOST)
    real = torch.ones(2, 7, dtype=torch.bool)
    real[0, 5:] = False
    inputs, sizes = (ids(2, 7), real), ({0: batch, 1: length},) * 2
    if isinstance(model.config, EncoderConfig):
        return {"whole": export(model, inputs, dynamic_shapes=sizes)}
    found = {}
    if model.facts.has_source:
        begin = names["Begin"](model, 20).eval()
        found["begin"], cache = export(begin, inputs, dynamic_shapes=sizes), begin.cache(*inputs)
    else:
        found["whole"], cache = export(model, inputs, dynamic_shapes=sizes), model.new_cache(2, 20, static=True)
    step, sizes = names["step_and_sizes"](model, cache, MOST)
    return {**found, "step": export(step, (ids(2, 3), cache.tensors), dynamic_shapes=sizes)}


def by_torch(program: ExportedProgram) -> Graph:
    module = program.module()
    return lambda *inputs: tree_leaves(module(*inputs))


def by_onnx(program: ExportedProgram, path: Path) -> Graph:
    """In ONNX Runtime, from a file."""
    written = torch.onnx.export(program, dynamo=True, verbose=False)
    assert written is not None
    written.save(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options)

    def run(*inputs: Any) -> list[Tensor]:
        leaves = zip(session.get_inputs(), tree_leaves(inputs), strict=True)
        return [torch.from_numpy(found) for found in session.run(None, {one.name: x.numpy() for one, x in leaves})]

    return run


def check(model: Any, graphs: dict[str, Graph], **close: float) -> None:
    """Other batches and lengths than were looked at, some padded; a text token by token."""
    source, real, target = ids(3, 11), torch.ones(3, 11, dtype=torch.bool), ids(3, 5)
    real[1, 4:] = False
    if "whole" in graphs:
        [found], wanted = graphs["whole"](source, real), model(source, real)
        of = real if wanted.dim() == 3 else slice(None)  # of texts
        assert_close(found[of], wanted[of], **close)
    if "step" not in graphs:
        return
    if "begin" in graphs:
        held, wanted = graphs["begin"](source, real), model(source, target, real)
    else:
        held, wanted = model.new_cache(3, 15, static=True).tensors, model(target)
    got = []
    for some in target.split([3, 1, 1], dim=1):
        logits, *held = graphs["step"](some, held)
        got.append(logits)
    assert_close(torch.cat(got, 1), wanted, **close)


@pytest.mark.parametrize("name", EVERY)
@torch.no_grad()
def test_graphs(name: str, tmp_path: Path) -> None:
    model = build(CONFIGS[name]).eval()
    made = programs(model)
    check(model, {part: by_torch(program) for part, program in made.items()}, atol=1e-5, rtol=1e-4)
    in_onnx = {part: by_onnx(program, tmp_path / f"{part}.onnx") for part, program in made.items()}
    check(model, in_onnx, atol=1e-4, rtol=1e-3)


def test_every_family_is_here() -> None:
    assert CONFIGS.keys() >= FAMILIES.keys()
