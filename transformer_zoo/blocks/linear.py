"""Linear projection by the kernel that is fastest where it runs: it decides how fast a CPU trains and writes."""

import weakref
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer_zoo.blocks.arguments import check_flags, check_sizes
from transformer_zoo.errors import UserError
from transformer_zoo.kernels.cpu import cpu_has_bfloat16, float32_is_as_fast
from transformer_zoo.kernels.derivatives import is_more_asked, is_plain, without_gradient

# Measured with torch 2.13 and MKL: outside these bounds MKL is as fast or faster.
_FEW_ROWS = range(4, 65)
_BIG_WEIGHT = 1 << 20
_PACKED_FOR_ROWS = 16


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
