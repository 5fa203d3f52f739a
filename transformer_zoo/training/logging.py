"""What a run prints and writes while it trains: metrics.jsonl, samples.txt, trackers, and the terminal."""

import errno
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from transformer_zoo.files import open_own
from transformer_zoo.training.signals import silence_lost_output
from transformer_zoo.training.trackers import Number, Tracker

FILES = ("metrics.jsonl", "samples.txt")
"""The files of a run that grow."""
IN_THE_BAR = ("loss", "tokens_per_second", "lr")


class RunLog:
    """The growing files of a run, and the console.

    `sizes` goes into a checkpoint. When the files are opened again with it, they are cut back to these sizes. So
    nothing that a killed run wrote after its last checkpoint, such as half a line, is there twice. `share` of the run
    is done already.
    """

    def __init__(
        self, run_dir: Path, trackers: Sequence[Tracker] = (), *, sizes: dict[str, int], share: float = 0.0
    ) -> None:
        self.files = {name: open_own(run_dir / name) for name in FILES}
        for name, file in self.files.items():
            file.truncate(min(sizes.get(name, 0), file.seek(0, 2)))
            file.seek(0, 2)
        self.trackers = trackers
        self.bar: Any = None
        if isinstance(sys.stdout, io.TextIOWrapper):  # which may lack characters of the samples
            sys.stdout.reconfigure(errors="backslashreplace")
        if sys.stderr.isatty():
            form = "{percentage:3.0f}%|{bar}| {desc} [{elapsed}<{remaining}{postfix}]"
            self.bar = tqdm(total=1.0, initial=share, bar_format=form, miniters=0, dynamic_ncols=True)
        for tracker in trackers:
            self.say(tracker.where)

    def moved(self, share: float, place: str) -> None:
        """Move the progress bar, if there is one: `share` of the run is done, in words `place`."""
        if self.bar is not None:
            self.bar.set_description_str(place, refresh=False)
            self.bar.update(min(share, 1.0) - self.bar.n)

    def metrics(self, kind: str, step: int, values: dict[str, Number]) -> None:
        """Write one record to metrics.jsonl, to the trackers, and to the terminal's bar or as a line."""
        line = json.dumps({"kind": kind, "step": step, **values}) + "\n"
        self._append("metrics.jsonl", line)
        for tracker in self.trackers:
            tracker.scalars({f"{kind}/{name}": value for name, value in values.items()}, step)
        if self.bar is not None and kind == "train":
            shown = {name: value for name, value in values.items() if name in IN_THE_BAR}
            self.bar.set_postfix_str(in_short(shown), refresh=False)
        else:
            self.say(f"{kind} {step}  {in_short(values)}")

    def samples(self, step: int, samples: list[str]) -> None:
        """Sample outputs, which are printed and kept in samples.txt."""
        if samples:
            text = "\n".join(samples)
            self._append("samples.txt", f"== update {step}\n{text}\n")
            for tracker in self.trackers:
                tracker.text("samples", text, step)
            self.say(text)

    def say(self, text: str) -> None:
        """Print a line above the bar, if there is one. Training does not end because nobody reads the output any
        more."""
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
        for tracker in self.trackers:
            tracker.close()
        for file in self.files.values():
            file.close()

    def _append(self, name: str, text: str) -> None:
        self.files[name].write(text.encode("utf-8"))
        self.files[name].flush()


def in_words(metrics: Mapping[str, Number]) -> str:
    """The metrics that a run ends with, one after the other."""
    return "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())


def in_short(metrics: Mapping[str, Number]) -> str:
    """Metrics one after the other, each short enough for a line of the console."""
    return "  ".join(f"{name} {show(value)}" for name, value in metrics.items())


def show(value: Number) -> str:
    """A number short enough for a line of the console."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
