"""Checkpoints of a run, their average, and loading a finished run."""

import math
import re
import struct
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Self, get_args, get_origin, get_type_hints

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from transformer_zoo.checksums import MARK, verify, write_sealed
from transformer_zoo.config import EncoderDecoderConfig
from transformer_zoo.errors import UserError
from transformer_zoo.files import make_folder
from transformer_zoo.models import DecoderOnly, EncoderDecoder
from transformer_zoo.models.memory import check_weights
from transformer_zoo.tokenizers import Tokenizer, TranslationTokenizer
from transformer_zoo.training.model_json import (
    check_text_tokenizer,
    check_translation_tokenizer,
    first_line,
    read_model_json,
)
from transformer_zoo.training.options import load_recipe

Weights = dict[str, Tensor]


@dataclass
class Progress:
    """Where a run stands, between two updates.

    `epoch` and `update` name the next update: its pass over the text and its place in that pass. `seconds` is
    training time summed over restarts; `warmup` is for how many updates the learning rate rises, as far as that is
    known, and `rate` what it was last, as a share of its peak. `lowest` is the least loss of a line of metrics.
    `snapshots` and `best_step` name the weight files that still count; `logs` holds the lengths in bytes of the files
    that grow; `data` has a checksum of each text, by the name of its field.
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

    @classmethod
    def from_plain(cls, fields: Any) -> Self:
        """The progress of these fields, whatever they are. ValueError: not those of a run."""
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
    """Whether a value is what a field of `Progress` may be: no count is below zero, no number endless."""
    if isinstance(kind, UnionType):
        return any(_is_a(value, one) for one in get_args(kind))
    if kind is NoneType:
        return value is None
    if get_origin(kind) is list:
        return isinstance(value, list) and all(_is_a(one, get_args(kind)[0]) for one in value)
    if get_origin(kind) is dict:
        of_key, of_value = get_args(kind)
        return isinstance(value, dict) and all(_is_a(k, of_key) and _is_a(v, of_value) for k, v in value.items())
    if kind is int:
        return type(value) is int and 0 <= value < 1 << 63
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
    return type(value) is kind


class Checkpoints:
    """The folder `checkpoints` of a run: `last.pt` to go on from, and weights as safetensors.

    `last.pt` is written after every weight file that it names, and that of an earlier update stays as `previous.pt`,
    with the weights it names: what a run goes on from where the newest is damaged. Other weights are removed.
    """

    def __init__(self, run_dir: Path) -> None:
        self.folder = run_dir / "checkpoints"
        self.last, self.previous = self.folder / "last.pt", self.folder / "previous.pt"
        self._named: set[str] = set()  # weights that last.pt names
        self._before: set[str] = set()  # weights that previous.pt names
        self._step: int | None = None  # the update of last.pt; None: there is none, or a damaged one

    @property
    def exist(self) -> bool:
        """Whether there is a state to go on from."""
        return self.last.exists() or self.previous.exists()

    def weights_path(self, step: int, *, best: bool = False) -> Path:
        """Where the weights after update `step` are."""
        return self.folder / f"{'best' if best else 'step'}_{step:06d}.safetensors"

    def save(self, progress: Progress, tensors: Mapping[str, Any]) -> None:
        """Writes `last.pt`, then removes the weights that neither it nor `previous.pt` names.

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

    def remove_unnamed(self) -> None:
        """Removes the weights that neither state names."""
        for path in self.folder.glob("*.safetensors"):
            if re.fullmatch(r"(best|step)_\d{6,}", path.stem) and path.name not in self._named | self._before:
                path.unlink()

    def _weights_of(self, progress: Progress) -> set[str]:
        best = [] if progress.best_step is None else [self.weights_path(progress.best_step, best=True)]
        return {path.name for path in [*map(self.weights_path, progress.snapshots), *best]}

    def load(
        self, needed: Callable[[Progress], Iterable[Path]] = lambda _: ()
    ) -> tuple[Progress, dict[str, Any]] | None:
        """What `save` wrote, tensors on the CPU as a private map of the file; None where nothing was.

        Where `last.pt`, or a file of weights that is `needed` for it, is damaged or gone, it is what `save` wrote
        before that, and a warning names the file.

        Raises:
            UserError: nothing that was saved can be gone on from.
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
                warnings.warn(f"{wrong[0]}. Training goes on from {path}, update {progress.step}", stacklevel=2)
            self._named, self._before = self._weights_of(progress), set(state.pop("before"))
            self._step = progress.step if path == self.last else None
            if path == self.previous:
                self._before = self._named
            return progress, state
        if wrong:
            raise UserError(f"{wrong[0]}, or remove {self.folder} to start the run again")
        return None


def _read_state(path: Path) -> tuple[Progress, dict[str, Any]]:
    """What `Checkpoints.save` wrote. UserError if it is anything else."""
    verify(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if not all(isinstance(name, str) for name in state["before"]):
            raise ValueError("before")
        return Progress.from_plain(state.pop("progress")), state
    except Exception as error:  # what reading a stranger's file raises has no common base
        raise UserError(f"{path} is damaged ({first_line(error)}): put it back from a copy") from None


def _add_comment(path: Path, comment: bytes) -> None:
    """Gives a zip file, which has none yet, a comment."""
    with path.open("rb+") as file:
        file.seek(-2, 2)  # the length of the comment ends the file
        file.write(struct.pack("<H", len(comment)) + comment)


def copy_weights(model: nn.Module) -> Weights:
    """The model's state on the CPU, each tensor in memory of its own."""
    return {name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()}


