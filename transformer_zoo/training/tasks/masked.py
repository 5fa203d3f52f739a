"""Masked language modelling as in BERT (Devlin et al. 2019, section 3.1): the recipe, and what the trainer needs."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from transformer_zoo.config import EncoderConfig, WordsSpec
from transformer_zoo.data import MaskedWindows, TokenBatch, TokenFile
from transformer_zoo.data.windows import IGNORED
from transformer_zoo.errors import UserError
from transformer_zoo.models import EncoderOnly
from transformer_zoo.threads import adapt
from transformer_zoo.tokenizers import Tokenizer
from transformer_zoo.training.overrides import overrides_of
from transformer_zoo.training.task import Task
from transformer_zoo.training.tasks.kind import Kind
from transformer_zoo.training.tasks.objectives import MaskedObjective
from transformer_zoo.training.tasks.text import ROOM_FOR_SPECIAL, TextData, TextRecipe, text_model_config, text_task

ROWS = 1024  # whose logits are held at once
SHOWN = 100  # tokens of a sample


@dataclass(frozen=True, kw_only=True)
class MaskedText(TextData):
    """The text, and how much of it is masked.

    Args:
        masked: Share of the tokens that must be guessed; BERT has 0.15. Of these, 80 % are hidden, 10 % are replaced by
            another token, and 10 % stay.
    """

    masked: float


if TYPE_CHECKING:
    ModelOverrides = Any
else:
    # The tokenizer decides the rest.
    ModelOverrides = overrides_of(EncoderConfig, preset="bert-base", skip=("vocab_size", "pad_id", "mask_id"))


@dataclass(frozen=True, kw_only=True)
class MaskedRecipe(TextRecipe):
    """A run of an encoder alone, from raw text to the accuracy of its guesses.

    Args:
        data: Files of text.
        model: A preset of the zoo and fields to change in it.

    Examples:
        transformer-zoo train my.yaml
        transformer-zoo train my.yaml --run_dir runs/short --training.max_minutes 15 --seed 2
        transformer-zoo train my.yaml --model.d_model 256 --data.masked 0.2 --optimizer.lr 0.005
    """

    data: MaskedText
    model: ModelOverrides = field(default_factory=ModelOverrides)

    def validate(self) -> None:
        """As `TextRecipe`, and the share of tokens that are guessed."""
        super().validate()
        if not 0 < self.data.masked < 1:
            raise UserError(f"data.masked is {self.data.masked}, expected a share between 0 and 1, such as 0.15")


def model_config(
    recipe: MaskedRecipe, tokenizer: Tokenizer | None = None, start: EncoderConfig | None = None
) -> EncoderConfig:
    """The preset with the recipe's changes. Its vocabulary is the tokenizer's, followed by pad and mask."""
    n = tokenizer.vocab_size if tokenizer else recipe.tokenizer.vocab_size or ROOM_FOR_SPECIAL
    ids = {"vocab_size": n + 2, "pad_id": n, "mask_id": n + 1}
    config = text_model_config(recipe, EncoderConfig, ids, start)
    if not isinstance(config.head, WordsSpec) or config.mask_id is None:
        lack = "head that guesses words" if config.mask_id is not None else "token that stands for one to be guessed"
        raise UserError(f"model: {recipe.model.init_from or recipe.model.preset} has no {lack}")
    return config


def masked_task(
    recipe: MaskedRecipe, model: EncoderOnly, tokenizer: Tokenizer, train: TokenFile, validation: TokenFile
) -> Task:
    """Windows with masks, model, loss and validation: what the trainer must know about encoders."""
    objective, config = MaskedObjective(model), model.config
    ends = () if tokenizer.eos_id is None else (tokenizer.eos_id,)
    mask_id = config.mask_id
    assert mask_id is not None  # such a model is refused before
    windows, held_out = (
        MaskedWindows(
            tokens,
            recipe.data.length or config.max_seq_len,
            share=recipe.data.masked,
            mask_id=mask_id,
            vocab_size=tokenizer.vocab_size,
            special={*tokenizer.special_ids, *tokenizer.start_ids, *ends},
        )
        for tokens in (train, validation)
    )
    if not any(batch.n_tokens for batch in held_out.evaluation(batch_size=1)):
        raise UserError(f"data.validation: of its {validation.n_tokens:,} tokens none is to be guessed; give more text")
    samples = partial(guessed_samples, recipe.validation.samples, model, tokenizer, held_out)
    return text_task(recipe, objective, tokenizer, (windows, held_out), metrics=masked_metrics, samples=samples)


@torch.no_grad()
def masked_metrics(objective: MaskedObjective, batches: Iterable[TokenBatch]) -> dict[str, int | float]:
    """Mean NLL per guessed token in nats ("loss"), perplexity, and the share of guesses that are right."""
    model, nats, right, n_tokens = objective.eval().model, 0.0, 0, 0
    for batch in batches:
        adapt()
        chosen = batch.targets != IGNORED
        hidden = model.hidden(batch.ids.to(model.head_weight.device))[chosen]  # (N, D)
        targets = batch.targets[chosen].to(hidden.device)
        for rows, right_ids in zip(hidden.split(ROWS), targets.split(ROWS), strict=True):
            logits = model.logits(rows).float()
            nats += F.cross_entropy(logits, right_ids, reduction="sum").item()
            right += int((logits.argmax(-1) == right_ids).sum())
        n_tokens += batch.n_tokens
    nll = nats / n_tokens
    return {"loss": nll, "perplexity": math.exp(min(nll, 700)), "accuracy": right / n_tokens}


@torch.no_grad()
def guessed_samples(n: int, model: EncoderOnly, tokenizer: Tokenizer, held_out: MaskedWindows) -> list[str]:
    """Beginnings of the first n windows, and for each token to be guessed the right one and the guess."""
    if not n:
        return []
    batch = next(held_out.evaluation(batch_size=n))
    guesses = model.eval()(batch.ids.to(model.head_weight.device)).argmax(-1).cpu()  # (B, T)
    chosen = batch.targets != IGNORED
    texts = torch.where(chosen, batch.targets, batch.ids)
    samples = []
    for rows in zip(texts[:, :SHOWN].tolist(), guesses.tolist(), chosen.tolist(), strict=True):
        before: list[int] = []
        text = ""
        for token, guessed, is_chosen in zip(*rows, strict=False):
            right, other = (tokenizer.readable([*before, one])[-1] for one in (token, guessed))
            text += f"[{right}: {other}]" if is_chosen else right
            before = [token]
        samples.append(text + "\n")
    return samples


MASKED = Kind(
    name="an encoder",
    recipes="recipes/masked",
    marks=frozenset({"masked"}),
    use="vectors of texts with: transformer-zoo embed {}",
    recipe=MaskedRecipe,
    config=EncoderConfig,
    load_tokenizer=Tokenizer.load,
    model=EncoderOnly,
    model_config=model_config,
)
