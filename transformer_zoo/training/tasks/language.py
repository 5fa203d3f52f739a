"""Language modelling: the recipe of a run, and what the trainer and a run need to know about it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from transformer_zoo.config import DecoderConfig, Sampling
from transformer_zoo.data import TokenBatch, TokenFile, Windows
from transformer_zoo.errors import naming
from transformer_zoo.inference import encode_prompt, generate
from transformer_zoo.lent import lent, taken
from transformer_zoo.models import DecoderOnly
from transformer_zoo.tokenizers import Tokenizer
from transformer_zoo.training.config import ValidationConfig
from transformer_zoo.training.loss import total_nll
from transformer_zoo.training.overrides import overrides_of
from transformer_zoo.training.task import Task
from transformer_zoo.training.tasks.kind import Kind
from transformer_zoo.training.tasks.objectives import GptObjective
from transformer_zoo.training.tasks.text import ROOM_FOR_SPECIAL, TextData, TextRecipe, text_model_config, text_task


@dataclass(frozen=True, kw_only=True)
class TextConfig(TextData):
    """The text, and how its windows are made.

    Args:
        packed_documents: Block attention between documents of a window, and restart positions at each document.
    """

    packed_documents: bool = False


if TYPE_CHECKING:
    SamplingFields = Sampling
else:
    SamplingFields = lent(Sampling)


@dataclass(frozen=True, kw_only=True)
class GptValidation(ValidationConfig, SamplingFields):
    """When a run is validated on the whole validation text, and which checkpoint counts as the best.

    Args:
        prompt: Beginning of sample texts; by default the first line of the validation text.
        sample_tokens: Number of tokens of a sample.
        write_special: Allow the unknown token, padding and the begin token in samples, though they are not text.
    """

    samples: int = 1
    prompt: str | None = None
    sample_tokens: int = 100
    temperature: float = 0.8
    top_k: int | None = 200
    write_special: bool = False


if TYPE_CHECKING:
    ModelOverrides = Any
else:
    # The tokenizer decides the rest.
    ModelOverrides = overrides_of(DecoderConfig, preset="gpt2", skip=("vocab_size", "pad_id", "bos_id", "eos_id"))


@dataclass(frozen=True, kw_only=True)
class GptRecipe(TextRecipe):
    """A run of a language model, from raw text to bits per byte.

    Args:
        data: Files of text.
        training: Updates and limits.
        validation: Validation and samples.
        model: A preset of the zoo, and fields to change in it.
        tokenizer: How text becomes tokens; kept in the run.

    Examples:
        transformer-zoo train my.yaml
        transformer-zoo train my.yaml --run_dir runs/short --training.max_minutes 15 --seed 2
        transformer-zoo train my.yaml --model.d_model 256 --model.dropout 0.1 --optimizer.lr 0.01
    """

    data: TextConfig
    validation: GptValidation = field(default_factory=GptValidation)
    model: ModelOverrides = field(default_factory=ModelOverrides)

    def validate(self) -> None:
        """As `TextRecipe`, and how samples are drawn."""
        super().validate()
        taken(Sampling, self.validation, "validation")  # which refuses values that it cannot have


def text_metrics(objective: GptObjective, batches: Iterable[TokenBatch], n_bytes: int) -> dict[str, int | float]:
    """Mean NLL per token in nats ("loss"), perplexity, and bits per byte of a text of `n_bytes`."""
    total, n_tokens = total_nll(objective, batches)
    nll = total / n_tokens
    return {
        "loss": nll,
        "perplexity": math.exp(min(nll, 700)),
        "bits_per_byte": total / math.log(2) / n_bytes,
    }


def model_config(
    recipe: GptRecipe, tokenizer: Tokenizer | None = None, start: DecoderConfig | None = None
) -> DecoderConfig:
    """The preset with the recipe's changes and the tokenizer's vocabulary; or the model that training starts from."""
    ids: dict[str, Any] = {"vocab_size": recipe.tokenizer.vocab_size or ROOM_FOR_SPECIAL}
    if tokenizer is not None:
        ids = {"vocab_size": tokenizer.vocab_size, "eos_id": tokenizer.eos_id, "bos_id": None, "pad_id": None}
    return text_model_config(recipe, DecoderConfig, ids, start)


def language_task(
    recipe: GptRecipe, model: DecoderOnly, tokenizer: Tokenizer, train: TokenFile, validation: TokenFile
) -> Task:
    """Windows, model, loss and validation: what the trainer must know about language models."""
    objective = GptObjective(model)
    length, packed = recipe.data.length or model.config.max_seq_len, recipe.data.packed_documents
    prompt = get_prompt(recipe, model, tokenizer)
    return text_task(
        recipe,
        objective,
        tokenizer,
        [Windows(tokens, length, packed_documents=packed) for tokens in (train, validation)],
        metrics=partial(text_metrics, n_bytes=validation.n_bytes),
        samples=partial(write_samples, recipe, model, tokenizer, prompt),
    )


def get_prompt(recipe: GptRecipe, model: DecoderOnly, tokenizer: Tokenizer) -> list[int]:
    """The beginning of samples: the recipe's prompt, or the validation text's first line."""
    text = recipe.validation.prompt
    if text is None:  # a text may be one long line
        text = next(recipe.data.validation.texts()).strip().split("\n")[0][:200] + "\n"
    with naming("validation.prompt"):
        return encode_prompt(model, tokenizer, text)


def write_samples(recipe: GptRecipe, model: DecoderOnly, tokenizer: Tokenizer, prompt: list[int]) -> list[str]:
    """Texts as the model writes them at present."""
    how = recipe.validation
    written = generate(
        model,
        [prompt] * how.samples,
        taken(Sampling, how, "validation"),
        max_new_tokens=how.sample_tokens,
        seed=recipe.seed,
        never=() if how.write_special else tokenizer.special_ids,
    )
    return [tokenizer.decode([*prompt, *tokens]) + "\n" for tokens in written]


LANGUAGE = Kind(
    name="decoder-only",
    recipes="recipes/gpt",
    use="write with: transformer-zoo generate {}",
    recipe=GptRecipe,
    config=DecoderConfig,
    load_tokenizer=Tokenizer.load,
    model=DecoderOnly,
    model_config=model_config,
)
