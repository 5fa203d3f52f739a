"""The loss from hidden states against F.cross_entropy over all logits."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from tests.kernels.transforms import EVERY, TRANSFORMS, WARNINGS
from transformer_zoo.data import windows
from transformer_zoo.kernels import cross_entropy as ways
from transformer_zoo.kernels import cross_entropy_in_place as cpu
from transformer_zoo.training.loss import linear_cross_entropy

N, D, V = 23, 7, 31


@pytest.fixture(autouse=True, params=["in place", "in place, blocks of 3 rows", "by chunks"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A CPU's way, and the one of GPUs and compilers."""
    if request.param == "in place, blocks of 3 rows":
        monkeypatch.setattr(cpu, "BLOCK_LOGITS", 3 * V)
    if request.param == "by chunks":
        monkeypatch.setattr(ways, "in_place", lambda rows, hidden, *rest: by_chunks(rows, hidden, *rest))
    return str(request.param)


def by_chunks(rows: int, hidden: Tensor, *rest: Any) -> Any:
    return ways._by_chunks(ways.number_of_chunks(len(hidden), 1, rows), hidden, *rest)


def problem(
    dtype: torch.dtype = torch.float32, with_bias: bool = True, n: int = N
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """hidden, weight, targets, bias; logits of some size, so that the softmax is not flat."""
    hidden = (torch.randn(n, D) * 2).to(dtype).requires_grad_()
    weight = torch.randn(V, D).to(dtype).requires_grad_()
    bias = torch.randn(V).to(dtype).requires_grad_() if with_bias else None
    return hidden, weight, torch.randint(V, (n,)), bias


def gradients(loss: Tensor, *inputs: Tensor | None) -> list[Tensor]:
    return list(torch.autograd.grad(loss, [x for x in inputs if x is not None]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
@pytest.mark.parametrize("chunk", [1, 5, 23, 24, 512])
def test_values_and_gradients(chunk: int, smoothing: float, with_bias: bool, dtype: torch.dtype) -> None:
    hidden, weight, targets, bias = problem(dtype, with_bias)
    loss, nll = linear_cross_entropy(hidden, weight, targets, bias=bias, label_smoothing=smoothing, chunk=chunk)
    logits = F.linear(hidden, weight, bias)
    wanted = F.cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing)
    assert loss.dtype == nll.dtype == torch.promote_types(hidden.dtype, torch.float32)
    near = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-12, "atol": 1e-12}
    assert_close(loss, wanted, **near)
    assert_close(nll, F.cross_entropy(logits, targets, reduction="sum"), **near)
    got = gradients(loss, hidden, weight, bias)
    for ours, theirs in zip(got, gradients(wanted, hidden, weight, bias), strict=True):
        assert_close(ours, theirs, **near)


def test_a_weight_in_float32_gets_a_gradient_in_float32_whatever_the_products_are_taken_in() -> None:
    hidden, weight, targets, _ = problem()
    loss, _ = linear_cross_entropy(hidden.bfloat16(), weight, targets)
    (grad,) = gradients(loss, weight)
    assert grad.dtype == torch.float32
    wanted = gradients(F.cross_entropy(hidden @ weight.t(), targets, reduction="sum"), weight)[0]
    assert_close(grad, wanted, rtol=0.05, atol=0.2)


def test_nothing_to_predict() -> None:
    hidden, weight, targets, _ = problem(n=0)
    loss, nll = linear_cross_entropy(hidden, weight, targets, label_smoothing=0.1)
    assert loss.item() == nll.item() == 0
    assert all(grad.count_nonzero() == 0 for grad in gradients(loss, hidden, weight))


def test_label_smoothing_by_hand() -> None:
    """Two classes with logits 0 and log 3: probabilities 1/4 and 3/4; smoothing 0.2 asks for 0.1 and 0.9."""
    hidden, weight = torch.ones(1, 1), torch.tensor([[0.0], [torch.tensor(3.0).log()]])
    loss, nll = linear_cross_entropy(hidden, weight, torch.tensor([1]), label_smoothing=0.2)
    assert nll.item() == pytest.approx(-torch.tensor(0.75).log().item())
    assert loss.item() == pytest.approx(-(0.9 * torch.tensor(0.75).log() + 0.1 * torch.tensor(0.25).log()).item())


def test_it_agrees_with_itself_however_the_rows_are_cut() -> None:
    hidden, weight, targets, bias = problem()
    whole, _ = linear_cross_entropy(hidden, weight, targets, bias=bias, label_smoothing=0.1)
    parts = [
        linear_cross_entropy(hidden[a:b], weight, targets[a:b], bias=bias, label_smoothing=0.1)[0]
        for a, b in ((0, 4), (4, 17), (17, N))
    ]
    assert_close(sum(parts), whole)
    inputs = hidden, weight, bias
    assert_close(gradients(sum(parts), *inputs), gradients(whole, *inputs), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [0.0, 0.25, -3.0])
def test_an_upstream_gradient_scales(scale: float) -> None:
    inputs = problem()
    hidden, weight, targets, bias = inputs
    loss, _ = linear_cross_entropy(hidden, weight, targets, bias=bias)
    once = gradients(loss, hidden, weight, bias)
    again, _ = linear_cross_entropy(hidden, weight, targets, bias=bias)
    scaled = gradients(again * scale, hidden, weight, bias)
    assert_close(scaled, [g * scale for g in once])


def test_backward_twice() -> None:
    hidden, weight, targets, _ = problem()
    loss, _ = linear_cross_entropy(hidden, weight, targets)
    first = torch.autograd.grad(loss, [hidden, weight], retain_graph=True)
    assert_close(torch.autograd.grad(loss, [hidden, weight]), first)


def test_the_plain_nll_has_no_gradient() -> None:
    hidden, weight, targets, _ = problem()
    loss, nll = linear_cross_entropy(hidden, weight, targets, label_smoothing=0.1)
    assert loss.requires_grad
    assert not nll.requires_grad


@pytest.mark.parametrize("which", [0, 1, 2])
def test_only_some_inputs_may_need_gradients(which: int) -> None:
    hidden, weight, targets, bias = problem()
    assert bias is not None
    wanted = gradients(linear_cross_entropy(hidden, weight, targets, bias=bias)[0], hidden, weight, bias)
    inputs = [x.detach().requires_grad_(i == which) for i, x in enumerate((hidden, weight, bias))]
    loss, _ = linear_cross_entropy(inputs[0], inputs[1], targets, bias=inputs[2])
    loss.backward()
    assert [x.grad is not None for x in inputs] == [i == which for i in range(3)]
    assert_close(inputs[which].grad, wanted[which])


def test_without_gradients_none_are_computed() -> None:
    """They cost several times the loss itself, and validation would pay them."""
    hidden, weight, targets, bias = problem()
    with FlopCounterMode(display=False) as all_three:
        wanted = linear_cross_entropy(hidden, weight, targets, bias=bias, label_smoothing=0.1)
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode, FlopCounterMode(display=False) as counted:
            loss, nll = linear_cross_entropy(hidden, weight, targets, bias=bias, label_smoothing=0.1)
        assert 2 * N * D * V <= counted.get_total_flops() < 0.4 * all_three.get_total_flops()
        assert not loss.requires_grad
        assert_close((loss, nll), tuple(w.detach() for w in wanted))


def test_no_rows() -> None:
    hidden, weight, targets, bias = problem(n=0)
    loss, nll = linear_cross_entropy(hidden, weight, targets, bias=bias, label_smoothing=0.1)
    assert loss.item() == nll.item() == 0
    grads = gradients(loss, hidden, weight, bias)
    assert [g.count_nonzero().item() for g in grads] == [0, 0, 0]


def test_inputs_are_left_as_they_were() -> None:
    hidden, weight, targets, bias = problem()
    assert bias is not None
    before = [x.detach().clone() for x in (hidden, weight, targets, bias)]
    linear_cross_entropy(hidden, weight, targets, bias=bias, label_smoothing=0.1)[0].backward()
    assert_close([x.detach() for x in (hidden, weight, targets, bias)], before, rtol=0, atol=0)


@pytest.fixture
def _memory_is_not_zero() -> Iterator[None]:
    """What is not written yet is NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("_memory_is_not_zero")
@pytest.mark.parametrize("in_float32", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
def test_bfloat16_products_with_sums_in_float32(
    with_bias: bool, in_float32: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """hidden in bfloat16, weights kept in float32 as in training; many rows, where bfloat16 sums stall."""
    monkeypatch.setattr(cpu, "float32_is_as_fast", lambda n: in_float32)
    hidden, weight, targets, bias = problem(with_bias=with_bias, n=3000)
    low = hidden.detach().bfloat16().requires_grad_()
    loss, nll = linear_cross_entropy(low, weight, targets, bias=bias, label_smoothing=0.1)
    wanted = F.cross_entropy(F.linear(hidden, weight, bias), targets, reduction="sum", label_smoothing=0.1)
    assert loss.dtype == nll.dtype == torch.promote_types(hidden.dtype, torch.float32)
    assert_close(loss, wanted, rtol=5e-3, atol=0)
    got, exact = gradients(loss, low, weight, bias), gradients(wanted, hidden, weight, bias)
    assert [g.dtype for g in got] == [torch.bfloat16] + [torch.float32] * (len(got) - 1)
    for ours, theirs in zip(got, exact, strict=True):
        error = (ours.float() - theirs).norm() / theirs.norm()
        assert error < 0.02


def test_autocast_around_it_changes_nothing() -> None:
    hidden, weight, targets, bias = problem()
    wanted, _ = linear_cross_entropy(hidden, weight, targets, bias=bias)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got, _ = linear_cross_entropy(hidden, weight, targets, bias=bias)
        grads = gradients(got, hidden, weight, bias)
    assert torch.equal(got, wanted)
    assert_close(grads, gradients(wanted, hidden, weight, bias))


def test_extreme_logits_stay_finite() -> None:
    hidden, weight = torch.tensor([[1e4], [-1e4]], requires_grad=True), torch.tensor([[1.0], [-1.0], [0.0]])
    loss, _ = linear_cross_entropy(hidden, weight, torch.tensor([0, 0]), label_smoothing=0.1)
    loss.backward()
    assert loss.isfinite()
    assert hidden.grad is not None
    assert hidden.grad.isfinite().all()


def test_all_logits_never_exist_at_once() -> None:
    """The largest tensor that the loss makes has chunk times V elements, not N times V."""
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                largest = max(largest, out.numel())
            return out

    hidden, weight, targets, bias = problem(n=200)
    with Watch():
        loss, _ = linear_cross_entropy(hidden, weight, targets, bias=bias, label_smoothing=0.1, chunk=8)
        loss.backward()
    assert largest == max(200 * D, 8 * V, V * D)


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("cap", [None, 3.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_soft_capped_logits_and_a_padded_vocabulary(smoothing: float, cap: float | None, with_bias: bool) -> None:
    real = 27
    hidden, weight, _, bias = problem(torch.float64, with_bias)
    targets = torch.randint(real, (N,))
    if cap is not None and smoothing:
        with pytest.raises(ValueError, match="cannot be used together"):
            linear_cross_entropy(hidden, weight, targets, label_smoothing=smoothing, softcap=cap)
        return
    loss, nll = linear_cross_entropy(
        hidden, weight, targets, bias=bias, label_smoothing=smoothing, softcap=cap, vocab_size=real, chunk=5
    )
    logits = F.linear(hidden, weight, bias)[:, :real]
    logits = logits if cap is None else cap * torch.tanh(logits / cap)
    wanted = F.cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing)
    assert_close(loss, wanted)
    assert_close(nll, F.cross_entropy(logits, targets, reduction="sum"))
    both = (gradients(value, hidden, weight, bias) for value in (loss, wanted))
    for ours, theirs in zip(*both, strict=True):
        assert_close(ours, theirs)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("some", [range(N), [0, 22], [5]])
def test_targets_that_do_not_count(some: Any, smoothing: float) -> None:
    """Rows with an ignored target change neither the loss nor a gradient. If no row counts, both are zero."""
    assert ways.IGNORED == windows.IGNORED  # what batches mark such targets with
    hidden, weight, targets, bias = problem()
    targets[[*some]] = ways.IGNORED
    real = targets != ways.IGNORED
    loss, nll = linear_cross_entropy(hidden, weight, targets, bias=bias, label_smoothing=smoothing, chunk=5)
    wanted = linear_cross_entropy(hidden[real], weight, targets[real], bias=bias, label_smoothing=smoothing)
    assert_close((loss, nll), wanted)
    got = gradients(loss, hidden, weight, bias)
    assert_close(got, gradients(wanted[0], hidden, weight, bias), rtol=1e-5, atol=1e-6)
    assert got[0][~real].count_nonzero() == 0


DEFAULTS = {"vocab_size": 6, "softcap": None, "label_smoothing": 0.0}


@pytest.mark.filterwarnings(*WARNINGS)
@pytest.mark.parametrize("transform", EVERY)
@pytest.mark.parametrize(
    "options",
    [{}, {"label_smoothing": 0.1}, {"softcap": 2.0}, {"vocab_size": 4}, {"label_smoothing": 0.3, "vocab_size": 5}],
    ids=str,
)
def test_it_can_be_differentiated_as_often_as_its_formula(options: dict[str, Any], transform: str) -> None:
    hidden, weight, bias = (torch.randn(*shape, dtype=torch.float64) for shape in ((3, 2), (6, 2), (6,)))
    size, softcap, smoothing = (options.get(name, default) for name, default in DEFAULTS.items())
    targets = torch.randint(size, (3,))

    def ours(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return linear_cross_entropy(hidden, weight, targets, bias=bias, chunk=2, **options)[0]

    def formula(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        logits = (hidden @ weight.T + bias)[:, :size]
        if softcap is not None:
            logits = softcap * (logits / softcap).tanh()
        return F.cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing)

    got, wanted = (TRANSFORMS[transform](f, (hidden, weight, bias)) for f in (ours, formula))
    assert_close(got, wanted, rtol=1e-6, atol=1e-8)
