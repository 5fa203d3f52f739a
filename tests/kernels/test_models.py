"""Whole models give with their kernels what they give with the formulas alone: logits and every gradient."""

from collections import Counter

import pytest
import torch
from torch import Tensor, nn

from tests.models.helpers import GPT_VARIANTS, VARIANTS, real, small_gpt, small_model
from tests.zoo.huggingface.models import TEXT_CASES, TRANSLATION_CASES, their_config
from transformer_zoo import kernels
from transformer_zoo.models import DecoderOnly, EncoderDecoder
from transformer_zoo.zoo.families import FAMILIES

B, T = 3, 5
LENGTHS = [5, 2, 4]
NAMES = [
    *(f"gpt, {name}" for name in GPT_VARIANTS),
    *(f"translation, {name}" for name in VARIANTS),
    *(f"family, {name}" for name in (TEXT_CASES | TRANSLATION_CASES)),
]
# Relative to the norm: differences as kernels of a dozen operations, one after the other, may have.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.03}


def build(name: str, *, all_experts: bool = False) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A small model, random in every weight, and what it is called with; some of it is padding.

    all_experts: a mixture has no more than it takes for a token: rounded otherwise, its router would take others.
    """
    kind, _, variant = name.partition(", ")
    if kind == "gpt":
        model: nn.Module = small_gpt(**GPT_VARIANTS[variant])
    elif kind == "translation":
        model = small_model(**VARIANTS[variant])
    else:
        family, fields = (TEXT_CASES | TRANSLATION_CASES)[variant]
        if all_experts and "num_local_experts" in fields:
            fields = {**fields, "num_experts_per_tok": fields["num_local_experts"]}
        theirs = their_config(family, **fields)
        config = FAMILIES[theirs.model_type].read(theirs.to_dict())
        model = (DecoderOnly if variant in TEXT_CASES else EncoderDecoder)(config).eval()
        with torch.no_grad():
            for weight in model.parameters():
                weight += 0.1 * torch.randn_like(weight)
    ids = torch.randint(12, 19, (B, T))
    if isinstance(model, DecoderOnly):
        return model, (ids, real(LENGTHS))
    return model, (torch.randint(12, 19, (B, T + 1)), ids, real([4, 6, 1]), real(LENGTHS))


def results(model: nn.Module, given: tuple[Tensor, ...], dtype: torch.dtype) -> dict[str, Tensor]:
    """Logits of real tokens, and the gradients of a loss."""
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        logits = model(*given)[given[-1]]
    weights = dict(model.named_parameters())
    loss = (logits.float().log_softmax(-1)[:, ::3]).sum()
    grads = torch.autograd.grad(loss, [*weights.values()], allow_unused=True, materialize_grads=True)
    return {"logits": logits.float().detach()} | dict(zip(weights, grads, strict=True))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_what_its_formulas_make_it(name: str, dtype: torch.dtype) -> None:
    far, allowed = Counter[str](), Counter[str]()
    for _ in range(3 if dtype == torch.bfloat16 else 1):  # of one model rounding may happen to be small
        model, given = build(name, all_experts=dtype == torch.bfloat16)
        with kernels.plain():
            wanted, exact = (results(model, given, kind) for kind in (dtype, torch.float32))
        got = results(model, given, dtype)
        length = torch.stack([x.norm() for key, x in exact.items() if key != "logits"]).norm()
        assert length > 0
        for key, truth in exact.items():
            scale = truth.norm() + (0 if key == "logits" else 0.01 * length)  # next to nothing is mostly rounding
            rounding = (wanted[key] - truth).norm()  # in 16 bits a random model makes much of a little
            far[key] += float((got[key] - truth).norm())
            allowed[key] += float(2 * rounding + TOLERANCE[dtype] * scale)
    assert not [key for key in far if not far[key] <= allowed[key]]


def test_formulas_and_kernels_differ_somewhere() -> None:
    """Or nothing would be compared here."""
    model, given = build("gpt, grouped")
    with kernels.plain():
        wanted = results(model, given, torch.float32)
    got = results(model, given, torch.float32)
    assert any(not torch.equal(got[key], wanted[key]) for key in wanted)
