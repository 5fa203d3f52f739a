"""Linear projections for writing on a CPU only: stored in another order, or rounded to 8 bits. They copy weights."""

import weakref
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer_zoo.errors import UserError
from transformer_zoo.kernels.derivatives import without_gradient
from transformer_zoo.kernels.int8 import VECTOR, int8_linear, int8_product, prepack
from transformer_zoo.kernels.projection import linear, pack_weight, packed_linear


class Source:
    """The weight that a packed or rounded copy was made from, and its state then. The copy is refused once that
    changes.

    The weight is not kept alive. Once nobody else holds it, it cannot change any more.
    """

    def __init__(self, weight: Tensor) -> None:
        self.weight = weakref.ref(weight)
        self.id, self.version, self.sample = id(weight), _version(weight), _sample(weight)

    def check(self, *, thorough: bool = False) -> None:
        """Check whether it has changed. torch counts what optimizers and `load_state_dict` do. `thorough` also compares
        some of its numbers, because torch does not count writes through `.data` or numpy.

        Raises:
            UserError: it has changed.
        """
        weight = self.weight()
        if weight is None:
            return
        if _version(weight) != self.version or (thorough and not _same(_sample(weight), self.sample)):
            raise UserError(
                "the weights have changed since this copy was made of them: pack or quantize the model again"
            )

    def is_of(self, other: "Source") -> bool:
        """Whether both were made from one weight in the same state."""
        return (self.id, self.version) == (other.id, other.version) and _same(self.sample, other.sample)


_SAMPLED = 256  # numbers of a weight


def _version(weight: Tensor) -> int:
    """How often it was written to, as far as torch counts."""
    return 0 if weight.is_inference() else weight._version


