"""What training starts from if it does not start from scratch: `model.init_from`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from torch import nn

from transformer_zoo.config import ModelConfig
from transformer_zoo.errors import UserError, naming
from transformer_zoo.runs.load import load_run
from transformer_zoo.runs.model_json import read_model_json
from transformer_zoo.training.checkpoint import Checkpoints
from transformer_zoo.training.tasks.kind import C, Kind, M, R, T
from transformer_zoo.training.tasks.kinds import KINDS
from transformer_zoo.training.weights import Weights


@dataclass
class Start(Generic[C, T]):
    """A model to continue from: its configuration, its tokenizer, and its weights unless a checkpoint has newer ones.

    `max_source_tokens` is the longest source that it was trained on, for an encoder-decoder.
    """

    config: C
    tokenizer: T
    weights: Weights | None
    max_source_tokens: int = 0

    def load_into(self, model: nn.Module) -> None:
        """Give the weights to a model of this configuration; they are not kept here."""
        if self.weights is not None:
            model.load_state_dict(self.weights)
            self.weights = None


def is_going_on(run_dir: Path) -> bool:
    """Whether the folder holds a run in which something was trained."""
    return Checkpoints(run_dir).exist


def check_kind(kind: Kind[R, C, T, M], config: ModelConfig, name: str) -> None:
    """Raise a UserError: the model called `name` is of another kind, which another recipe trains."""
    if not isinstance(config, kind.config):
        other = next(one for one in KINDS if isinstance(config, one.config))
        raise UserError(f"{name} is {other.name}; train it with {other.recipes}/train.py")


def start_from(kind: Kind[R, C, T, M], recipe: R, run_dir: Path) -> Start[C, T] | None:
    """The model that `model.init_from` names; None if training starts from scratch.

    A resumed run has everything in its own folder.

    Raises:
        UserError: the model cannot be read, is of another kind, or this recipe cannot continue from it.
    """
    init_from = recipe.model.init_from
    if init_from is None:
        return None
    if is_going_on(run_dir):
        about = read_model_json(run_dir)
        assert isinstance(about.config, kind.config)  # the folder is this recipe's
        tokenizer = kind.load_tokenizer(run_dir / "tokenizer")
        return Start(about.config, tokenizer, None, about.max_source_tokens or 0)
    run: Any  # of any kind; the tokenizer belongs to its configuration
    with naming("model.init_from"):
        run = load_run(init_from)
        check_kind(kind, run.model.config, init_from)
    config, tokenizer = kind.adapt(recipe, run.model.config, run.tokenizer)
    kind.model_config(recipe, tokenizer, config)  # do the fields fit?
    return Start(config, tokenizer, run.model.state_dict(), getattr(run, "max_source_tokens", 0))
