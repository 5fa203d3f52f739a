"""The gain of each kernel over torch's own way, on this machine.

    python recipes/benchmarks/kernels.py [--only rms_norm ...] [--threads 1 2] [--rounds 15] [--json FILE]

Both sides work on the same inputs, in alternation, each long enough to be timed. With one thread the time is the CPU's,
which other programs disturb less. The gain is the median over rounds of torch's seconds / ours: above 1 means faster. A
kernel stays in the package if it is at least 1.15 in a case that it was written for; its file ends with the figures.
Writing reads all weights of a model one after the other, and the cases for writing do the same. On two cores all of it
takes about five minutes.
"""

import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jsonargparse import ArgumentParser
from torch import Tensor
from tqdm import tqdm

if not __package__:  # instead of this folder, whose kernels.py others would take for a package
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from recipes.benchmarks.options import parsed
from recipes.benchmarks.speed import machine
from transformer_zoo.errors import run_program
from transformer_zoo.files import write_json
from transformer_zoo.kernels import cross_entropy, int8, plain
from transformer_zoo.kernels.activation import relu_squared
from transformer_zoo.kernels.dot_product import Options, scaled_dot_product
from transformer_zoo.kernels.dropping import dropout
from transformer_zoo.kernels.norm import rms_norm
from transformer_zoo.kernels.projection import linear, pack_weight, packed_linear
from transformer_zoo.kernels.rotation import rotate

BAR, LEAST_SECONDS = 1.15, 0.02
WRITTEN_FROM = 30_000_000  # numbers
VOCABULARY = 10_000_000  # numbers of a weight for logits
Work = Callable[[], object]
Sides = tuple[Work, Work]  # ours, torch's


@dataclass(frozen=True)
class Case:
    """A case of a kernel: its inputs, in words, and the functions that prepare both sides."""

    kernel: str
    shapes: str
    dtype: torch.dtype
    build: Callable[[torch.dtype], Sides]

    def __str__(self) -> str:
        return f"{self.kernel}, {self.shapes}, {str(self.dtype).removeprefix('torch.')}"


@dataclass(frozen=True)
class Gain:
    """Torch's seconds / ours, by round."""

    case: str
    threads: int
    ratios: list[float]

    def __str__(self) -> str:
        lower, median, upper = statistics.quantiles(self.ratios, n=4, method="inclusive")
        verdict = "stays" if median >= BAR else ""
        return f"| {self.case} | {self.threads} | {lower:.2f} | **{median:.2f}** | {upper:.2f} | {verdict} |"


def beside_formula(work: Work) -> Sides:
    """The kernel, and within `plain` its formula, which is torch's own way."""

    def formula() -> None:
        with plain():
            work()

    return work, formula


def training(function: Callable[..., Tensor], *inputs: Any) -> Work:
    """Forward and backward, with respect to all inputs that have a gradient."""
    wanted = [x for x in inputs if isinstance(x, Tensor) and x.requires_grad]
    upstream = torch.randn_like(function(*inputs).detach())
    return lambda: torch.autograd.grad(function(*inputs), wanted, upstream)


def leaf(*shape: int, dtype: torch.dtype) -> Tensor:
    """Random numbers with a gradient."""
    return torch.randn(*shape).to(dtype).requires_grad_()


