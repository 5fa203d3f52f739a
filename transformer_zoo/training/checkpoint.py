"""Checkpoints of a run, their average, and loading a finished run."""

import math
import pickle
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from transformer_zoo.config import EncoderDecoderConfig
from transformer_zoo.data.imported_translation import load_translation_tokenizer
from transformer_zoo.data.subword_tokenizers import load_text_tokenizer
from transformer_zoo.data.text_tokenizers import TextTokenizer
from transformer_zoo.errors import UserError
from transformer_zoo.files import write_atomically
from transformer_zoo.models import DecoderOnly, EncoderDecoder
from transformer_zoo.training.model_json import (
    AnyTranslationTokenizer,
    check_text_tokenizer,
    check_translation_tokenizer,
    first_line,
    read_model_json,
)

Weights = dict[str, Tensor]


@dataclass
class Progress:
    """Where a run stands, between two updates.

    `epoch` and `update` name the next update: its pass over the text and its place in that pass. `seconds` is
    training time summed over restarts; `warmup` is for how many updates the learning rate rises, as far as that is
    known, and `rate` what it was last, as a share of its peak. `lowest` is the least loss of a line of metrics.
    `snapshots` and `best_step` name the weight files that still count; `logs` holds the lengths in bytes of the files
    that grow; `data` names what is trained on.
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
    data: str = ""


class Checkpoints:
    """The folder `checkpoints` of a run: `last.pt` to go on from, and weights as safetensors.

    `last.pt` is written after every weight file that it names, and a file is removed once it is not named.
    """

    def __init__(self, run_dir: Path) -> None:
        self.folder = run_dir / "checkpoints"

    def weights_path(self, step: int, *, best: bool = False) -> Path:
        """Where the weights after update `step` are."""
        return self.folder / f"{'best' if best else 'step'}_{step:06d}.safetensors"

    def save(self, progress: Progress, tensors: Mapping[str, Any]) -> None:
        """Writes `last.pt`, then removes the weights it no longer names."""
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {"progress": asdict(progress), **tensors}
        write_atomically(self.folder / "last.pt", lambda part: torch.save(state, part))
        keep = {self.weights_path(step) for step in progress.snapshots}
        if progress.best_step is not None:
            keep.add(self.weights_path(progress.best_step, best=True))
        for path in self.folder.glob("*.safetensors*"):
            if path not in keep:
                path.unlink()

    def load(self) -> tuple[Progress, dict[str, Any]] | None:
        """What `save` wrote, tensors on the CPU; None where nothing was.

        Raises:
            UserError: the file cannot be read.
        """
        path = self.folder / "last.pt"
        if not path.exists():
            return None
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            return Progress(**state.pop("progress")), state
        except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
            raise UserError(f"{path} is damaged ({first_line(error)}); remove it to start the run again") from None


def copy_weights(model: nn.Module) -> Weights:
    """The model's state on the CPU, each tensor in memory of its own."""
    return {name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()}


def save_weights(path: Path, weights: Weights) -> None:
    """Writes safetensors atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda part: save_file(weights, part))


def load_weights(path: Path) -> Weights:
    """Tensors of a safetensors file, on the CPU.

    Raises:
        UserError: no such file, or not safetensors.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
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
    tokenizer: AnyTranslationTokenizer
    recipe: dict[str, Any]
    max_source_tokens: int


@dataclass(frozen=True)
class TextRun:
    """A trained decoder-only run: its model in evaluation mode, its tokenizer, and the recipe it was trained with."""

    model: DecoderOnly
    tokenizer: TextTokenizer
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
    try:
        recipe = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(f"{folder}: config.yaml is damaged ({first_line(error)})") from None
    if isinstance(about.config, EncoderDecoderConfig):
        model = EncoderDecoder(about.config)
        _load_model(model, folder, device)
        tokenizer = load_translation_tokenizer(folder / "tokenizer")
        check_translation_tokenizer(folder, about.config, tokenizer)
        return Run(model, tokenizer, recipe, about.max_source_tokens or model.config.max_seq_len)
    text_tokenizer = load_text_tokenizer(folder / "tokenizer")
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
