"""Checkpoints of a run, their average, and loading a finished run."""

import json
import pickle
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from transformer_zoo.config import EncoderDecoderConfig
from transformer_zoo.data.tokenizers import TranslationTokenizer
from transformer_zoo.errors import UserError
from transformer_zoo.models import EncoderDecoder
from transformer_zoo.training.files import write_atomically, write_json

Weights = dict[str, Tensor]


@dataclass
class Progress:
    """Where a run stands, between two updates.

    `epoch` and `update` name the next update: its pass over the text and its place in that pass. `seconds` is
    training time summed over restarts. `snapshots` and `best_step` name the weight files that still count;
    `logs` holds the lengths in bytes of the files that grow.
    """

    step: int = 0
    epoch: int = 0
    update: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_step: int | None = None
    bad_validations: int = 0
    validated_step: int = 0
    snapshots: list[int] = field(default_factory=list)
    logs: dict[str, int] = field(default_factory=dict)


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
            raise UserError(
                f"{path} is damaged ({first_line(error)}); remove it to start the run again"
            ) from None


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


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
    """A trained run: its model in evaluation mode, its tokenizer, and the recipe it was trained with.

    `max_source_tokens` is the longest source it was trained on, eos included.
    """

    model: EncoderDecoder
    tokenizer: TranslationTokenizer
    config: dict[str, Any]
    max_source_tokens: int


def save_model_config(
    run_dir: Path, family: str, config: EncoderDecoderConfig, *, max_source_tokens: int | None = None
) -> None:
    """Writes model.json: the configuration, and the longest source of the training text, eos included."""
    fields = {"family": family, "max_source_tokens": max_source_tokens, **config.to_dict()}
    write_json(run_dir / "model.json", fields)


def load_run(path: str | Path, *, device: str | torch.device = "cpu") -> Run:
    """Model, tokenizer and recipe of the run folder `path`.

    Raises:
        UserError: no such folder, a run that has no weights yet, or a damaged file.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such run folder")
    for name in ("model.json", "config.yaml", "model.safetensors"):
        if not (folder / name).is_file():
            raise UserError(f"{folder} has no {name}: it is no run, or one whose training has not ended yet")
    try:
        fields = json.loads((folder / "model.json").read_text("utf-8"))
        recipe = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(f"{folder}: model.json or config.yaml is damaged ({first_line(error)})") from None
    if fields.pop("family", None) != "encoder-decoder":
        raise UserError(f"{folder / 'model.json'}: family is not encoder-decoder")
    longest = fields.pop("max_source_tokens", None)
    model = EncoderDecoder(EncoderDecoderConfig.from_dict(fields))
    try:
        model.load_state_dict(load_weights(folder / "model.safetensors"))
    except RuntimeError as error:
        which = str(error).splitlines()[-1].strip()  # torch names the tensors below a heading
        raise UserError(
            f"{folder / 'model.safetensors'} does not fit model.json ({which})"
        ) from None
    tokenizer = TranslationTokenizer.load(folder / "tokenizer")
    return Run(model.to(device).eval(), tokenizer, recipe, longest or model.config.max_seq_len)
