"""Blocks instead of masks: FlexAttention gives what the mask gives, in a whole model, with its gradients."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.testing import assert_close

from tests.models.helpers import GPT_VARIANTS, small_gpt
from transformer_zoo.blocks import causal_mask, combine_masks, view, window_mask
from transformer_zoo.kernels.attention import causal_blocks, document_mask, fit_kernels
from transformer_zoo.models import DecoderOnly

# Torch's own, of its compiler.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*torch.jit:DeprecationWarning", "ignore:.*should not be instantiated:DeprecationWarning"
)
B, T = 3, 11
IDS = torch.randint(53, (B, T), generator=torch.Generator().manual_seed(0))
DOCUMENTS = torch.tensor([[0] * 4 + [1] * 7, [0] * 11, [0, 1, 1, 2, 2, 2, 2, 3, 4, 4, 4]])


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Compiled models take blocks on a CPU too, where FlexAttention has a gradient only if it is not asked first."""
    from torch.nn.attention import flex_attention

    asked: list[bool] = []

    def wanted(x: Tensor, head_dim: int) -> bool:
        asked.append(torch.compiler.is_compiling())
        return asked[-1]

    monkeypatch.setattr(view, "blocks_are_wanted", wanted)
    monkeypatch.setattr(flex_attention, "_validate_device", lambda *tensors: None)
    torch.compiler.reset()
    yield asked
    torch.compiler.reset()


def gradients(model: DecoderOnly, hidden: Any, documents: Tensor | None) -> list[Tensor]:
    out = hidden(IDS, documents=documents)
    loss = (out * torch.linspace(0.5, 1.5, out.numel()).view_as(out)).sum()
    found = torch.autograd.grad(loss, [*model.parameters()], allow_unused=True, materialize_grads=True)
    return [out.detach(), *(x.to_dense() for x in found)]


CASES = [
    ("alternating", True),
    *(
        pytest.param(name, packed, marks=pytest.mark.slow)
        for name in ("gpt2", "grouped", "capped", "windowed", "alternating", "alibi", "n-grams")
        for packed in (True, False)
        if (name, packed) != ("alternating", True)
    ),
]


@pytest.mark.parametrize(("name", "packed"), CASES)
def test_a_compiled_model_by_blocks_is_the_masked_one(name: str, packed: bool, taken: list[bool]) -> None:
    model = small_gpt(**GPT_VARIANTS[name], dropout=0.0, attention_dropout=0.0).train()
    documents = DOCUMENTS if packed else None
    wanted = gradients(model, model.hidden, documents)
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model.hidden, backend=counter, fullgraph=True)
    assert_close(gradients(model, compiled, documents), wanted, rtol=1e-4, atol=1e-4)
    flexible = sum("flex_attention" in str(node.target) for g in counter.graphs for node in g.graph.nodes)
    masked = name == "alibi" or (name in ("gpt2", "grouped", "n-grams") and not packed)
    assert flexible == (0 if masked else 1 if name == "alternating" and not packed else 2)  # layers
    assert taken[:1] == ([False] if flexible else [])  # without compiling
    assert taken[-1:] == ([True] if flexible else [])


@pytest.mark.slow
def test_layers_that_are_computed_again_take_blocks_too(taken: list[bool]) -> None:
    model = small_gpt(**GPT_VARIANTS["windowed"], dropout=0.0, attention_dropout=0.0).train()
    wanted = gradients(model, model.hidden, DOCUMENTS)
    model.decoder.recompute = True
    compiled = torch.compile(model.hidden, backend="aot_eager", fullgraph=True)
    assert_close(gradients(model, compiled, DOCUMENTS), wanted, rtol=1e-4, atol=1e-4)
    assert taken[-1] is True


@pytest.mark.parametrize("window", [None, 1, 3, 40])
@pytest.mark.parametrize("packed", [True, False])
def test_blocks_are_the_mask(packed: bool, window: int | None) -> None:
    """Score by score, over more than one block of 128."""
    n = 150
    documents = torch.arange(n).expand(2, n) // torch.tensor([[7], [90]]) if packed else None
    blocks = causal_blocks(torch.empty(2, n, 1), documents, window)
    places = torch.arange(n)
    near = None if window is None else window_mask(places, places, window)
    wanted = combine_masks(causal_mask(n), near, None if documents is None else document_mask(documents))
    assert wanted is not None
    batch = torch.arange(2)[:, None, None]
    got = blocks.mask.mask_mod(batch, batch * 0, places[:, None], places)
    assert torch.equal(got.expand(2, n, n), wanted.expand(2, 1, n, n)[:, 0])
    tiles = torch.nn.functional.pad(wanted.expand(2, 1, n, n), (0, 256 - n, 0, 256 - n)).unflatten(2, (2, 128))
    some = tiles.unflatten(-1, (2, 128)).any(-1).any(3)  # (2, 1, 2, 2)
    assert torch.equal(blocks.mask.to_dense().bool().expand(2, 1, 2, 2), some)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("width", [3, 8, 10, 264])
def test_what_kernels_take_attends_to_the_same(width: int, groups: int, dtype: torch.dtype, masked: bool) -> None:
    queries = torch.randn(2, 4, 5, width, dtype=dtype)
    keys, values = torch.randn(2, 2, 4 // groups, 5, width, dtype=dtype).unbind()
    mask = torch.rand(5, 5) < 0.7 if masked else None
    if mask is not None:
        mask.fill_diagonal_(True)
    attend = torch.nn.functional.scaled_dot_product_attention
    wanted = attend(queries, keys, values, attn_mask=mask, enable_gqa=True)
    fitted = fit_kernels(queries, keys, values, masked=masked)
    got = attend(*fitted, attn_mask=mask, scale=width**-0.5, enable_gqa=True)[..., :width]
    assert_close(got, wanted)
    assert all(x.size(-1) % 8 == 0 for x in fitted)
    flash = dtype == torch.bfloat16 and not masked and width <= 256
    assert fitted[1].size(1) == (4 // groups if flash else 4)


@pytest.mark.gpu
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("name", ["gpt2", "grouped", "capped", "windowed", "alternating"])
def test_a_gpu_by_blocks_gives_what_it_gives_by_masks(name: str, packed: bool) -> None:
    """FlexAttention's own kernels, over more than one block, and a last one that is not full."""
    wide = {"d_model": 96, "max_seq_len": 300, "head_dim": 24, "dropout": 0.0, "attention_dropout": 0.0}
    model = small_gpt(**GPT_VARIANTS[name] | wide).cuda().train()
    ids = torch.randint(53, (2, 300), device="cuda")
    documents = torch.arange(300, device="cuda").expand(2, 300) // 130 if packed else None
    torch.compiler.reset()
    outs = []
    for hidden in (model.hidden, torch.compile(model.hidden, fullgraph=True)):
        out = hidden(ids, documents=documents)
        outs.append((out, *torch.autograd.grad(out.square().sum(), [*model.parameters()], allow_unused=True)))
    for mine, theirs in zip(*outs, strict=True):
        if theirs is not None:
            assert (mine - theirs).norm() <= 1e-2 * theirs.norm() + 1e-3