def save_weights(path: Path, weights: Weights) -> None:
    """Writes safetensors with their checksum, atomically. UserError if the folder is a symbolic link."""
    make_folder(path.parent.parent, path.parent.name)
    write_sealed(path, lambda part: save_file(weights, part, metadata={"checksum": MARK}))


def load_weights(path: Path) -> Weights:
    """Tensors of a safetensors file, on the CPU.

    Raises:
        UserError: no such file, a damaged one, or not safetensors.
    """
    verify(path)
    try:
        return load_file(path)
    except Exception as error:  # safetensors and torch have no common base either
        raise UserError(f"{path}: no weights can be read ({first_line(error)})") from None


def average_checkpoints(paths: Sequence[Path]) -> Weights:
    """The mean of the weights in `paths`, accumulated in float32 (or float64 for float64), in their own type.

    Raises:
        UserError: no path, a file that cannot be read, or files of different models.
    """
    if not paths:
        raise UserError("there is no checkpoint to average")
    first = load_weights(paths[0])
    total = {name: wide(value) for name, value in first.items()}
    for path in paths[1:]:
        weights = load_weights(path)
        if {n: v.shape for n, v in weights.items()} != {n: v.shape for n, v in first.items()}:
            raise UserError(f"{path} and {paths[0]} hold weights of different models")
        for name, value in weights.items():
            total[name] += wide(value)
    return {name: (value / len(paths)).to(first[name].dtype) for name, value in total.items()}


def wide(value: Tensor) -> Tensor:
    """A copy that is precise enough to sum in."""
    return value.to(torch.float64 if value.dtype == torch.float64 else torch.float32, copy=True)


def snapshot_paths(run_dir: Path) -> list[Path]:
    """The weights kept for averaging, oldest first."""
    files: Iterable[Path] = (run_dir / "checkpoints").glob("step_*.safetensors")
    return sorted(files, key=lambda path: int(re.sub(r"\D", "", path.stem)))


@dataclass(frozen=True)
class Run:
    """A trained translation run: its model in evaluation mode, its tokenizer, and the recipe it was trained with.

    `max_source_tokens` is the longest source it was trained on, eos included; of an imported one its `max_seq_len`.
    """

    model: EncoderDecoder
    tokenizer: TranslationTokenizer
    recipe: dict[str, Any]
    max_source_tokens: int


@dataclass(frozen=True)
class TextRun:
    """A trained decoder-only run: its model in evaluation mode, its tokenizer, and the recipe it was trained with."""

    model: DecoderOnly
    tokenizer: Tokenizer
    recipe: dict[str, Any]


def load_run(path: str | Path, *, device: str | torch.device = "cpu") -> Run | TextRun:
    """Model, tokenizer and recipe of the run folder `path`: a `TextRun` if its model is decoder-only.

    Raises:
        UserError: no such folder, a run that has no weights yet, a damaged file, or files that do not fit together.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such run folder")
    for name in ("model.json", "config.yaml", "model.safetensors"):
        if not (folder / name).is_file():
            raise UserError(f"{folder} has no {name}: it is no run, or one whose training has not ended yet")
    about = read_model_json(folder)
    recipe = load_recipe(folder / "config.yaml")
    check_weights(about.config, torch.device(device))
    if isinstance(about.config, EncoderDecoderConfig):
        model = EncoderDecoder(about.config)
        _load_model(model, folder, device)
        tokenizer = TranslationTokenizer.load(folder / "tokenizer")
        check_translation_tokenizer(folder, about.config, tokenizer)
        return Run(model, tokenizer, recipe, about.max_source_tokens or model.config.max_seq_len)
    text_tokenizer = Tokenizer.load(folder / "tokenizer")
    check_text_tokenizer(folder, about.config, text_tokenizer, about.tokenizer)
    writer = DecoderOnly(replace(about.config, eos_id=text_tokenizer.eos_id))
    _load_model(writer, folder, device)
    return TextRun(writer, text_tokenizer, recipe)


def load_translation_run(path: str | Path, *, device: str | torch.device = "cpu") -> Run:
    """`load_run` of an encoder-decoder; any other is refused with a UserError."""
    run = load_run(path, device=device)
    if isinstance(run, TextRun):
        raise UserError(f"{path} is a decoder-only run, which does not translate: use generate, or evaluate --file")
    return run


def load_text_run(path: str | Path, *, device: str | torch.device = "cpu") -> TextRun:
    """`load_run` of a decoder-only model; any other is refused with a UserError."""
    run = load_run(path, device=device)
    if isinstance(run, Run):
        raise UserError(f"{path} is a translation run, which translates: use translate, or evaluate")
    return run


def _load_model(model: nn.Module, folder: Path, device: str | torch.device) -> None:
    """The run's weights into its model, in evaluation mode, on the device."""
    try:
        model.load_state_dict(load_weights(folder / "model.safetensors"))
    except RuntimeError as error:
        which = str(error).splitlines()[-1].strip()  # torch names the tensors below a heading
        raise UserError(
            f"{folder / 'model.safetensors'} does not fit model.json ({which}); put back the weights it was saved with"
        ) from None
    model.to(device).eval()
