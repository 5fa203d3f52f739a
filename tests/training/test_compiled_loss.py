"""A training step's graph, from tokens to the loss: one, of a bounded size, with few logits at once."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from functorch.compile import make_boxed_func
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.testing import CompileCounterWithBackend
from torch.fx import GraphModule
from torch.testing import assert_close

from tests.models.helpers import small_gpt, small_model
from transformer_zoo.data import Batch, TokenBatch
from transformer_zoo.kernels import cross_entropy as ways
from transformer_zoo.training.loss import linear_cross_entropy
from transformer_zoo.training.tasks.objectives import GptObjective, TranslationObjective

# Torch's own, of its compiler.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*torch.jit:DeprecationWarning", "ignore:.*should not be instantiated:DeprecationWarning"
)
D, V = 5, 31
needs_cpp = pytest.mark.skipif(not (shutil.which("c++") or shutil.which("g++")), reason="needs a C++ compiler")


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


class Graphs:
    """A backend that runs what it is given, and keeps it: the forward and the backward graphs."""

    def __init__(self) -> None:
        self.graphs: list[GraphModule] = []
        self.backend = aot_autograd(fw_compiler=self._keep, bw_compiler=self._keep)

    def _keep(self, graph: GraphModule, inputs: Any) -> Any:
        self.graphs.append(graph)
        return make_boxed_func(graph.forward)

    def sizes(self) -> list[int]:
        """Elements of every tensor that the graphs compute."""
        nodes = [node for graph in self.graphs for node in graph.graph.nodes if node.op == "call_function"]
        values = [value for node in nodes if isinstance(value := node.meta.get("val"), Tensor)]
        return [int(value.numel()) for value in values]


def n_graphs(counter: CompileCounterWithBackend) -> int:
    """That compute anything."""
    return sum(any(node.op == "call_function" for node in graph.graph.nodes) for graph in counter.graphs)


def problem(n: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    hidden = (torch.randn(n, D) * 2).to(dtype).requires_grad_()
    targets = torch.randint(V - 4, (n,))
    targets[1::7] = ways.IGNORED
    return hidden, torch.randn(V, D).requires_grad_(), targets


def formula(hidden: Tensor, weight: Tensor, targets: Tensor, **options: Any) -> Tensor:
    size, cap = options.get("vocab_size", V), options.get("softcap")
    logits = (hidden @ weight[:size].t()).float()
    logits = logits if cap is None else cap * torch.tanh(logits / cap)
    smoothing = options.get("label_smoothing", 0.0)
    return F.cross_entropy(logits, targets, ignore_index=-1, reduction="sum", label_smoothing=smoothing)


@pytest.mark.parametrize("n_chunks", [1, 4])
@pytest.mark.parametrize("options", [{"label_smoothing": 0.1}, {"softcap": 3.0, "vocab_size": V - 4}], ids=str)
def test_one_graph_is_the_formula(options: dict[str, Any], n_chunks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    n = 22
    monkeypatch.setattr(ways, "LOGITS_AT_ONCE", n * V * 4 // n_chunks)
    compiled = torch.compile(linear_cross_entropy, fullgraph=True, backend="aot_eager")
    hidden, weight, targets = problem(n)
    loss, nll = compiled(hidden, weight, targets, **options)
    wanted = formula(hidden, weight, targets, **options)
    assert_close(loss, wanted)
    assert_close(nll, formula(hidden, weight, targets, **options | {"label_smoothing": 0.0}))
    inputs = hidden, weight
    ours, theirs = (torch.autograd.grad(3 * x, inputs) for x in (loss, wanted))
    assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_few_logits_exist_at_once_and_the_graph_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """With four times as many tokens the graph has as many nodes as before, once it has its most chunks."""
    monkeypatch.setattr(ways, "MOST_CHUNKS", 4)
    monkeypatch.setattr(ways, "LOGITS_AT_ONCE", 8 * V * 4)
    counts = []
    for n in (8, 32, 128):
        torch.compiler.reset()
        graphs = Graphs()
        hidden, weight, targets = problem(n)
        compiled = torch.compile(linear_cross_entropy, fullgraph=True, backend=graphs.backend)
        compiled(hidden, weight, targets, label_smoothing=0.1)[0].backward()
        chunks = ways.number_of_chunks(n, V * 4)
        assert chunks == {8: 1, 32: 4, 128: 4}[n]
        assert max(graphs.sizes()) == max(n // chunks * V, n * D)
        counts.append(sum(len(graph.graph.nodes) for graph in graphs.graphs))
    assert counts[0] < counts[1] == counts[2] <= 4 * 50


@pytest.mark.slow
@needs_cpp
def test_no_chunk_of_logits_is_copied_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """What inductor allocates for bfloat16: logits and their gradient, in bfloat16, one chunk of each at a time."""
    from torch._inductor.utils import run_and_get_code

    n = 192
    monkeypatch.setattr(ways, "LOGITS_AT_ONCE", n // 2 * V * 2)
    hidden, weight, targets = problem(n, torch.bfloat16)
    compiled = torch.compile(linear_cross_entropy, fullgraph=True)

    def step() -> Tensor:
        loss, _ = compiled(hidden, weight, targets, label_smoothing=0.1)
        loss.backward()
        return loss.detach()

    loss, codes = run_and_get_code(step)
    wanted = formula(hidden.float(), weight, targets, label_smoothing=0.1)
    assert_close(loss, wanted.detach(), rtol=1e-2, atol=0)
    wide = torch.autograd.grad(wanted, [hidden, weight])
    for got, exact in zip((hidden.grad, weight.grad), wide, strict=True):
        assert got is not None
        assert (got.float() - exact.float()).norm() < 0.02 * exact.float().norm()
    made = [line for code in codes for line in code.splitlines() if f"empty_strided_cpu(({n // 2}, {V})" in line]
    assert made
    assert all("torch.bfloat16" in line for line in made)


def pairs(b: int, ts: int, tt: int, *, padded: bool) -> Batch:
    mask = torch.ones(b, tt, dtype=torch.bool)
    mask[1:, -2:] = not padded
    target = torch.randint(4, 19, (b, tt))
    return Batch(
        source=torch.randint(4, 19, (b, ts)),
        source_mask=None,
        target_in=target,
        target_out=target.roll(-1, 1),
        target_mask=mask if padded else None,
        n_tokens=int(mask.sum()),
    )


def gradients(objective: nn.Module, batch: Any) -> list[Tensor]:
    loss, nll = objective(batch)
    found = torch.autograd.grad(loss, [*objective.parameters()])
    return [loss.detach(), nll, *(x.to_dense() for x in found)]


@pytest.mark.parametrize("n_chunks", [1, 4])
def test_one_graph_serves_other_numbers_of_tokens(n_chunks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers of rows that share one number of chunks: here 13 to 24."""
    monkeypatch.setattr(ways, "LOGITS_AT_ONCE", 24 * V * 4 // n_chunks)
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(linear_cross_entropy, fullgraph=True, dynamic=True, backend=counter)
    for n in (21, 24, 13, 22):
        hidden, weight, targets = problem(n)
        loss, _ = compiled(hidden, weight, targets, label_smoothing=0.1)
        wanted = formula(hidden, weight, targets, label_smoothing=0.1)
        assert_close(loss, wanted)
        ours, theirs = (torch.autograd.grad(x, [hidden, weight]) for x in (loss, wanted))
        assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert n_graphs(counter) == 1


@pytest.mark.slow
def test_translation_trains_by_one_graph_for_all_lengths() -> None:
    model = small_model(dropout=0.0, attention_dropout=0.0, n_encoder_layers=1, n_decoder_layers=1).train()
    objective = TranslationObjective(model, label_smoothing=0.1)
    batches = [pairs(3, 5, 7, padded=True), pairs(4, 9, 6, padded=False), pairs(2, 4, 11, padded=True)]
    wanted = [gradients(objective, batch) for batch in batches]
    counter = CompileCounterWithBackend("aot_eager")
    objective.compile(fullgraph=True, backend=counter)
    for batch, exact in zip(batches, wanted, strict=True):
        assert_close(gradients(objective, batch), exact, rtol=1e-4, atol=1e-5)
    assert objective.eval()(batches[0])[0] != 0  # by the model as it is
    assert n_graphs(counter) == 1


def test_a_gpt_trains_by_one_graph() -> None:
    objective = GptObjective(small_gpt(dropout=0.0, attention_dropout=0.0, n_layers=1).train())
    ids, documents = torch.randint(53, (3, 11)), torch.arange(11).expand(3, 11) // 4
    batch = TokenBatch(
        ids=ids,
        targets=ids.roll(-1, 1),
        documents=documents,
        positions=torch.arange(11).expand(3, 11) % 4,
        n_tokens=33,
    )
    wanted = gradients(objective, batch)
    counter = CompileCounterWithBackend("aot_eager")
    objective.compile(fullgraph=True, backend=counter)
    for _ in range(2):
        assert_close(gradients(objective, batch), wanted, rtol=1e-4, atol=1e-5)
    assert n_graphs(counter) == 1


@pytest.mark.gpu
@pytest.mark.parametrize("n_chunks", [1, 4])
def test_on_a_gpu_it_is_the_formula(n_chunks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled and not, in bfloat16, with sizes that are not multiples of anything."""
    n, d, v = 1001, 72, 5003
    monkeypatch.setattr(ways, "LOGITS_AT_ONCE", n * v * 2 // n_chunks)
    hidden = torch.randn(n, d, device="cuda").bfloat16().requires_grad_()
    weight = (torch.randn(v, d, device="cuda") / 4).requires_grad_()
    targets = torch.randint(v, (n,), device="cuda")
    targets[::5] = ways.IGNORED
    wanted = F.cross_entropy(
        hidden.float() @ weight.t(), targets, ignore_index=-1, reduction="sum", label_smoothing=0.1
    )
    exact = torch.autograd.grad(wanted, [hidden, weight])
    for function in (linear_cross_entropy, torch.compile(linear_cross_entropy, fullgraph=True)):
        loss, _ = function(hidden, weight, targets, label_smoothing=0.1)
        assert_close(loss, wanted, rtol=2e-3, atol=0)
        for got, one in zip(torch.autograd.grad(loss, [hidden, weight]), exact, strict=True):
            assert (got.float() - one.float()).norm() < 0.02 * one.float().norm()
