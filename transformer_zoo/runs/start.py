"""What training starts from where it does not start from scratch: `model.init_from`."""

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
    """A model to go on from: its configuration, its tokenizer, and its weights where no checkpoint has others.

    `max_source_tokens` is the longest source that it was trained on, of an encoder-decoder.
    """

    config: C
    tokenizer: T
    weights: Weights | None
    max_source_tokens: int = 0

    def load_into(self, model: nn.Module) -> None:
        """Give the weights to a model of this configuration; here they are forgotten."""
        if self.weights is not None:
            model.load_state_dict(self.weights)
            self.weights = None


def is_going_on(run_dir: Path) -> bool:
    """Whether the folder holds a run that something was trained of."""
    return Checkpoints(run_dir).exist


def check_kind(kind: Kind[R, C, T, M], config: ModelConfig, name: str) -> None:
    """UserError: what is called `name` is of another kind, which another recipe trains."""
    if not isinstance(config, kind.config):
        other = next(one for one in KINDS if isinstance(config, one.config))
        raise UserError(f"{name} is {other.name}; train it with {other.recipes}/train.py")


def start_from(kind: Kind[R, C, T, M], recipe: R, run_dir: Path) -> Start[C, T] | None:
    """The model that `model.init_from` names; None where training starts from scratch.

    A run that goes on has all of it in its own folder.

    Raises:
        UserError: it cannot be read, is of another kind, or is nothing that this recipe can go on from.
    """
    init_from = recipe.model.init_from
    if init_from is None:
        return None
    if is_going_on(run_dir):
        about = read_model_json(run_dir)
        assert isinstance(about.config, kind.config)  # the folder is this recipe's
        tokenizer = kind.load_tokenizer(run_dir / "tokenizer")
        return Start(about.config, tokenizer, None, about.max_source_tokens or 0)
    run: Any  # of any kind; its tokenizer is that of its configuration
    with naming("model.init_from"):
        run = load_run(init_from)
        check_kind(kind, run.model.config, init_from)
    config, tokenizer = kind.adapt(recipe, run.model.config, run.tokenizer)
    kind.model_config(recipe, tokenizer, config)  # do the fields fit?
    return Start(config, tokenizer, run.model.state_dict(), getattr(run, "max_source_tokens", 0))
