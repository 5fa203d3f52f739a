"""Linear projections on a CPU from weights rounded to 8 bits: less memory to read."""

from typing import Any

import torch
from torch import Tensor, nn

from transformer_zoo.blocks.arguments import check_flags
from transformer_zoo.blocks.linear import Linear, Source, linear
from transformer_zoo.kernels.derivatives import without_gradient


class Int8Linear(nn.Module):
    """`Linear` with its weight rounded to 8 bits, by a scale for each row: a quarter of the memory to read.

    Inputs are rounded too, to bfloat16, or of a large weight to 8 bits by one scale for all of them. What comes out is
    within about 1 % of the linear's. On a CPU.

    Shapes: (..., D) -> (..., E), in float32. `weight` (E, D), `scale` (E,); the linear's bias.

    Args:
        linear: what is rounded; it stays as it is. When it has changed since, this refuses to be used.
        large: whether oneDNN multiplies, as it does for a large weight; None: as the weight is.
    """

    weight: Tensor
    scale: Tensor
    zero: Tensor | None

    def __init__(self, linear: nn.Linear, *, large: bool | None = None) -> None:
        super().__init__()
        _check_rounded(linear)
        check_flags(large=large, optional=True)
        self.source = Source(linear.weight)
        weight = linear.weight.detach()
        scale = (weight.abs().amax(1) / _INT8_MAX).clamp_min(_TINY)  # (E,)
        rounded = (weight / scale[:, None]).round_().to(torch.int8)
        # oneDNN reads faster, but takes long to begin; torch's own kernel takes inputs of whole vectors only.
        if large is None:
            large = weight.numel() > _LARGE or weight.size(1) % 32 != 0
        self.register_buffer("weight", torch.ops.onednn.qlinear_prepack(rounded, None) if large else rounded)
        self.register_buffer("scale", scale if large else scale.bfloat16())
        self.register_buffer("zero", torch.zeros_like(scale, dtype=torch.int32) if large else None)
        self.bias = linear.bias

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """bias (E,): in place of its own."""
        self.source.check()
        given = self.bias if bias is None else bias
        return without_gradient(lambda x: self._forward(x, given), x, _ROUNDED)

    def _forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        if self.zero is not None:
            return self.multiply(x, _scale_of(x), bias)
        rows = x.reshape(-1, x.size(-1)).bfloat16()
        out = torch._weight_int8pack_mm(rows, self.weight, self.scale).float().view(*x.shape[:-1], -1)
        return out if bias is None else out + bias

    def multiply(self, x: Tensor, scale: float, bias: Tensor | None) -> Tensor:
        """`forward` of a large weight, with x rounded to multiples of the scale, of which 127 are the most."""
        rounded = (x * (1 / scale)).round_().add_(128).to(torch.uint8)  # oneDNN is 100 times slower with int8
        return torch.ops.onednn.qlinear_pointwise(  # type: ignore[no-any-return]
            rounded, scale, 128, self.weight, self.scale, self.zero, bias, 1.0, 0, torch.float32, "none", [], ""
        )


class ScreenedLinear(nn.Module):
    """`Linear` where only the largest output of a row is wanted: that one is exact, for less reading.

    The weight is rounded to 8 bits, w', which gives every output nearly: x w is at most |x| |w - w'| from x w', by the
    inequality of Cauchy and Schwarz. The few that may be the largest are multiplied out with w itself; the others stay
    as they are, and smaller. Where a few inputs dwarf all others these are not few: then w - w' is multiplied too,
    rounded to 8 bits as well. Of x, what rounding leaves over is always multiplied, as more rows.

    Shapes: (..., D) -> (..., E), in float32. On a CPU with `cpu_has_int8`: on others sums of products may overflow.
    """

    weight: Tensor  # (E, D)

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        _check_rounded(linear)
        self.source = Source(linear.weight)
        self.register_buffer("weight", linear.weight.detach())
        self.bias = linear.bias
        self.coarse = Int8Linear(linear, large=True)
        scale = self.coarse.scale[:, None]
        rest = self.weight - (self.weight / scale).round_() * scale  # (E, D)
        self.fine = Int8Linear(Linear.of(rest), large=True)
        self.longest = float(self.weight.norm(dim=1).max())
        self.longest_rest = float(rest.norm(dim=1).max())
        self.last_step = float(self.fine.scale.max())

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """bias (E,): in place of its own."""
        self.source.check()
        given = self.bias if bias is None else bias
        return without_gradient(lambda x: self._forward(x, given), x, _ROUNDED)

    def _forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        rows = x.reshape(-1, x.size(-1))  # (N, D)
        n = len(rows)
        if not n:
            return linear(x, self.weight, bias)
        scale = _scale_of(rows)
        rest = rows - (rows * (1 / scale)).round_() * scale
        both = self.coarse.multiply(torch.cat([rows, rest * _FINER]), scale, None)  # (2 N, E)
        out = both[:n].add_(both[n:], alpha=1 / _FINER)
        if bias is not None:
            out += bias
        length, half = rows.norm(dim=1), rows.size(1) ** 0.5 / 2
        # What was rounded away of x for good, and what float32 takes from any sum.
        slack = half * scale / _FINER * (self.longest + self.longest_rest) + 1e-5 * length * self.longest  # (N,)
        if not self._sharpen(out, rows, bias, length * self.longest_rest + slack):
            out += self.fine.multiply(rows, scale, None)
            slack += length * half * self.last_step
            if not self._sharpen(out, rows, bias, rest.norm(dim=1) * self.longest_rest + slack):
                return linear(x, self.weight, bias)
        return out.view(*x.shape[:-1], -1)

    def _sharpen(self, out: Tensor, rows: Tensor, bias: Tensor | None, doubt: Tensor) -> bool:
        """Put right what may be the largest of each row of out (N, E), which is wrong by `doubt` (N,) at most.

        False: that is too much to be worth it.
        """
        n, e = out.shape

        def multiply(row: Tensor, column: Tensor) -> Tensor:
            exact = (rows[row] * self.weight[column]).sum(1)
            return exact if bias is None else exact + bias[column]

        top = out.amax(1)
        place = (out >= (top - 2 * doubt)[:, None]).flatten().nonzero()[:, 0]
        if len(place) > _MANY * n:
            return False
        row, column = place // e, place % e
        value = out[row, column]
        first = value == top[row]
        floor = torch.full_like(top, -torch.inf)  # the largest is at least that
        floor.scatter_reduce_(0, row[first], multiply(row[first], column[first]), "amax")
        may = value + doubt[row] >= floor[row]
        row, column = row[may], column[may]
        if len(row) > _FEW * n:
            return False
        out[row, column] = multiply(row, column)
        return True


def _check_rounded(linear: Any) -> None:
    is_plain = isinstance(linear, nn.Linear) and not linear.weight.is_mkldnn
    if not is_plain or linear.weight.dtype != torch.float32 or linear.weight.device.type != "cpu":
        raise ValueError(f"{linear!r} cannot be rounded: expected a linear layer in float32 on a CPU, not packed")


def _scale_of(x: Tensor) -> float:
    return max(x.abs().amax().item() / _INT8_MAX, _TINY)


_INT8_MAX = 127
_ROUNDED = "what quantize made"
_FINER = 2 * _INT8_MAX  # times finer than x are the rows with what rounding x left over
_LARGE = 1 << 21
_MANY, _FEW = 1024, 64  # outputs of a row that may be the largest, at the first look and the second
_TINY = torch.finfo(torch.float32).tiny
