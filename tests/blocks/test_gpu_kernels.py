"""The table of docs/gpu_work.md: which of torch's kernels attention takes on a GPU, by mask, dtype and head width."""

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.testing import assert_close

from transformer_zoo.blocks import attend, causal_mask

pytestmark = pytest.mark.gpu
B, T = 3, 37  # no multiple of 8, or of anything
FLASH, EFFICIENT = SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION
MASKS = ("none", "causal", "keys", "causal and keys", "bias", "bias and keys")


def expected_kernel(mask: str, dtype: torch.dtype, width: int) -> SDPBackend:
    """What takes it on every GPU since Ampere. On Hopper cuDNN comes first, for all that it takes."""
    return FLASH if mask in ("none", "causal") and dtype == torch.bfloat16 and width <= 256 else EFFICIENT


def arguments(mask: str) -> dict[str, Tensor | bool]:
    keys = torch.ones(B, 1, 1, T, dtype=torch.bool, device="cuda")
    keys[1:, ..., -9:] = False
    given: dict[str, Tensor | bool] = {"is_causal": mask == "causal"}
    if "keys" in mask:
        given["mask"] = keys & causal_mask(T, device=keys.device) if "causal" in mask else keys
    if "bias" in mask:
        given["bias"] = torch.randn(1, 6, T, T, device="cuda", requires_grad=True)
    return given


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("width", [10, 64, 128, 264])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("mask", MASKS)
def test_a_fused_kernel_takes_it(mask: str, dtype: torch.dtype, width: int, groups: int, dropout: float) -> None:
    """With no other allowed, forward and backward; without dropout it gives what the formula gives."""
    queries = torch.randn(B, 6, T, width, device="cuda", dtype=dtype, requires_grad=True)
    keys, values = (
        torch.randn(B, 6 // groups, T, width, device="cuda", dtype=dtype, requires_grad=True) for _ in range(2)
    )
    given = arguments(mask)
    inputs = [x for x in (queries, keys, values, given.get("bias")) if isinstance(x, Tensor)]
    with sdpa_kernel([expected_kernel(mask, dtype, width)]):
        out = attend(queries, keys, values, dropout=dropout, **given)  # type: ignore[arg-type]
        got = torch.autograd.grad(out.float().square().sum(), inputs)
    assert all(x.isfinite().all() for x in (out, *got))
    if dropout:
        return
    with sdpa_kernel([SDPBackend.MATH]):
        wanted = attend(queries, keys, values, **given)  # type: ignore[arg-type]
    near = {"rtol": 2e-2, "atol": 2e-2} if dtype == torch.bfloat16 else {"rtol": 1e-3, "atol": 1e-3}
    assert_close(out, wanted, **near)
