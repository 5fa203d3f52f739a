"""The rows of gpu.py: the parts they belong to, their order, and their shares of the time."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

PART_SECONDS = 236  # of four minutes: the rest is for ending the process and writing the page
PATIENCE = 2.0  # times the expected duration of a row
START = 20  # seconds more where a process has to load torch first
TITLES = {
    1: "parity with the CPU, then training",
    2: "decoding, translation, and where the time goes",
    3: "the published Multi30k setting",
}


@dataclass(frozen=True)
class Case:
    """A language model as it is trained.

    Args:
        preset: Preset of the zoo.
        windows: Number of windows of a batch.
        length: Number of tokens of a window.
        layers: Number of its layers, if all of them would take too long to compile; None: all.
        optimizer: adamw or muon.
    """

    preset: str
    windows: int
    length: int = 1024
    layers: int | None = None
    optimizer: str = "adamw"

    def __str__(self) -> str:
        cut = "" if self.layers is None else f", {self.layers} of its layers"
        return f"{self.windows} windows of {self.length}{cut}, {self.optimizer}, compiled, bfloat16 autocast"


@dataclass(frozen=True)
class Row:
    """One row.

    Args:
        part: Number of the part.
        name: Name in the table.
        seconds: Its share of the part's time. It is stopped after `PATIENCE` times as much, or when the part's time is
            over. Time that it does not use goes to the rows after it.
        work: Module and function that return its figures; they are loaded, with torch, in the process that runs the
            row.
        arguments: Arguments of the function, after the setting.
    """

    part: int
    name: str
    seconds: int
    work: str
    arguments: tuple[Any, ...] = ()

    def figures(self, setting: Any) -> Iterator[Any]:
        """What it measures (`gpu_report.Figure`), one after the other; `setting` is a `gpu_setting.Setting`."""
        module, _, function = self.work.partition(".")
        work = getattr(import_module(f"recipes.benchmarks.gpu_{module}"), function)
        found: Iterator[Any] = work(setting, *self.arguments)
        return found


MODERN, XL = Case("gpt-modern", 32, optimizer="muon"), Case("gpt2-xl", 16, layers=8)
LLAMA = Case("llama-3.2-1b", 8, length=2048, layers=8)
ROWS = [
    *(Row(1, f"parity: {name}", 15, "parity.family", (name,)) for name in ("GPT-2", "Llama")),
    *(Row(1, f"parity: {name}", 6, "parity.family", (name,)) for name in ("Transformer", "T5")),
    Row(1, "a resumed run", 10, "parity.resumed"),
    Row(1, "pinned prefetch", 4, "parity.prefetch"),
    Row(1, "GPT-2 124M, 32 windows", 58, "training.beside_nanogpt", (Case("gpt2", 32),)),
    Row(1, "GPT-2 124M, 64 windows", 20, "training.language", (Case("gpt2", 64),)),
    Row(1, "gpt-modern with Muon", 30, "training.language", (MODERN,)),
    Row(1, "GPT-2 124M, 16 windows", 16, "training.language", (Case("gpt2", 16),)),
    Row(1, "pytest -m gpu", 16, "runs.marked_tests"),
    Row(1, "nanoGPT's train.py, 32 windows", 20, "runs.nanogpt", (32,)),
    Row(2, "what the device gives", 4, "decoding.speeds"),
    Row(2, "decoding llama-3.2-1b, batch 1", 30, "decoding.writing", ("llama-3.2-1b", 1, True)),
    *(Row(2, f"decoding llama-3.2-1b, batch {n}", 8, "decoding.writing", ("llama-3.2-1b", n, False)) for n in (8, 64)),
    *(Row(2, f"decoding GPT-2, batch {n}", 7, "decoding.writing", ("gpt2", n, False)) for n in (1, 8, 64)),
    Row(2, "beam search, transformer-base", 12, "decoding.search"),
    Row(2, "training, transformer-base", 10, "training.translation", (False,)),
    Row(2, "gpt-char, CUDA graphs", 12, "training.recorded"),
    Row(2, "profile: GPT-2", 13, "profile.step", (Case("gpt2", 32),)),
    Row(2, "profile: Transformer", 22, "profile.step", (None,)),
    Row(2, "llama-3.2-1b's shape", 17, "training.language", (LLAMA,)),
    Row(2, "profile: Llama", 8, "profile.step", (LLAMA,)),
    Row(2, "gpt2-xl's shape", 17, "training.language", (XL,)),
    Row(2, "profile: gpt-modern with Muon", 12, "profile.step", (MODERN,)),
    Row(2, "training, transformer-base, compiled", 22, "training.translation", (True,)),
    Row(3, "Multi30k", PART_SECONDS - START, "runs.multi30k"),
]
