"""Linear projection by the kernel that is fastest where it runs: it decides how fast a CPU trains and writes."""

import weakref
from functools import cache
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer_zoo.blocks.arguments import check_flags, check_sizes
from transformer_zoo.blocks.derivatives import is_more_asked, is_plain, without_gradient
from transformer_zoo.errors import UserError

# Measured with torch 2.13 and MKL: outside these bounds MKL is as fast or faster.
_FEW_ROWS = range(4, 65)
_BIG_WEIGHT = 1 << 20
_SMALL_WEIGHT = 1 << 13
_PACKED_FOR_ROWS = 16


@cache
def cpu_has(*names: str) -> bool:
    """Whether this CPU has any of these instruction sets, as torch names them."""
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in names)


def cpu_has_bfloat16() -> bool:
    """Whether this CPU has instructions for bfloat16 products."""
    return cpu_has("avx512_bf16", "amx_bf16")


def cpu_has_int8() -> bool:
    """Whether this CPU has instructions for products of 8 bits that `Int8Linear` was measured with."""
    return cpu_has("avx512_vnni")


def float32_is_as_fast(weight_elements: int) -> bool:
    """Whether a CPU multiplies bfloat16 by a weight of this size no faster than the same numbers in float32.

    Without instructions for it, torch emulates it. With them, oneDNN prepares a kernel for each number of rows, and
    keeps 1,024 of them: some milliseconds and 0.65 MB each, which a small weight does not bring in again.
    """
    return weight_elements <= _SMALL_WEIGHT or not cpu_has_bfloat16()


def _is_bfloat16_autocast() -> bool:
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16


