"""What the tasks on plain text have in common: their recipe, their tokens, and the model that fits them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from transformer_zoo.blocks import forward_flops
from transformer_zoo.config import ModelConfig
from transformer_zoo.data import TextFiles, TokenBatch, TokenFile, Windows, prepare_tokens
from transformer_zoo.errors import UserError, naming
from transformer_zoo.files import check_folder
from transformer_zoo.tokenizers import Tokenizer, TokenizerSettings, make_tokenizer
from transformer_zoo.tokenizers.kinds import kind_of
from transformer_zoo.training import distributed
from transformer_zoo.training.config import RunConfig
from transformer_zoo.training.overrides import PROBABILITIES, check_init_from, keep_config, overridden
from transformer_zoo.training.task import Task
from transformer_zoo.training.tasks.objectives import GptObjective, MaskedObjective
from transformer_zoo.zoo import get_config

Config = TypeVar("Config", bound=ModelConfig)
Objective = TypeVar("Objective", GptObjective, MaskedObjective)
Say = Callable[..., None]
ROOM_FOR_SPECIAL = 64  # stands for the vocabulary size of a preset while it is not known


@dataclass(frozen=True, kw_only=True)
class TextData:
    """The text and its tokens.

    Args:
        train: Training text.
        validation: Text that is held out for validation.
        tokens: Folder of the tokenized text, which several runs can share; by default `tokens` in the run's folder.
        workers: Number of threads that tokenize; 0 means one for each core.
        length: Number of tokens of a training window; by default the model's max_seq_len. The model's max_seq_len
            becomes this length, unless the recipe gives it or starts from a model that has one.
    """

    train: TextFiles
    validation: TextFiles
    tokens: str | None = None
    workers: int = 0
    length: int | None = None

    def stamps(self) -> dict[str, str]:
        """What distinguishes both texts from others, by the names of their fields."""
        return {"data.train": self.train.stamp(), "data.validation": self.validation.stamp()}


@dataclass(frozen=True, kw_only=True)
class TextRecipe(RunConfig):
    """A run that learns from plain text.

    Args:
        data: Files of text.
        model: A preset of the zoo, and fields to change in it.
        tokenizer: How text becomes tokens; kept in the run.
    """

    data: TextData
    model: Any
    tokenizer: TokenizerSettings = field(default_factory=TokenizerSettings)

    def validate(self) -> None:
        """Check the ranges of all fields and how they fit together.

        Raises:
            UserError: the message names the field.
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


def train_tokenizer(recipe: TextRecipe) -> Tokenizer:
    """The tokenizer of the recipe, trained on its text."""
    texts = recipe.data.train.texts()
    if kind_of(recipe.tokenizer.kind).is_closed:  # it refuses characters that it has never seen
        texts = chain(texts, recipe.data.validation.texts())
    return make_tokenizer(recipe.tokenizer, texts)


def read_tokens(recipe: TextRecipe, tokenizer: Tokenizer, run_dir: Path, say: Say) -> tuple[TokenFile, TokenFile]:
    """The tokens of both texts, and their numbers. The first process makes the files that do not exist yet."""
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


def text_model_config(
    recipe: TextRecipe, kind: type[Config], ids: Mapping[str, Any], start: Config | None = None
) -> Config:
    """The preset with the recipe's changes and the tokenizer's fields `ids`; or the model that training starts from."""
    config = preset_config(recipe, ids) if start is None else kept_config(recipe, start)
    assert isinstance(config, kind)  # a preset of another kind is refused before
    length = recipe.data.length or config.max_seq_len
    if length > config.longest_input:
        raise UserError(f"data.length {length} is more than the {config.max_seq_len} positions that are learned")
    if recipe.training.batch_tokens < length:
        raise UserError(
            f"training.batch_tokens {recipe.training.batch_tokens} is less than a window of {length}, which is "
            "data.length, or the model's max_seq_len: change one of them"
        )
    return config


def preset_config(recipe: TextRecipe, ids: Mapping[str, Any]) -> ModelConfig:
    """The configuration of a new model."""
    changes = overridden(recipe.model)
    if recipe.data.length is not None:  # the model learns nothing past it, so it must never read more
        changes.setdefault("max_seq_len", recipe.data.length)
    with naming("model"):
        return get_config(recipe.model.preset, **changes, **ids)


def kept_config(recipe: TextRecipe, start: Config) -> Config:
    """That of a model trained before. It may be made to read less, unless each of its positions is learned."""
    longest, wanted = start.max_seq_len, overridden(recipe.model).get("max_seq_len")
    if wanted is not None and wanted != longest and (wanted > longest or start.longest_input == longest):
        raise UserError(f"model.max_seq_len: that of model.init_from is {longest}, and cannot become {wanted}")
    return keep_config(start, recipe.model, (*PROBABILITIES, "max_seq_len"))


def text_task(
    recipe: TextRecipe,
    objective: Objective,
    tokenizer: Tokenizer,
    windows: Iterable[Windows],
    *,
    metrics: Callable[[Objective, Iterable[TokenBatch]], dict[str, int | float]],
    samples: Callable[[], list[str]],
) -> Task:
    """What the trainer must know about a model that learns from windows, and about training and validation text."""
    (train, held_out), model = windows, objective.model
    batch_size = recipe.training.batch_tokens // train.length
    return Task(
        model=model,
        objective=objective,
        plan=partial(train.plan, batch_size=batch_size),
        load=partial(train.load, batch_size=batch_size, seed=recipe.seed),
        validate=lambda: metrics(objective, held_out.evaluation(batch_size=batch_size)),
        samples=samples,
        data={"data.train": train.tokens.stamp, "data.validation": held_out.tokens.stamp},
        d_model=model.config.d_model,
        fine_tuning=recipe.model.init_from is not None,
        flops_per_token=3 * forward_flops(model, train.length),
        tokenizer=tokenizer.fingerprint,
    )
