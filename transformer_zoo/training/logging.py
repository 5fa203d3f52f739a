"""What a run says while it trains: metrics.jsonl, samples.txt, TensorBoard, and the terminal."""

import errno
import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from transformer_zoo.files import make_folder, open_own
from transformer_zoo.training.signals import silence_lost_output

Number = int | float
FILES = ("metrics.jsonl", "samples.txt")
"""The files of a run that grow."""


class RunLog:
    """The growing files of a run, and the console.

    `sizes` goes into a checkpoint. Opened again with it, the files are cut back to what they held then, so
    that what a killed run wrote after its last checkpoint, a torn line included, is not there twice.
    """

    def __init__(self, run_dir: Path, *, sizes: dict[str, int], step: int, total: int | None) -> None:
        self.files = {name: open_own(run_dir / name) for name in FILES}
        for name, file in self.files.items():
            file.truncate(min(sizes.get(name, 0), file.seek(0, 2)))
            file.seek(0, 2)
        self.tensorboard = self._open_tensorboard(run_dir, step)
        self.bar: Any = None
        if isinstance(sys.stdout, io.TextIOWrapper):  # which may know fewer characters than the samples have
            sys.stdout.reconfigure(errors="backslashreplace")
        if sys.stderr.isatty():
            self.bar = tqdm(total=total, initial=step, unit="update", dynamic_ncols=True)

    @staticmethod
    def _open_tensorboard(run_dir: Path, step: int) -> Any:
        from torch.utils.tensorboard import SummaryWriter  # imports slowly

        return SummaryWriter(str(make_folder(run_dir, "tensorboard")), purge_step=step + 1)

    def metrics(self, kind: str, step: int, values: dict[str, Number]) -> None:
        """One record, for metrics.jsonl, for TensorBoard, and for the terminal's bar or as a line."""
        line = json.dumps({"kind": kind, "step": step, **values}) + "\n"
        self._append("metrics.jsonl", line)
        for name, value in values.items():
            self.tensorboard.add_scalar(f"{kind}/{name}", value, step)
        text = "  ".join(f"{name} {show(value)}" for name, value in values.items())
        if self.bar is not None and kind == "train":
            self.bar.set_postfix_str(text)
            self.bar.update(step - self.bar.n)
        else:
            self.say(f"{kind} {step}  {text}")

    def samples(self, step: int, samples: list[str]) -> None:
        """Sample outputs, shown and kept in samples.txt."""
        if samples:
            text = "\n".join(samples)
            self._append("samples.txt", f"== update {step}\n{text}\n")
            self.tensorboard.add_text("samples", text.replace("\n", "  \n"), step)
            self.say(text)

    def say(self, text: str) -> None:
        """Prints a line above the bar, where there is one. Training does not end because nobody reads it any more."""
        try:
            if self.bar is not None:
                self.bar.write(text)
            else:
                print(text, flush=True)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            silence_lost_output()

    def sizes(self) -> dict[str, int]:
        return {name: file.tell() for name, file in self.files.items()}

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
        self.tensorboard.close()
        for file in self.files.values():
            file.close()

    def _append(self, name: str, text: str) -> None:
        self.files[name].write(text.encode("utf-8"))
        self.files[name].flush()


def in_words(metrics: Mapping[str, Number]) -> str:
    """Metrics that a run ends with, one after the other."""
    return "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())


def show(value: Number) -> str:
    """A number short enough for a line of the console."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
