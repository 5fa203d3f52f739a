"""Muon: orthogonal updates of Adam's size."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from transformer_zoo.training import muon as module
from transformer_zoo.training.config import OptimizerConfig
from transformer_zoo.training.muon import NS_STEPS, Muon, orthogonalize
from transformer_zoo.training.optimizer import make_optimizer, muon_matrices
from transformer_zoo.zoo import create_model


@pytest.mark.parametrize("shape", [(7, 13), (13, 7), (11, 11)])
def test_orthogonalized_matrices_keep_their_singular_vectors(shape: tuple[int, int]) -> None:
    matrices = torch.randn(3, *shape)
    u, s, vt = torch.linalg.svd(matrices, full_matrices=False)
    found = u.mT @ orthogonalize(matrices) @ vt.mT  # (3, R, R), the new singular values on the diagonal
    values = found.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(found, torch.diag_embed(values), atol=1e-3, rtol=0)
    large = s / s.norm(dim=1, keepdim=True) > 0.03  # smaller ones need more iterations
    assert (values[large] > 0.6).all()
    assert (values < 1.3).all()


def test_a_step_has_the_size_of_an_adam_step() -> None:
    p = nn.Parameter(torch.zeros(64, 256))
    p.grad = torch.randn_like(p) * 1e-3
    Muon([p], lr=0.1).step()
    assert p.detach().square().mean().sqrt().item() == pytest.approx(0.1 * 0.2, rel=0.2)


def test_the_same_matrices_alone_or_together() -> None:
    alone, together = ([nn.Parameter(torch.ones(5, 7)) for _ in range(2)] for _ in range(2))
    gradients = torch.randn(2, 5, 7)
    for group in (alone, together):
        for p, gradient in zip(group, gradients, strict=True):
            p.grad = gradient.clone()
    for optimizer in (Muon([alone[0]], lr=0.1), Muon([alone[1]], lr=0.1), Muon(together, lr=0.1)):
        optimizer.step()
    for a, b in zip(alone, together, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("ns_steps", [3, 5])
def test_direction_is_that_of_torchs_own(ns_steps: int) -> None:
    ours, theirs = (nn.Parameter(torch.zeros(32, 48)) for _ in range(2))
    first = Muon([ours], lr=0.1, ns_steps=ns_steps)
    second = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.0, adjust_lr_fn="match_rms_adamw", ns_steps=ns_steps)
    for _ in range(3):
        gradient = torch.randn(32, 48)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        first.step()
        second.step()
    assert torch.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.99  # theirs is in bfloat16
    torch.testing.assert_close(ours.norm(), theirs.norm(), rtol=0.02, atol=0)


def test_matrices_of_the_layers_go_to_muon_and_nothing_else() -> None:
    model = create_model("transformer-tiny", vocab_size=11)
    muon, adam = make_optimizer(model, OptimizerConfig(name="muon"), lr=1e-3).parts
    names = {id(p): name for name, p in model.named_parameters()}
    to_muon = {names[id(p)] for group in muon.param_groups for p in group["params"]}
    to_adam = {names[id(p)] for group in adam.param_groups for p in group["params"]}
    assert to_muon == {name for name in names.values() if name.endswith("_proj.weight")}
    assert to_muon | to_adam == set(names.values())
    assert not to_muon & to_adam


def test_state_goes_on() -> None:
    model, again = (create_model("transformer-tiny", vocab_size=11, n_encoder_layers=1) for _ in range(2))
    again.load_state_dict(model.state_dict())
    first, second = (make_optimizer(m, OptimizerConfig(name="muon"), lr=1e-3) for m in (model, again))
    source, target = torch.tensor([[5, 6, 3]]), torch.tensor([[2, 7]])
    model(source, target).logsumexp(-1).sum().backward()
    first.step()
    again.load_state_dict(model.state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for optimizer, m in ((first, model), (second, again)):
        m.zero_grad()
        m.eval()(source, target).logsumexp(-1).sum().backward()
        optimizer.step()
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


class Products(TorchDispatchMode):
    """The shapes of all batched products."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in (torch.ops.aten.bmm.default, torch.ops.aten.baddbmm.default):
            self.shapes.append(tuple(out.shape))
        return out


@pytest.mark.parametrize("preset", ["gpt-nano", "gpt-modern", "llama-3.2-1b", "transformer-tiny"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("at_once", [1, 5000, 1 << 26])
def test_one_chain_of_products_for_each_shape_of_matrix(
    preset: str, dtype: torch.dtype, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: dict[str, Any] = {"vocab_size": 11, "d_model": 24, "n_heads": 4, "d_ff": 40}
    if "llama" in preset:
        sizes |= {"n_kv_heads": 2, "head_dim": 6}
    layers = ("n_encoder_layers", "n_decoder_layers") if "transformer" in preset else ("n_layers",)
    model = create_model(preset, **sizes, **{name: 3 for name in layers})
    matrices = muon_matrices(model)
    start = [p.detach().clone() for p in matrices]
    for p in matrices:
        p.grad = torch.randn_like(p)

    def step(*groups: list[nn.Parameter]) -> list[torch.Tensor]:
        """What becomes of the matrices, each group with an optimizer of its own."""
        for p, value in zip(matrices, start, strict=True):
            p.detach().copy_(value)
        for group in groups:
            Muon(group, lr=0.1, dtype=dtype, weight_decay=0.1).step()
        return [p.detach().clone() for p in matrices]

    alone = step(*([p] for p in matrices))
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    with Products() as products:
        together = step(matrices)
    for ours, theirs in zip(together, alone, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6 if dtype == torch.float32 else 1e-3)
    assert all(math.prod(shape) <= max(at_once, 40 * 40) for shape in products.shapes)
    if at_once > 5000:
        assert len(products.shapes) == 3 * NS_STEPS * len({p.shape for p in matrices})
