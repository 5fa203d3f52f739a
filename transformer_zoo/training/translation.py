"""What the trainer and its options need to know about translation: the recipe's fields and the objective."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from transformer_zoo.config import EncoderDecoderConfig
from transformer_zoo.data import Batch, Cleaning, ParallelFiles, TokenizerSettings
from transformer_zoo.models import EncoderDecoder
from transformer_zoo.training.config import RunConfig
from transformer_zoo.training.loss import linear_cross_entropy
from transformer_zoo.training.options import overrides_of


@dataclass(kw_only=True)
class DataConfig:
    """The text.

    Args:
        source_lang: Code of the source language, for people and for the scores.
        target_lang: Code of the target language.
        train: Training pairs.
        validation: Pairs that choose the best checkpoint.
        tests: Pairs that the finished run is scored on, by name.
        cleaning: Which training pairs are dropped.
    """

    source_lang: str
    target_lang: str
    train: ParallelFiles
    validation: ParallelFiles
    tests: dict[str, ParallelFiles] = field(default_factory=dict)
    cleaning: Cleaning = field(default_factory=Cleaning)


@dataclass(kw_only=True)
class TestConfig:
    """How the finished run translates the tests.

    Args:
        beam: Hypotheses kept for each sentence.
        length_penalty: alpha; 0 prefers short translations, more prefers longer ones.
        penalty: `gnmt`: ((5 + length) / 6)^alpha as in the paper; `length`: length^alpha.
        bleu_tokenize: sacreBLEU's tokenizer; `none` for text that is tokenized already.
    """

    beam: int = 5
    length_penalty: float = 0.6
    penalty: Literal["gnmt", "length"] = "gnmt"
    bleu_tokenize: str = "13a"


if TYPE_CHECKING:
    ModelOverrides = Any
else:
    # The tokenizer decides the rest.
    decided = ("vocab_size", "target_vocab_size", "pad_id", "bos_id", "eos_id")
    ModelOverrides = overrides_of(EncoderDecoderConfig, preset="transformer-base", skip=decided)


@dataclass(kw_only=True)
class Recipe(RunConfig):
    """A translation run, from raw text to BLEU.

    Args:
        data: Files of text.
        model: A preset of the zoo and fields to change in it.
        tokenizer: Vocabulary, trained on the training text and kept in the run.
        test: Translation and scoring of the tests.
    """

    data: DataConfig
    model: ModelOverrides = field(default_factory=ModelOverrides)
    tokenizer: TokenizerSettings = field(default_factory=TokenizerSettings)
    test: TestConfig = field(default_factory=TestConfig)


class TranslationObjective(nn.Module):
    """Cross-entropy of a batch's real target tokens, given the source and the earlier targets; a sum.

    `forward(batch)` gives (smoothed loss, plain NLL), both () float32 in nats. Smoothing is for training: in
    evaluation mode both are the plain NLL.
    """

    def __init__(self, model: EncoderDecoder, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.model = model
        self.label_smoothing = label_smoothing
        self._compiled: Callable[..., Tensor] | None = None

    def compile(self, *args: Any, **options: Any) -> None:
        """Compiles the model for training: the loss loops over chunks, beam search has its own shapes."""
        self._compiled = torch.compile(self.model.hidden, *args, **options)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        source, target, source_mask, target_mask = (
            batch.source, batch.target_in, batch.source_mask, batch.target_mask
        )  # fmt: skip
        if self._compiled is not None and self.training:
            # One graph: without a mask where nothing is padded there would be four.
            source_mask = torch.ones_like(source, dtype=torch.bool) if source_mask is None else source_mask
            target_mask = torch.ones_like(target, dtype=torch.bool) if target_mask is None else target_mask
            hidden = self._compiled(source, target, source_mask, target_mask)  # (B, Tt, D)
        else:
            hidden = self.model.hidden(source, target, source_mask, target_mask)
        hidden, targets = hidden.flatten(0, 1), batch.target_out.flatten()
        if batch.target_mask is not None:
            # The number of real tokens is known here; asking a GPU for it would wait for its queue.
            real = torch.nonzero_static(batch.target_mask.flatten(), size=batch.n_tokens).squeeze(1)  # (N,)
            hidden, targets = hidden[real], targets[real]
        if torch.is_autocast_enabled(hidden.device.type):
            hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
        smoothing = self.label_smoothing if self.training else 0.0
        return linear_cross_entropy(hidden, self.model.head_weight, targets, label_smoothing=smoothing)


@torch.no_grad()
def mean_nll(objective: TranslationObjective, batches: Iterable[Batch]) -> float:
    """Plain negative log-likelihood per target token, eos included, in nats: the log of the perplexity."""
    objective.eval()
    device = next(objective.parameters()).device
    total, n_tokens = torch.zeros((), dtype=torch.float64, device=device), 0
    for batch in batches:
        total += objective(batch.to(device))[1]
        n_tokens += batch.n_tokens
    return total.item() / n_tokens