def _sample(weight: Tensor) -> Tensor:
    flat = weight.detach().flatten()
    return flat[:: max(flat.numel() // _SAMPLED, 1)].clone()


def _same(a: Tensor, b: Tensor) -> bool:
    """Equality in every bit."""
    alike = a.dtype == b.dtype and a.device == b.device
    return alike and torch.equal(a.view(torch.uint8), b.view(torch.uint8))


class PackedLinear(nn.Module):
    """`Linear` whose weight is stored in the order in which this CPU multiplies a few rows fastest. It is not a
    parameter.

    Shapes: (..., D) -> (..., E), in float32, from a weight (E, D) and a bias (E,).
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.source = Source(weight)
        self.weight, self.bias = pack_weight(weight.detach()), bias

    def forward(self, x: Tensor) -> Tensor:
        self.source.check()
        return packed_linear(x, self.weight, self.bias)

    def _save_to_state_dict(self, *args: Any, **options: Any) -> None:
        raise RuntimeError(_PACKED.format("saved"))

    def _load_from_state_dict(self, *args: Any, **options: Any) -> None:
        raise RuntimeError(_PACKED.format("loaded"))

    def _apply(self, *args: Any, **options: Any) -> Self:
        raise RuntimeError(_PACKED.format("moved or given another dtype"))


_PACKED = "a model with packed weights cannot be {}: do that before it is packed"


class Int8Linear(nn.Module):
    """`Linear` whose weight is rounded to 8 bits with a scale for each row: a quarter of the memory to read.

    Inputs are rounded too, to bfloat16. Outputs are within about 1 % of the linear's. It works on a CPU.

    Shapes: (..., D) -> (..., E), in float32, from a weight (E, D) and a bias (E,). `scale` is (E,); `weight` is padded
        to whole vectors. The given weight does not change; when its owner changes it later, this module refuses to be
        used.
    """

    weight: Tensor
    scale: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        _check_rounded(weight)
        self.source, self.bias = Source(weight), bias
        rounded, scale = _round(weight.detach())
        self.missing = -weight.size(1) % VECTOR
        self.register_buffer("weight", F.pad(rounded, (0, self.missing)))
        self.register_buffer("scale", scale.bfloat16())

    def forward(self, x: Tensor) -> Tensor:
        self.source.check()
        return without_gradient(self._product, x, _ROUNDED)

    def _product(self, x: Tensor) -> Tensor:
        if self.missing:
            x = F.pad(x, (0, self.missing))
        return int8_linear(x, self.weight, self.scale, self.bias)


class ScreenedLinear(nn.Module):
    """`Linear` for the largest output of each row: that one is exact, and less memory is read.

    The weight is rounded to 8 bits, w', which gives every output approximately: x w is at most |x| |w - w'| away from x
    w' (Cauchy-Schwarz inequality). The few outputs that may be the largest are computed again with w itself. The others
    stay approximate, and are smaller. If a few inputs are much larger than all others, many outputs may be the largest;
    then w - w' is multiplied too, also rounded to 8 bits. The rounding error of x is always multiplied, as more rows.

    Shapes: (..., D) -> (..., E), in float32, from a weight (E, D) and a bias (E,). It needs a CPU with `has_int8`; on
        others sums of products may overflow.
    """

    weight: Tensor
    coarse: Tensor
    coarse_scale: Tensor
    fine: Tensor
    fine_scale: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        _check_rounded(weight)
        self.source, self.bias = Source(weight), bias
        self.register_buffer("weight", weight.detach())
        rounded, coarse_scale = _round(self.weight)
        rest = self.weight - rounded * coarse_scale[:, None]  # (E, D)
        rounded_rest, fine_scale = _round(rest)
        tensors = {"coarse": prepack(rounded), "coarse_scale": coarse_scale}
        for name, tensor in (tensors | {"fine": prepack(rounded_rest), "fine_scale": fine_scale}).items():
            self.register_buffer(name, tensor)
        self.longest = float(self.weight.norm(dim=1).max())
        self.longest_rest = float(rest.norm(dim=1).max())
        self.last_step = float(fine_scale.max())

    def forward(self, x: Tensor) -> Tensor:
        self.source.check()
        return without_gradient(self._product, x, _ROUNDED)

    def _product(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.size(-1))  # (N, D)
        n = len(rows)
        if not n:
            return linear(x, self.weight, self.bias)
        step = _step_of(rows)
        rest = rows - (rows * (1 / step)).round_() * step
        both = int8_product(torch.cat([rows, rest * _FINER]), step, self.coarse, self.coarse_scale)  # (2 N, E)
        out = both[:n].add_(both[n:], alpha=1 / _FINER)
        if self.bias is not None:
            out += self.bias
        length, half = rows.norm(dim=1), rows.size(1) ** 0.5 / 2
        # The part of x that rounding loses, and what float32 loses in any sum.
        slack = half * step / _FINER * (self.longest + self.longest_rest) + 1e-5 * length * self.longest  # (N,)
        if not self._sharpen(out, rows, length * self.longest_rest + slack):
            out += int8_product(rows, step, self.fine, self.fine_scale)
            slack += length * half * self.last_step
            if not self._sharpen(out, rows, rest.norm(dim=1) * self.longest_rest + slack):
                return linear(x, self.weight, self.bias)
        return out.view(*x.shape[:-1], -1)

    def _sharpen(self, out: Tensor, rows: Tensor, doubt: Tensor) -> bool:
        """Correct the outputs that may be the largest in each row of out (N, E), which is wrong by at most `doubt`
        (N,).

        False: there are too many of them for this to be worthwhile.
        """
        n, e = out.shape
        top = out.amax(1)
        place = (out >= (top - 2 * doubt)[:, None]).flatten().nonzero()[:, 0]
        if len(place) > _MANY * n:
            return False
        row, column = place // e, place % e
        value = out[row, column]
        first = value == top[row]
        floor = torch.full_like(top, -torch.inf)  # the largest is at least that
        floor.scatter_reduce_(0, row[first], self._exact(rows, row[first], column[first]), "amax")
        may = value + doubt[row] >= floor[row]
        row, column = row[may], column[may]
        if len(row) > _FEW * n:
            return False
        out[row, column] = self._exact(rows, row, column)
        return True

    def _exact(self, rows: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Single outputs, (M,): those of rows[row] in these columns."""
        exact = (rows[row] * self.weight[column]).sum(1)
        return exact if self.bias is None else exact + self.bias[column]


def _round(weight: Tensor) -> tuple[Tensor, Tensor]:
    """The weight (E, D) in 8 bits, and the factor of each row, (E,)."""
    scale = (weight.abs().amax(1) / _INT8_MAX).clamp_min(_TINY)
    return (weight / scale[:, None]).round_().to(torch.int8), scale


def _check_rounded(weight: Tensor) -> None:
    if weight.is_mkldnn or weight.dim() != 2 or weight.dtype != torch.float32 or weight.device.type != "cpu":
        raise ValueError(
            f"{tuple(weight.shape)} of {weight.dtype} on {weight.device} cannot be rounded: expected a weight (E, D) "
            "in float32 on a CPU, not packed"
        )


def _step_of(x: Tensor) -> float:
    return max(x.abs().amax().item() / _INT8_MAX, _TINY)


_INT8_MAX = 127
_ROUNDED = "what quantize made"
_FINER = 2 * _INT8_MAX  # times finer than x are the rows with what rounding x left over
_MANY, _FEW = 1024, 64  # outputs of a row that may be the largest, at the first look and the second
_TINY = torch.finfo(torch.float32).tiny
