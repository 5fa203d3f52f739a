"""What the trainer and its options need to know about language models: the recipe's fields and the objective."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from transformer_zoo.config import PROBABILITIES, DecoderConfig
from transformer_zoo.data import TextFiles, TokenBatch
from transformer_zoo.errors import UserError
from transformer_zoo.models import DecoderOnly, check_decoder_only
from transformer_zoo.tokenizers import TokenizerSettings
from transformer_zoo.training.config import RunConfig, TrainingConfig, ValidationConfig
from transformer_zoo.training.folder import check_folder
from transformer_zoo.training.initial import check_init_from
from transformer_zoo.training.loss import flat_tokens, linear_cross_entropy, total_nll
from transformer_zoo.training.options import overrides_of


@dataclass(kw_only=True)
class TextConfig:
    """The text.

    Args:
        train: Training text.
        validation: Text that is held out.
        tokens: Folder of the tokenized text, which runs can share; by default `tokens` in the run's folder.
        workers: Threads that tokenize; 0 for one a core.
        length: Tokens of a training window; by default the model's max_seq_len, which in turn becomes this where the
            recipe does not give it, nor goes on from a model that has one.
        packed_documents: Block attention between documents of a window, and start their positions again.
    """

    train: TextFiles
    validation: TextFiles
    tokens: str | None = None
    workers: int = 0
    length: int | None = None
    packed_documents: bool = False


@dataclass(kw_only=True)
class GptTraining(TrainingConfig):
    """What one update is made of, and when training stops. The first limit that is reached stops it.

    Args:
        recompute: Keep only the input of each layer and compute the rest again in the backward pass: much less memory
            for a third more time.
    """

    recompute: bool = False


@dataclass(kw_only=True)
class GptValidation(ValidationConfig):
    """When a run is validated, over the whole validation text, and which checkpoint counts as the best.

    Args:
        prompt: What sample texts begin with; by default the first line of the validation text.
        sample_tokens: Tokens of a sample.
        temperature: Of the samples; 0 takes the most probable token.
        top_k: Samples choose among so many tokens; 0 for all.
        write_special: Let samples have the unknown token, padding and the token for a begin, which are no text.
    """

    samples: int = 1
    prompt: str | None = None
    sample_tokens: int = 100
    temperature: float = 0.8
    top_k: int = 200
    write_special: bool = False


if TYPE_CHECKING:
    ModelOverrides = Any
else:
    # The tokenizer decides the rest.
    ModelOverrides = overrides_of(DecoderConfig, preset="gpt2", skip=("vocab_size", "pad_id", "bos_id", "eos_id"))


@dataclass(kw_only=True)
class GptRecipe(RunConfig):
    """A run of a language model, from raw text to bits per byte.

    Args:
        data: Files of text.
        training: Updates and limits.
        validation: Validation and samples.
        model: A preset of the zoo and fields to change in it.
        tokenizer: How text becomes tokens; kept in the run.
    """

    data: TextConfig
    training: GptTraining = field(default_factory=GptTraining)
    validation: GptValidation = field(default_factory=GptValidation)
    model: ModelOverrides = field(default_factory=ModelOverrides)
    tokenizer: TokenizerSettings = field(default_factory=TokenizerSettings)

    def validate(self) -> None:
        """Checks the ranges of all fields and how they fit together.

        Raises:
            UserError: names the field.
        """
        super().validate()
        check_init_from(self.model, self.tokenizer, of_model=(*PROBABILITIES, "max_seq_len"))
        settings = self.tokenizer
        if settings.vocab_size is not None and settings.vocab_size < 2:
            raise UserError(f"tokenizer.vocab_size is {settings.vocab_size}, expected at least 2")
        settings.check()
        for name in ("train", "validation"):
            files: TextFiles = getattr(self.data, name)
            try:
                files.files()
            except UserError as error:
                raise UserError(f"data.{name}: {error}") from None
            for field_name, written in (("run_dir", self.run_dir), ("data.tokens", self.data.tokens)):
                if written is not None and (folder := files.folder_around(Path(written).expanduser())):
                    raise UserError(f"{field_name}: {written} is in {folder}, whose files are all text of data.{name}")
        if self.data.tokens is not None:
            check_folder("data.tokens", Path(self.data.tokens).expanduser())


class GptObjective(nn.Module):
    """Cross-entropy of a batch's next tokens, a sum.

    `forward(batch)` gives it twice, () float32 in nats: as the loss, and as the plain NLL, without gradient.
    """

    def __init__(self, model: DecoderOnly) -> None:
        check_decoder_only(model, "GptObjective")
        super().__init__()
        self.model = model
        self._compiled: Callable[..., tuple[Tensor, Tensor]] | None = None

    def compile(self, *args: Any, **options: Any) -> None:
        """Compiles training from the tokens to the loss; samples have their own shapes.

        Two graphs at most: of the batches of an epoch, and of its last one, which may have fewer windows.
        """
        self._compiled = torch.compile(self._loss, *args, **{"dynamic": False, **options})

    def forward(self, batch: TokenBatch) -> tuple[Tensor, Tensor]:
        loss = self._loss if self._compiled is None or not self.training else self._compiled
        return loss(batch.ids, batch.targets, batch.positions, batch.documents)

    def _loss(
        self, ids: Tensor, targets: Tensor, positions: Tensor | None, documents: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        hidden = self.model.hidden(ids, positions=positions, documents=documents)  # (B, T, D)
        hidden, targets = flat_tokens(hidden, targets)
        config = self.model.config
        return linear_cross_entropy(
            hidden,
            self.model.head_weight,
            targets,
            softcap=config.logit_softcap,
            vocab_size=config.vocab_size,
        )


def text_metrics(objective: GptObjective, batches: Iterable[TokenBatch], n_bytes: int) -> dict[str, int | float]:
    """Mean NLL per token in nats ("loss"), perplexity, and bits per byte of a text of `n_bytes`."""
    total, n_tokens = total_nll(objective, batches)
    nll = total / n_tokens
    return {
        "loss": nll,
        "perplexity": math.exp(min(nll, 700)),
        "bits_per_byte": total / math.log(2) / n_bytes,
    }
