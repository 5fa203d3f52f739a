"""Language modelling: the recipe of a run, and what the trainer and a run need to know about it."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from transformer_zoo.blocks import forward_flops
from transformer_zoo.config import PROBABILITIES, DecoderConfig, Sampling
from transformer_zoo.data import TextFiles, TokenBatch, TokenFile, Windows, prepare_tokens
from transformer_zoo.errors import UserError, naming
from transformer_zoo.files import check_folder
from transformer_zoo.inference import encode_prompt, generate
from transformer_zoo.models import DecoderOnly
from transformer_zoo.tokenizers import Tokenizer, TokenizerSettings, kind_of, make_tokenizer
from transformer_zoo.training import distributed
from transformer_zoo.training.config import RunConfig, TrainingConfig, ValidationConfig
from transformer_zoo.training.lent import lent, taken
from transformer_zoo.training.loss import total_nll
from transformer_zoo.training.overrides import check_init_from, keep_config, overridden, overrides_of
from transformer_zoo.training.task import Task
from transformer_zoo.training.tasks.kind import Kind
from transformer_zoo.training.tasks.objectives import GptObjective
from transformer_zoo.zoo import get_config

Say = Callable[..., None]
ROOM_FOR_SPECIAL = 64  # of a preset whose vocabulary is not known yet


@dataclass(frozen=True, kw_only=True)
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

    def stamps(self) -> dict[str, str]:
        """What tells both texts from others, by the names of their fields."""
        return {"data.train": self.train.stamp(), "data.validation": self.validation.stamp()}


@dataclass(frozen=True, kw_only=True)
class GptTraining(TrainingConfig):
    """What one update is made of, and when training stops. The first limit that is reached stops it.

    Args:
        recompute: Keep only the input of each layer and compute the rest again in the backward pass: much less memory
            for a third more time.
    """

    recompute: bool = False


if TYPE_CHECKING:
    SamplingFields = Sampling
else:
    SamplingFields = lent(Sampling)


@dataclass(frozen=True, kw_only=True)
class GptValidation(ValidationConfig, SamplingFields):
    """When a run is validated, over the whole validation text, and which checkpoint counts as the best.

    Args:
        prompt: What sample texts begin with; by default the first line of the validation text.
        sample_tokens: Tokens of a sample.
        write_special: Let samples have the unknown token, padding and the token for a begin, which are no text.
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
        taken(Sampling, self.validation, "validation")  # which refuses what it cannot be
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


def text_metrics(objective: GptObjective, batches: Iterable[TokenBatch], n_bytes: int) -> dict[str, int | float]:
    """Mean NLL per token in nats ("loss"), perplexity, and bits per byte of a text of `n_bytes`."""
    total, n_tokens = total_nll(objective, batches)
    nll = total / n_tokens
    return {
        "loss": nll,
        "perplexity": math.exp(min(nll, 700)),
        "bits_per_byte": total / math.log(2) / n_bytes,
    }


def train_tokenizer(recipe: GptRecipe) -> Tokenizer:
    """The tokenizer that the recipe asks for, trained on its text."""
    texts = recipe.data.train.texts()
    if kind_of(recipe.tokenizer.kind).is_closed:  # it refuses what it has never seen
        texts = chain(texts, recipe.data.validation.texts())
    return make_tokenizer(recipe.tokenizer, texts)


def read_tokens(recipe: GptRecipe, tokenizer: Tokenizer, run_dir: Path, say: Say) -> tuple[TokenFile, TokenFile]:
    """The tokens of both texts, and how many they are; the first process makes those that are not there yet."""
    data = recipe.data
    if set(data.train.files()) & set(data.validation.files()):
        say("warning: data.validation is text of data.train; what is measured on it says nothing about other text")
    folder = Path(data.tokens).expanduser() if data.tokens else run_dir / "tokens"
    texts = {"train": data.train, "validation": data.validation}
    with distributed.first() as mine:
        for split, files in texts.items() if mine else ():
            prepare_tokens(files, tokenizer, folder, split, workers=data.workers)
    train, validation = (TokenFile(folder, split, tokenizer) for split in texts)
    if validation.n_tokens < 2:
        raise UserError(f"data.validation: {data.validation} is a single token, which leaves nothing to predict")
    say(f"{tokenizer.name}: {train.n_tokens:,} training tokens, {validation.n_tokens:,} for validation")
    return train, validation