def _linear_in_float32(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What bfloat16 instructions compute, by those for float32: both round the inputs, add up in float32, and round.

    torch's emulation of the same is four times slower.
    """
    with torch.autocast("cpu", enabled=False):
        rounded = [None if t is None else t.bfloat16().float() for t in (x, weight, bias)]
        return F.linear(*rounded).bfloat16()  # type: ignore[arg-type]


def pack_weight(weight: Tensor) -> Tensor:
    """A copy of a float32 weight (E, D) on a CPU in oneDNN's own order, which `linear` takes and nothing else.

    Raises:
        ValueError: any other tensor.
    """
    if weight.dim() != 2 or weight.dtype != torch.float32 or weight.device.type != "cpu":
        raise ValueError(
            f"{tuple(weight.shape)} of {weight.dtype} on {weight.device}: expected (E, D) float32 on a CPU"
        )
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, _PACKED_FOR_ROWS)
    return packed


def _one_dnn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


def in_autocast_dtype(x: Tensor) -> Tensor:
    """x as autocast gives it to a product, for one that several products take; x itself without autocast."""
    kind = x.device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind) or x.dtype == torch.float64:
        return x
    return x.to(torch.get_autocast_dtype(kind))


_ROWS_FOR_ONE = range(640, 1025)


def _leaves_one_idle(rows: int, inner: int, outer: int) -> bool:
    """Whether oneDNN gives a bfloat16 product (rows, inner) @ (inner, outer) to one of two threads, but each half of
    its rows to both. Measured with torch 2.13 on a CPU with AMX.
    """
    is_such = rows in _ROWS_FOR_ONE and inner >= 512 and 640 <= outer <= 768
    return is_such and torch.get_num_threads() == 2 and cpu_has_bfloat16()


def _leaves_one_idle_at(x: Tensor, weight: Tensor) -> bool:
    """The same of `linear` in bfloat16, or of its gradient with respect to x."""
    if (rows := x.numel() // max(x.size(-1), 1)) not in _ROWS_FOR_ONE:
        return False
    e, d = weight.shape
    return _leaves_one_idle(rows, d, e) or _leaves_one_idle(rows, e, d)


def multiply(a: Tensor, b: Tensor, bias: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """a @ b + bias into `out`, without gradient, by all threads: a (N, D), b (D, E), bias (E,) -> (N, E)."""
    out = a.new_empty(len(a), b.size(1)) if out is None else out
    is_bfloat16 = a.device.type == "cpu" and a.dtype == torch.bfloat16
    n = 2 if is_bfloat16 and _leaves_one_idle(len(a), len(b), b.size(1)) else 1
    for rows, result in zip(a.chunk(n), out.chunk(n), strict=True):
        if bias is None:
            torch.mm(rows, b, out=result)
        else:
            torch.addmm(bias, rows, b, out=result)
    return out


class _Multiply(torch.autograd.Function):
    """x W^T + b, forward and backward by `multiply`: x (N, D), weight (E, D), bias (E,)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return multiply(x, weight.t(), bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        times = torch.mm if is_more_asked(grad) else multiply
        return (
            times(grad, weight) if needs_x else None,
            grad.t() @ x if needs_weight else None,
            grad.sum(0) if needs_bias else None,
        )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b: x (..., D), weight (E, D), bias (E,) -> (..., E).

    Under bfloat16 autocast on a CPU, products that gain nothing by it are taken in float32, with the same roundings.
    For a few rows MKL rearranges all of a weight to multiply it once; oneDNN reads it as it lies, 1.1 to 2.3 times as
    fast.
    """
    if weight.is_mkldnn:  # packed: in float32, whatever autocast says
        return without_gradient(lambda x: _one_dnn(x.float(), weight, bias), x, "a packed model")
    if x.device.type != "cpu" or is_plain():
        return F.linear(x, weight, bias)
    if _is_bfloat16_autocast() and float32_is_as_fast(weight.numel()):
        return _linear_in_float32(x, weight, bias)
    if _leaves_one_idle_at(x, weight):
        given = [None if t is None else in_autocast_dtype(t) for t in (x.flatten(0, -2), weight, bias)]
        if all(t is None or t.dtype == torch.bfloat16 for t in given):
            out: Tensor = _Multiply.apply(*given)  # type: ignore[no-untyped-call]
            return out.view(*x.shape[:-1], -1)
    if (
        x.dtype == weight.dtype == torch.float32
        and weight.numel() >= _BIG_WEIGHT
        and x.numel() // x.size(-1) in _FEW_ROWS
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()
    ):
        return _one_dnn(x, weight, bias)
    return F.linear(x, weight, bias)


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


class _Torchs(type):
    """Equal to torch's class: `torch.ao.quantization` looks modules up by their exact type, and finds none else."""

    def __eq__(cls, other: object) -> bool:
        return other is nn.Linear or cls is other

    def __hash__(cls) -> int:
        return hash(nn.Linear)


class Linear(nn.Linear, metaclass=_Torchs):
    """`linear` as a module. Shapes: (..., D) -> (..., E)."""

    source: Source | None = None
    """Of a packed weight."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True, **options: Any) -> None:
        check_sizes(in_features=in_features, out_features=out_features)
        check_flags(bias=bias)
        super().__init__(in_features, out_features, bias, **options)

    @classmethod
    def of(cls, weight: Tensor) -> Self:
        """One with this weight (E, D) and no bias."""
        with torch.device("meta"):
            module = cls(weight.size(1), weight.size(0), bias=False)
        module.weight = nn.Parameter(weight, requires_grad=weight.requires_grad)
        return module

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """bias (E,): in place of its own."""
        if self.source is not None:
            self.source.check()
        return linear(x, self.weight, self.bias if bias is None else bias)

    def pack(self, source: Source | None = None) -> None:
        """Lay the weight out as this CPU multiplies a few rows fastest, in place; `source`: what it was, if not it."""
        weight, self.source = self.weight, source or Source(self.weight)
        del self.weight
        self.weight = pack_weight(weight.detach())  # no parameter any more

    def _save_to_state_dict(self, *args: Any, **options: Any) -> None:
        self._check_not_packed("saved")
        super()._save_to_state_dict(*args, **options)

    def _apply(self, *args: Any, **options: Any) -> Self:
        self._check_not_packed("moved or given another dtype")
        return super()._apply(*args, **options)  # type: ignore[no-untyped-call, no-any-return]

    def _check_not_packed(self, what: str) -> None:
        if self.weight.is_mkldnn:
            raise RuntimeError(f"a model with packed weights cannot be {what}: do that before it is packed")


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
