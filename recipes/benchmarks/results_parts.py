"""The parts of docs/results.md and docs/notebook.md: what measures each, and its chart."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from recipes.benchmarks.results_rows import (
    Row,
    answers,
    beside_transformers,
    by_family,
    chosen_and_tuned,
    first_runs,
    gains,
    rows_of_guard,
    speeds,
    tests_of_run,
    validation_of_run,
)
from recipes.benchmarks.speed import OURS


@dataclass(frozen=True)
class Chart:
    """How rows are drawn.

    Attributes:
        title: Above the chart.
        unit: What is measured, in which unit, and whether more is better.
        value: The column whose numbers are drawn.
        name: The columns that name a bar, or the line that dots are on.
        group: The columns that name a group of bars, or a kind of dots.
        ours: How the name of what is ours begins.
        own_scale: Each group has its own scale.
        mark: Dots instead of bars; what the line at 1 means.
    """

    title: str
    unit: str
    value: str
    name: tuple[str, ...]
    group: tuple[str, ...] = ()
    ours: str = OURS
    own_scale: bool = False
    mark: str = ""


@dataclass(frozen=True)
class Part:
    """A table of results.

    Attributes:
        command: What measures it; "": no single command does.
        rows: Its rows from what the command wrote.
        writes: The option that tells the command where to: a file, or the folder of a run.
        chart: Its chart, one for each machine; None: the table alone.
        joined: All machines in one table, for tables of few lines.
        table: What the page shows of the rows.
    """

    command: str
    rows: Callable[[Mapping[str, Any]], Iterable[Row]]
    writes: str = "--json"
    chart: Chart | None = None
    joined: bool = False
    table: Callable[[Iterable[Row]], list[Row]] = list


TRANSLATOR, GPT = "python recipes/translation/train.py recipes/translation/", "python recipes/gpt/train.py recipes/gpt/"
SPEED = "python recipes/benchmarks/"
PARTS = {
    "demo": Part(f"{TRANSLATOR}numbers.yaml", tests_of_run, "--run_dir", joined=True),
    "multi30k": Part(f"{TRANSLATOR}multi30k.yaml", tests_of_run, "--run_dir", joined=True),
    "multi30k-published": Part(f"{TRANSLATOR}multi30k_published.yaml", tests_of_run, "--run_dir", joined=True),
    "finetune": Part("", tests_of_run, joined=True),
    "demo-gpt": Part(f"{GPT}python_source.yaml", validation_of_run, "--run_dir", joined=True),
    "shakespeare": Part(f"{GPT}shakespeare_char_cpu.yaml", validation_of_run, "--run_dir", joined=True),
    "speedrun": Part(f"{GPT}shakespeare_speedrun.yaml", validation_of_run, "--run_dir", joined=True),
    "five-minutes": Part(
        f"{SPEED}five_minutes.py --tatoeba downloads --shakespeare downloads",
        chosen_and_tuned,
        chart=Chart(
            "Five minutes: chosen and tuned settings",
            "mean of the seeds; BLEU: more is better; bits per byte: less is better",
            "mean", ("settings",), ("text", "score"), ours="chosen", own_scale=True,
        ),
    ),
    "translation-training": Part(
        f"{SPEED}translation.py --tables training --rounds 5 --steps 2",
        speeds,
        chart=Chart(
            "Training a translator", "target tokens a second, more is better",
            "target tokens/s", ("implementation",), ("precision",),
        ),
    ),
    "translation-decoding": Part(
        f"{SPEED}translation.py --tables decoding --precision float32 bfloat16 --decoding-rounds 1 --sentences 512",
        speeds,
        chart=Chart(
            "Translating", "sentences a second, more is better",
            "sentences/s", ("implementation", "precision"),
        ),
    ),
    "gpt-training": Part(
        f"{SPEED}gpt.py --tables training --rounds 5 --steps 2 --nanogpt nanoGPT",
        speeds,
        chart=Chart(
            "Training GPT-2 124M", "tokens a second, more is better", "tokens/s", ("implementation",), ("precision",)
        ),
    ),
    "gpt-program": Part(
        f"{SPEED}gpt.py --tables recipe --nanogpt nanoGPT --rounds 4", speeds, joined=True
    ),
    "gpt-writing": Part(
        f"{SPEED}gpt.py --tables generation --precision float32 --rounds 3",
        speeds,
        chart=Chart(
            "Writing with GPT-2 124M", "tokens a second, more is better",
            "tokens/s", ("implementation",), ("texts at once",),
        ),
    ),
    "zoo": Part(
        f"{SPEED}zoo.py --rounds 3",
        beside_transformers,
        chart=Chart(
            "Every family beside transformers", "our tokens a second / theirs, more is better",
            "ours / theirs", ("family",), ("search", "texts at once"), mark="as fast as theirs",
        ),
        table=by_family,
    ),
    "chat": Part(
        f"{SPEED}chat.py runs/smollm2 --rounds 3 --new-tokens 48",
        speeds,
        chart=Chart(
            "Answers of SmolLM2-135M-Instruct", "tokens a second, more is better",
            "tokens/s", ("implementation",), ("texts at once",),
        ),
    ),
    "serving": Part(
        f"{SPEED}serving.py runs/numbers runs/smollm2 --source data/numbers/test.en --lines 200 --seconds 20",
        answers,
        chart=Chart(
            "A server and its clients", "answers a second, more is better",
            "answers/s", ("server", "clients"), ("run",), own_scale=True,
        ),
    ),
    "kernels": Part(
        f"{SPEED}kernels.py",
        gains,
        chart=Chart(
            "What each kernel gains", "seconds of PyTorch / ours: median of each case, more is better",
            "median", ("kernel",), ("threads",), mark="as fast as PyTorch",
        ),
    ),
    "guard": Part(f"{SPEED}guard.py --old b60fcc5 --attempts 2", rows_of_guard),
    "first-run": Part(
        f"{SPEED}first_run.py --tatoeba downloads --minutes 3 --sides old new", first_runs, joined=True
    ),
}  # fmt: skip