def model_config(
    recipe: GptRecipe, tokenizer: Tokenizer | None = None, start: DecoderConfig | None = None
) -> DecoderConfig:
    """The preset with the recipe's changes, and the tokenizer's vocabulary; or the model that it starts from."""
    config = preset_config(recipe, tokenizer) if start is None else kept_config(recipe, start)
    length = recipe.data.length or config.max_seq_len
    if length > config.longest_input:
        raise UserError(f"data.length {length} is more than the {config.max_seq_len} positions that are learned")
    if recipe.training.batch_tokens < length:
        raise UserError(
            f"training.batch_tokens {recipe.training.batch_tokens} is less than a window of {length}, which is "
            "data.length, or the model's max_seq_len: change one of them"
        )
    return config


def preset_config(recipe: GptRecipe, tokenizer: Tokenizer | None) -> DecoderConfig:
    """For a model that is new."""
    changes, preset = overridden(recipe.model), recipe.model.preset
    if recipe.data.length is not None:  # past it the model learns nothing, so it is never to read more
        changes.setdefault("max_seq_len", recipe.data.length)
    if tokenizer is None:
        changes["vocab_size"] = recipe.tokenizer.vocab_size or ROOM_FOR_SPECIAL
    else:
        changes |= {"vocab_size": tokenizer.vocab_size, "eos_id": tokenizer.eos_id, "bos_id": None, "pad_id": None}
    with naming("model.preset"):
        base = get_config(preset)
    if not isinstance(base, DecoderConfig):
        raise UserError(f"model.preset: {preset} is an encoder-decoder; train it with recipes/translation/train.py")
    with naming("model"):
        return cast(DecoderConfig, get_config(preset, **changes))


def kept_config(recipe: GptRecipe, start: DecoderConfig) -> DecoderConfig:
    """For a model that was trained before: it may be made to read less, unless each of its positions is learned."""
    longest, wanted = start.max_seq_len, overridden(recipe.model).get("max_seq_len")
    if wanted is not None and wanted != longest and (wanted > longest or start.longest_input == longest):
        raise UserError(f"model.max_seq_len: that of model.init_from is {longest}, and cannot become {wanted}")
    return keep_config(start, recipe.model, (*PROBABILITIES, "max_seq_len"))


def language_task(
    recipe: GptRecipe, model: DecoderOnly, tokenizer: Tokenizer, train: TokenFile, validation: TokenFile
) -> Task:
    """Windows, model, loss and validation: what the trainer needs to know about language models."""
    objective = GptObjective(model)
    length = recipe.data.length or model.config.max_seq_len
    windows, held_out = (
        Windows(tokens, length, packed_documents=recipe.data.packed_documents) for tokens in (train, validation)
    )
    batch_size = recipe.training.batch_tokens // length
    model.decoder.recompute = recipe.training.recompute
    prompt = get_prompt(recipe, model, tokenizer)
    return Task(
        model=model,
        objective=objective,
        plan=partial(windows.plan, batch_size=batch_size),
        load=partial(windows.load, batch_size=batch_size, seed=recipe.seed),
        validate=lambda: text_metrics(objective, held_out.evaluation(batch_size=batch_size), validation.n_bytes),
        samples=partial(write_samples, recipe, model, tokenizer, prompt),
        data={"data.train": train.stamp, "data.validation": validation.stamp},
        d_model=model.config.d_model,
        fine_tuning=recipe.model.init_from is not None,
        flops_per_token=3 * forward_flops(model, length),
        tokenizer=tokenizer.fingerprint,
    )


def get_prompt(recipe: GptRecipe, model: DecoderOnly, tokenizer: Tokenizer) -> list[int]:
    """What samples go on from: the recipe's prompt, or the validation text's first line."""
    text = recipe.validation.prompt
    if text is None:  # a text may be one long line
        text = next(recipe.data.validation.texts()).strip().split("\n")[0][:200] + "\n"
    with naming("validation.prompt"):
        return encode_prompt(model, tokenizer, text)


def write_samples(recipe: GptRecipe, model: DecoderOnly, tokenizer: Tokenizer, prompt: list[int]) -> list[str]:
    """Texts as the model writes them now."""
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
    use=("write", "generate"),
    recipe=GptRecipe,
    config=DecoderConfig,
    load_tokenizer=Tokenizer.load,
    model=DecoderOnly,
    model_config=model_config,
)
