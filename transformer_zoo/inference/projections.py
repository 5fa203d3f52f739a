"""Linear projections for writing on a CPU alone: laid out anew, or rounded to 8 bits. They are copies of weights."""

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
    """The weight that a packed or rounded copy was made of, and how it was then: the copy refuses to outlive it.

    The weight is not kept alive. Once nobody else has it, it cannot change any more.
    """

    def __init__(self, weight: Tensor) -> None:
        self.weight = weakref.ref(weight)
        self.id, self.version, self.sample = id(weight), _version(weight), _sample(weight)

    def check(self, *, thorough: bool = False) -> None:
        """Has it changed? What optimizers and `load_state_dict` do is counted by torch; `thorough` is a look at some of
        its numbers too, as what is written through `.data` or numpy is not.

        Raises:
            UserError: it has.
        """
        weight = self.weight()
        if weight is None:
            return
        if _version(weight) != self.version or (thorough and not _same(_sample(weight), self.sample)):
            raise UserError(
                "the weights have changed since this copy was made of them: pack or quantize the model again"
            )

    def is_of(self, other: "Source") -> bool:
        """Whether both are of one weight, as it was at one time."""
        return (self.id, self.version) == (other.id, other.version) and _same(self.sample, other.sample)


_SAMPLED = 256  # numbers of a weight


def _version(weight: Tensor) -> int:
    """How often it was written to, as far as torch counts."""
    return 0 if weight.is_inference() else weight._version


def _sample(weight: Tensor) -> Tensor:
    flat = weight.detach().flatten()
    return flat[:: max(flat.numel() // _SAMPLED, 1)].clone()


def _same(a: Tensor, b: Tensor) -> bool:
    """In every bit."""
    alike = a.dtype == b.dtype and a.device == b.device
    return alike and torch.equal(a.view(torch.uint8), b.view(torch.uint8))


class PackedLinear(nn.Module):
    """`Linear` with its weight in the order in which this CPU multiplies a few rows fastest: no parameter any more.

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
    """`Linear` with its weight rounded to 8 bits, by a scale for each row: a quarter of the memory to read.

    Inputs are rounded too, to bfloat16. What comes out is within about 1 % of the linear's. On a CPU.

    Shapes: (..., D) -> (..., E), in float32, from a weight (E, D) and a bias (E,). `scale` (E,); `weight` is filled up
    to whole vectors. The weight that was given stays as it is; when it has changed since, this refuses to be used.
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
    """`Linear` where only the largest output of a row is wanted: that one is exact, for less reading.

    The weight is rounded to 8 bits, w', which gives every output nearly: x w is at most |x| |w - w'| from x w', by the
    inequality of Cauchy and Schwarz. The few that may be the largest are multiplied out with w itself; the others stay
    as they are, and smaller. Where a few inputs dwarf all others these are not few: then w - w' is multiplied too,
    rounded to 8 bits as well. Of x, what rounding leaves over is always multiplied, as more rows.

    Shapes: (..., D) -> (..., E), in float32, from a weight (E, D) and a bias (E,). On a CPU with `has_int8`: on others
    sums of products may overflow.
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
        # What was rounded away of x for good, and what float32 takes from any sum.
        slack = half * step / _FINER * (self.longest + self.longest_rest) + 1e-5 * length * self.longest  # (N,)
        if not self._sharpen(out, rows, length * self.longest_rest + slack):
            out += int8_product(rows, step, self.fine, self.fine_scale)
            slack += length * half * self.last_step
            if not self._sharpen(out, rows, rest.norm(dim=1) * self.longest_rest + slack):
                return linear(x, self.weight, self.bias)
        return out.view(*x.shape[:-1], -1)

    def _sharpen(self, out: Tensor, rows: Tensor, doubt: Tensor) -> bool:
        """Put right what may be the largest of each row of out (N, E), which is wrong by `doubt` (N,) at most.

        False: that is too much to be worth it.
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
        """Single outputs, (M,): of rows[row] in these columns."""
        exact = (rows[row] * self.weight[column]).sum(1)
        return exact if self.bias is None else exact + self.bias[column]


def _round(weight: Tensor) -> tuple[Tensor, Tensor]:
    """The weight (E, D) in 8 bits, and what its rows are to be multiplied by, (E,)."""
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
