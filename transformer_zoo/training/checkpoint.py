"""The state of a run, and the checkpoints from which it resumes."""

import math
import re
import struct
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, Self, get_args, get_origin, get_type_hints

import torch

from transformer_zoo.checksums import MARK, verify, write_sealed
from transformer_zoo.errors import UserError, first_line
from transformer_zoo.files import make_folder

SETTLED_RATE = 0.1 + 1e-9
"""If the learning rate has fallen to this share of its peak, an average of weights has nothing left to smooth."""


@dataclass
class Progress:
    """The state of a run between two updates.

    `epoch` and `update` name the next update: its epoch and its index in that epoch. `seconds` is training time, summed
    over restarts. `warmup` is the number of updates in which the learning rate rises, as far as it is known, and
    `rate` is its last value as a share of its peak. `lowest` is the lowest loss in a line of metrics. `snapshots`
    and `best_step` name the weight files that are still needed. `logs` holds the lengths in bytes of the files that
    grow; `data` has a checksum of each text, by the name of its field.
    """

    step: int = 0
    epoch: int = 0
    update: int = 0
    tokens: int = 0
    seconds: float = 0.0
    warmup: float = 0.0
    rate: float = 0.0
    lowest: float = math.inf
    best: float | None = None
    best_step: int | None = None
    bad_validations: int = 0
    validated_step: int = 0
    snapshots: list[int] = field(default_factory=list)
    logs: dict[str, int] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)

    def validated(self, value: float, *, higher: bool) -> bool:
        """Store the result of a validation; returns whether it is the best so far."""
        better = self.best is None or (value > self.best if higher else value < self.best)
        better = better and math.isfinite(value)
        self.bad_validations = 0 if better else self.bad_validations + 1
        self.validated_step = self.step
        if better:
            self.best, self.best_step = value, self.step
        return better

    @classmethod
    def from_plain(cls, fields: Any) -> Self:
        """The progress with these fields. ValueError: they are not the fields of a run."""
        kinds = get_type_hints(cls)
        if not isinstance(fields, dict) or fields.keys() - kinds.keys():
            raise ValueError("its progress is none")
        blank = asdict(cls())
        for name, value in fields.items():
            is_blank = (type(value), value) == (type(blank[name]), blank[name])
            if not (is_blank or _is_a(value, kinds[name])):
                raise ValueError(f"{name} of its progress is {str(value)[:40]}")
        return cls(**fields)


def _is_a(value: object, kind: Any) -> bool:
    """Whether a value is valid for a field of `Progress`: a count is not below zero, and a number is finite."""
    inside = get_args(kind)
    if isinstance(kind, UnionType):
        return any(_is_a(value, one) for one in inside)
    if get_origin(kind) is list:
        return isinstance(value, list) and all(_is_a(one, inside[0]) for one in value)
    if get_origin(kind) is dict:
        return isinstance(value, dict) and all(all(map(_is_a, item, inside)) for item in value.items())
    if kind in (int, float) and type(value) in (int, kind):
        return math.isfinite(value) and (kind is float or 0 <= value < 1 << 63)  # type: ignore[arg-type,operator]
    return type(value) is kind