def by_many_weights(
    rows: int, inputs: int, outputs: int, dtype: torch.dtype, kernel_for: Callable[[Tensor], Callable[[Tensor], Tensor]]
) -> Sides:
    """Products of x with more weights than a cache holds; `kernel_for` turns each into a function that multiplies by
    it."""
    x = torch.randn(rows, inputs, dtype=dtype)
    weights = [torch.randn(outputs, inputs, dtype=dtype) for _ in range(max(1, WRITTEN_FROM // (inputs * outputs)))]
    kernels = [kernel_for(weight) for weight in weights]

    @torch.no_grad()
    def ours() -> None:
        for kernel in kernels:
            kernel(x)

    @torch.no_grad()
    def theirs() -> None:
        for weight in weights:
            F.linear(x, weight)

    return ours, theirs


def few_rows(rows: int, inputs: int, outputs: int, dtype: torch.dtype) -> Sides:
    """Projections while writing."""
    return by_many_weights(rows, inputs, outputs, dtype, lambda weight: lambda x: linear(x, weight))


def packed(rows: int, inputs: int, outputs: int, dtype: torch.dtype) -> Sides:
    """The same from weights that were laid out for it."""
    return by_many_weights(
        rows, inputs, outputs, dtype, lambda weight: partial(packed_linear, packed=pack_weight(weight))
    )


def eight_bits(rows: int, inputs: int, outputs: int, dtype: torch.dtype) -> Sides:
    """The same from weights in 8 bits: by torch's kernel, and for logits by oneDNN's."""

    def kernel_for(weight: Tensor) -> Callable[[Tensor], Tensor]:
        scale = weight.abs().amax(1) / 127
        rounded = (weight / scale[:, None]).round().to(torch.int8)
        if weight.numel() < VOCABULARY:
            return partial(int8.int8_linear, weight=rounded, scale=scale.bfloat16())
        return partial(int8.int8_product, step=4 / 127, packed=int8.prepack(rounded), scale=scale)

    return by_many_weights(rows, inputs, outputs, dtype, kernel_for)


def narrow_weight(inputs: int, outputs: int, dtype: torch.dtype) -> Sides:
    """A small model in bfloat16: as many rows as there are tokens, another number at each step."""
    x, upstream = leaf(1024, inputs, dtype=torch.float32), torch.randn(1024, outputs).to(dtype)
    weight, bias = leaf(outputs, inputs, dtype=torch.float32), leaf(outputs, dtype=torch.float32)
    sizes = torch.randint(16, 1024, (100_000,), generator=torch.Generator().manual_seed(1)).tolist()
    own: dict[bool, Iterator[int]] = {True: iter(sizes), False: iter(sizes)}

    def work(ours: bool) -> None:
        n = next(own[ours])
        with torch.autocast("cpu", dtype), nullcontext() if ours else plain():
            out = linear(x[:n], weight, bias)
        torch.autograd.grad(out, (x, weight, bias), upstream[:n])

    return partial(work, True), partial(work, False)


def rotation(shape: Sequence[int], layout: str, pairs: int, dtype: torch.dtype) -> Sides:
    """Queries or keys, while training."""
    angles = torch.randn(shape[2], pairs)
    return beside_formula(
        training(rotate, leaf(*shape, dtype=dtype), angles.cos().to(dtype), angles.sin().to(dtype), layout)
    )


def norm(rows: int, width: int, dtype: torch.dtype) -> Sides:
    """Under autocast the weight is in float32."""
    weight = leaf(width, dtype=torch.float32)
    return beside_formula(training(rms_norm, leaf(rows, width, dtype=dtype), weight, 1e-6))


def activation(rows: int, width: int, dtype: torch.dtype) -> Sides:
    """Inner activations, while training."""
    return beside_formula(training(relu_squared, leaf(rows, width, dtype=dtype)))


def dropped(rows: int, width: int, dtype: torch.dtype) -> Sides:
    """A sublayer's output, while training."""
    return beside_formula(training(dropout, leaf(rows, width, dtype=dtype), 0.1))


def attention(shape: Sequence[int], dropout: float, dtype: torch.dtype) -> Sides:
    """Heads that attend to each other, some of them padding, while training."""
    heads = [leaf(*shape, dtype=dtype) for _ in range(3)]
    mask = torch.arange(shape[2]) < torch.linspace(shape[2] // 2, shape[2], shape[0])[:, None, None, None]
    options = Options(mask, dropout=dropout)
    return (
        training(scaled_dot_product, *heads, options),
        training(partial(F.scaled_dot_product_attention, attn_mask=mask, dropout_p=dropout), *heads),
    )


def narrow_heads(heads: int, width: int, dtype: torch.dtype) -> Sides:
    """A small model in bfloat16: another number of sentences and of tokens at each step."""
    draw = random.Random(1)
    lengths = [draw.randint(3, 60) for _ in range(100_000)]
    own: dict[bool, Iterator[int]] = {True: iter(lengths), False: iter(lengths)}

    def work(ours: bool) -> None:
        n = next(own[ours])
        x = leaf(512 // n, heads, n, width, dtype=dtype)
        mask = torch.ones(len(x), 1, 1, n, dtype=torch.bool)
        if ours:
            out = scaled_dot_product(x, x, x, Options(mask))
        else:
            out = F.scaled_dot_product_attention(x, x, x, attn_mask=mask)
        torch.autograd.grad(out, x, torch.ones_like(out))

    return partial(work, True), partial(work, False)


def loss(tokens: int, width: int, vocabulary: int, dtype: torch.dtype) -> Sides:
    """The loss of a training step, and its gradients; under autocast the weight is in float32."""
    hidden = leaf(tokens, width, dtype=dtype)
    weight = torch.randn(vocabulary, width).mul_(width**-0.5).requires_grad_()  # logits as models have them
    targets, options = torch.randint(vocabulary, (tokens,)), cross_entropy.Options(0.1, None, vocabulary)

    def ours(hidden: Tensor, weight: Tensor) -> Tensor:
        return cross_entropy.cross_entropy(hidden, weight, None, targets, options)[0]

    def theirs(hidden: Tensor, weight: Tensor) -> Tensor:
        logits = F.linear(hidden, weight.to(dtype)).float()
        return F.cross_entropy(logits, targets, reduction="sum", label_smoothing=0.1)

    return training(ours, hidden, weight), training(theirs, hidden, weight)


FLOAT32, BFLOAT16 = torch.float32, torch.bfloat16
WEIGHTS = ((512, 2048), (768, 3072), (576, 49152))
CASES = [
    *(
        Case("linear", f"{n} rows by ({d}, {e}), writing", FLOAT32, partial(few_rows, n, d, e))
        for d, e in WEIGHTS
        for n in (8, 16, 32)
    ),
    *(
        Case("packed_linear", f"{n} rows by ({d}, {e}), writing", FLOAT32, partial(packed, n, d, e))
        for d, e in ((576, 576), *WEIGHTS)
        for n in (1, 4, 8, 16)
    ),
    *(
        Case("int8", f"{n} rows by ({d}, {e}), writing", FLOAT32, partial(eight_bits, n, d, e))
        for d, e in ((768, 768), (768, 2304), (768, 3072), (768, 50257))
        for n in (1, 4)
    ),
    *(
        Case("linear", f"weights of ({d}, {e}), training", BFLOAT16, partial(narrow_weight, d, e))
        for d, e in ((64, 64), (64, 128))
    ),
    *(
        Case("rotate", f"{shape}, {layout}, {r} pairs, training", dtype, partial(rotation, shape, layout, r))
        for shape in ((8, 6, 256, 64), (1, 12, 1024, 64))
        for layout, r in (("halves", 32), ("interleaved", 32), ("halves", 8))
        for dtype in (FLOAT32, BFLOAT16)
    ),
    *(
        Case("attention", f"{shape}, dropout {p}, training", dtype, partial(attention, shape, p))
        for shape in ((64, 4, 16, 64), (16, 8, 64, 64), (8, 8, 128, 64), (2, 8, 256, 64), (1, 12, 512, 64))
        for p, dtype in ((0.1, FLOAT32), (0.1, BFLOAT16), (0.0, BFLOAT16))
    ),
    *(
        Case("attention", f"{h} heads of {d}, training", BFLOAT16, partial(narrow_heads, h, d))
        for h, d in ((2, 16), (4, 16))
    ),
    *(
        Case("cross_entropy", f"{n} tokens by ({d}, {v}), training", dtype, partial(loss, n, d, v))
        for n, d, v in ((4096, 256, 8000), (1024, 384, 32000))
        for dtype in (FLOAT32, BFLOAT16)
    ),
    *(
        Case("rms_norm", f"({n}, {d}), training", dtype, partial(norm, n, d))
        for n, d in ((4096, 256), (1024, 768), (49152, 64))
        for dtype in (FLOAT32, BFLOAT16)
    ),
    *(
        Case("relu_squared", f"({n}, {d}), training", dtype, partial(activation, n, d))
        for n, d in ((4096, 1024), (1024, 3072))
        for dtype in (FLOAT32, BFLOAT16)
    ),
    *(
        Case("dropout", f"({n}, {d}), training", dtype, partial(dropped, n, d))
        for n, d in ((4096, 256), (4096, 2048))
        for dtype in (FLOAT32, BFLOAT16)
    ),
]


def measure(case: Case, threads: int, rounds: int) -> Gain:
    """Both sides in alternation, each begun by the other in every second round."""
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    sides = case.build(case.dtype)
    for work in sides:
        work()
    clock = time.process_time if threads == 1 else time.perf_counter
    seconds = sum(_seconds(work, 1, clock) for work in sides)
    repeats = max(1, round(2 * LEAST_SECONDS / max(seconds, 1e-6)))
    ratios = []
    for number in range(rounds):
        times = {side: _seconds(sides[side], repeats, clock) for side in ((0, 1) if number % 2 else (1, 0))}
        ratios.append(times[1] / times[0])
    return Gain(str(case), threads, ratios)


def _seconds(work: Work, repeats: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(repeats):
        work()
    return clock() - start


def main(arguments: Sequence[str]) -> None:
    """Measures and prints a line for each case and number of threads."""
    parser = ArgumentParser(description="What each kernel gains beside torch's own way.")
    add: Callable[..., Any] = parser.add_argument
    kernels = sorted({case.kernel for case in CASES})
    add("--only", nargs="+", choices=kernels, default=kernels, help="kernels to measure")
    add("--threads", nargs="+", type=int, default=[1, 2], help="numbers of CPU threads")
    add("--rounds", type=int, default=15, help="alternations")
    add("--json", default=None, type=str | None, help="also write the results to this file")
    options = parsed(parser, arguments, rounds=2)
    described = machine(torch.device("cpu")) | {"threads": ", ".join(map(str, options.threads))}
    print("\n".join(f"{name}: {value}" for name, value in described.items()))
    print(f"\n| torch's seconds / ours, {options.rounds} rounds | threads | quartile | median | quartile | |")
    print("|---|--:|--:|--:|--:|---|", flush=True)
    gains = []
    chosen = [case for case in CASES if case.kernel in options.only]
    for case in tqdm(chosen, desc="cases", disable=None, leave=False):
        for threads in options.threads:
            gains.append(measure(case, threads, options.rounds))
            print(gains[-1], flush=True)
    if options.json is not None:
        write_json(Path(options.json), {"machine": described, "gains": [asdict(gain) for gain in gains]})


if __name__ == "__main__":
    sys.exit(run_program(lambda: main(sys.argv[1:])))