class Checkpoints:
    """The folder `checkpoints` of a run: `last.pt`, from which it resumes, and weights as safetensors.

    `last.pt` is written after every weight file that it names. The state of an earlier update stays as `previous.pt`,
    with the weights that it names; the run resumes from it if the newest state is damaged. Other weights are removed.
    """

    def __init__(self, run_dir: Path) -> None:
        self.folder = run_dir / "checkpoints"
        self.last, self.previous = self.folder / "last.pt", self.folder / "previous.pt"
        self._named: set[str] = set()  # weights that last.pt names
        self._before: set[str] = set()  # weights that previous.pt names
        self._step: int | None = None  # the update of last.pt; None: there is none, or a damaged one

    @property
    def exist(self) -> bool:
        """Whether there is a state to resume from."""
        return self.last.exists() or self.previous.exists()

    def weights_path(self, step: int, *, best: bool = False) -> Path:
        """Where the weights after update `step` are."""
        return self.folder / f"{'best' if best else 'step'}_{step:06d}.safetensors"

    def save(self, progress: Progress, tensors: Mapping[str, Any]) -> None:
        """Write `last.pt`, then remove the weights that neither it nor `previous.pt` names.

        Raises:
            UserError: the folder is a symbolic link.
        """
        make_folder(self.folder.parent, self.folder.name)
        moves = self._step not in (None, progress.step)
        before = self._named if moves else self._before
        state = {"progress": asdict(progress), "before": sorted(before), **tensors}

        def write(part: Path) -> None:
            torch.save(state, part)
            _add_comment(part, MARK.encode())

        write_sealed(self.last, write, keep=self.previous if moves else None)
        self._named, self._before, self._step = self._weights_of(progress), before, progress.step
        self.remove_unnamed()

    def final_paths(self, done: Progress, which: str | None) -> list[Path]:
        """The weights whose mean would be the result if training ended there; `which` is `checkpoint.final_weights`."""
        which = which or ("last" if done.rate <= SETTLED_RATE else "average")
        if which == "best" and done.best_step is not None:
            return [self.weights_path(done.best_step, best=True)]
        return [self.weights_path(step) for step in done.snapshots[0 if which == "average" else -1 :]]

    def remove_unnamed(self) -> None:
        """Remove the weights that neither state names."""
        for path in self.folder.glob("*.safetensors"):
            if re.fullmatch(r"(best|step)_\d{6,}", path.stem) and path.name not in self._named | self._before:
                path.unlink()

    def _weights_of(self, progress: Progress) -> set[str]:
        best = [] if progress.best_step is None else [self.weights_path(progress.best_step, best=True)]
        return {path.name for path in [*map(self.weights_path, progress.snapshots), *best]}

    def load(
        self, needed: Callable[[Progress], Iterable[Path]] = lambda _: ()
    ) -> tuple[Progress, dict[str, Any]] | None:
        """The state that `save` wrote, its tensors on the CPU as a private map of the file; None if there is none.

        If `last.pt`, or a file of weights that is `needed` for it, is damaged or missing, it is the state before that,
        and a warning names the file.

        Raises:
            UserError: nothing that was saved can be used.
        """
        wrong: list[str] = []
        for path in (self.last, self.previous):
            if not path.exists():
                continue
            try:
                progress, state = _read_state(path)
                for weights in needed(progress):
                    if not weights.is_file():
                        raise UserError(f"{weights} is gone: put it back")
                    verify(weights)
            except UserError as error:
                wrong.append(str(error))
                continue
            if wrong:
                warnings.warn(f"{wrong[0]}. Training resumes from {path}, update {progress.step}", stacklevel=2)
            self._named, self._before = self._weights_of(progress), set(state.pop("before"))
            self._step = progress.step if path == self.last else None
            if path == self.previous:
                self._before = self._named
            return progress, state
        if wrong:
            raise UserError(f"{wrong[0]}, or remove {self.folder} to start the run again")
        return None


def _read_state(path: Path) -> tuple[Progress, dict[str, Any]]:
    """Read what `Checkpoints.save` wrote. UserError: it is anything else."""
    verify(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if not all(isinstance(name, str) for name in state["before"]):
            raise ValueError("before")
        return Progress.from_plain(state.pop("progress")), state
    except Exception as error:  # what reading a stranger's file raises has no common base
        raise UserError(f"{path} is damaged ({first_line(error)}): put it back from a copy") from None


def _add_comment(path: Path, comment: bytes) -> None:
    """Add a comment to a zip file that has none yet."""
    with path.open("rb+") as file:
        file.seek(-2, 2)  # the length of the comment ends the file
        file.write(struct.pack("<H", len(comment)) + comment)


def check_texts(old: Mapping[str, str], new: Mapping[str, str], run_dir: Path) -> None:
    """Check that a run resumes with the texts it was trained on and validated by. A changed test only gives a warning.

    Both arguments have checksums by the names of fields: the `data` of `Progress`, and those of the texts given now.

    Raises:
        UserError: one of the texts has changed.
    """
    for name in sorted(old.keys() & new.keys()):
        if old[name] == new[name]:
            continue
        if name.startswith("data.tests."):
            warnings.warn(f"{name} is another text than before; the run will be scored on the new one", stacklevel=2)
        else:
            raise UserError(
                f"{run_dir} was trained with another text than {name} is now: put that text back, or give another "
                "run_dir"
            )
