"""The recipe of a translation run: its fields and their allowed values."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from transformer_zoo.config import BeamSearch, EncoderDecoderConfig
from transformer_zoo.data import Cleaning, ParallelFiles
from transformer_zoo.errors import UserError
from transformer_zoo.evaluation import bleu_tokenizer
from transformer_zoo.evaluation.metrics import check_scoring
from transformer_zoo.files import is_file_name
from transformer_zoo.lent import lent, taken
from transformer_zoo.tokenizers import TranslationTokenizerSettings
from transformer_zoo.training.config import RunConfig, TrainingConfig, ValidationConfig
from transformer_zoo.training.overrides import PROBABILITIES, check_init_from, overrides_of
from transformer_zoo.words import unfit

LEAST_PIECES = 5  # the four special ones, and one to write with


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The text of all splits, and its languages.

    Args:
        source_lang: Code of the source language, for people. With a multilingual model.init_from, such as NLLB
            (eng_Latn) or mBART (en_XX), it is the model's own code, which chooses the language.
        target_lang: Code of the target language, with the same meaning. It also chooses the tokenizer that BLEU is
            computed with, in any spelling (zh, zho_Hans, zh-CN, Chinese).
        train: Training pairs.
        validation: Pairs by which the best checkpoint is chosen.
        tests: Pairs that the finished run is scored on, by name.
        cleaning: Which training pairs are dropped.
    """

    source_lang: str
    target_lang: str
    train: ParallelFiles
    validation: ParallelFiles
    tests: dict[str, ParallelFiles] = field(default_factory=dict)
    cleaning: Cleaning = field(default_factory=Cleaning)


@dataclass(frozen=True, kw_only=True)
class TranslationTraining(TrainingConfig):
    """The parts of one update, and the limits of training. The first limit that is reached stops it.

    Args:
        label_smoothing: Probability mass spread over the vocabulary, in training only and never in validation.
    """

    label_smoothing: float = 0.1


@dataclass(frozen=True, kw_only=True)
class TranslationValidation(ValidationConfig):
    """When and how a run is validated, and which checkpoint counts as the best.

    Args:
        best_by: `loss` (plain NLL, no label smoothing) or `bleu`.
        bleu_sentences: Number of sentences at the start of the validation text that BLEU is computed on; 0 for none.
        beam: Beam width of these translations; 1 is greedy. Everything else about them is as in `test`.
    """

    best_by: Literal["loss", "bleu"] = "loss"  # type: ignore[assignment]
    bleu_sentences: int = 200
    beam: int = 1


if TYPE_CHECKING:
    SearchFields = BeamSearch
else:  # of several answers a test would take the first
    SearchFields = lent(BeamSearch, without=("n_best", "max_length"))


@dataclass(frozen=True, kw_only=True)
class TestConfig(SearchFields):
    """How the finished run translates the tests, and how they are scored.

    Args:
        max_source_tokens: A source of more than 1.5 times this length is cut at the ends of sentences and translated in
            pieces, also in validations. The default is the longest source of the training text.
        write_special: Allow the unknown token, padding and the begin token in translations, also in validations, though
            they are not text.
        metrics: One or more of bleu, chrf, chrf++, ter.
        bleu_tokenize: sacreBLEU's tokenizer for BLEU, in validation too; `none` for text that is tokenized already. The
            default follows data.target_lang: zh, ja-mecab, ko-mecab, char (Thai, Lao, Khmer, Burmese), 13a for others.
    """

    max_source_tokens: int | None = None
    write_special: bool = False
    metrics: list[Literal["bleu", "chrf", "chrf++", "ter"]] = field(default_factory=lambda: ["bleu"])
    bleu_tokenize: str | None = None

    @property
    def search(self) -> BeamSearch:
        """How the tests are translated."""
        return taken(BeamSearch, self, "test")

    @property
    def never(self) -> tuple[int, ...] | None:
        """The option of `translate` that corresponds to `write_special`."""
        return () if self.write_special else None


if TYPE_CHECKING:
    ModelOverrides = Any
else:
    # The tokenizer decides the rest.
    decided = ("vocab_size", "target_vocab_size", "pad_id", "bos_id", "eos_id", "source_end_id")
    ModelOverrides = overrides_of(EncoderDecoderConfig, preset="transformer-base", skip=decided)


@dataclass(frozen=True, kw_only=True)
class TranslationRecipe(RunConfig):
    """A translation run, from raw text to BLEU.

    Args:
        data: Files of text.
        training: Updates and limits.
        validation: Validation.
        model: A preset of the zoo, and fields to change in it.
        tokenizer: Vocabulary, trained on the training text and kept in the run.
        test: Translation and scoring of the tests.

    Examples:
        transformer-zoo train my.yaml
        transformer-zoo train my.yaml --run_dir runs/short --training.max_minutes 15 --seed 2
        transformer-zoo train my.yaml --model.d_model 256 --model.dropout 0.2 --optimizer.lr 0.004
    """

    data: DataConfig
    training: TranslationTraining = field(default_factory=TranslationTraining)
    validation: TranslationValidation = field(default_factory=TranslationValidation)
    model: ModelOverrides = field(default_factory=ModelOverrides)
    tokenizer: TranslationTokenizerSettings = field(default_factory=TranslationTokenizerSettings)
    test: TestConfig = field(default_factory=TestConfig)

    @property
    def bleu_tokenize(self) -> str:
        """sacreBLEU's tokenizer for BLEU: the chosen one, or that of the target language."""
        return self.test.bleu_tokenize or bleu_tokenizer(self.data.target_lang)

    def validate(self) -> None:
        """Check the ranges of all fields and how they fit together, and whether all scores can be computed.

        Raises:
            UserError: the message names the field.
        """
        super().validate()
        check_init_from(self.model, self.tokenizer, of_model=PROBABILITIES, of_tokenizer=("sample_alpha",))
        self._validate_data()
        self._validate_tokenizer()
        self._validate_scores()
        if not self.tokenizer.joint and (shared := self.model.share_embeddings) in ("all", "inputs"):
            raise UserError(
                f"model.share_embeddings is {shared}, and tokenizer.joint is false: two vocabularies cannot share one "
                "matrix; take share_embeddings: decoder, or joint: true"
            )

    def _validate_scores(self) -> None:
        validation, test = self.validation, self.test
        if validation.best_by == "bleu" and not validation.bleu_sentences:
            raise UserError("validation.best_by is bleu, and validation.bleu_sentences is 0: nothing to choose by")
        if validation.beam != 1 and not validation.bleu_sentences and not validation.samples:
            raise UserError(
                f"validation.beam is {validation.beam}, and has no effect where validation.bleu_sentences and "
                "validation.samples are 0: leave it out"
            )
        _ = test.search  # which refuses values that it cannot have
        if not test.metrics:
            raise UserError("test.metrics is empty, expected at least one of bleu, chrf, chrf++, ter")
        scored = [*(["bleu"] if validation.bleu_sentences else []), *(test.metrics if self.data.tests else [])]
        if test.bleu_tokenize is not None and "bleu" not in scored:
            raise UserError(
                "test.bleu_tokenize has no effect where validation.bleu_sentences is 0 and no test is scored by bleu: "
                "leave it out"
            )
        try:  # a tokenizer may need a package or a download
            if scored:
                check_scoring(scored, self.bleu_tokenize)
        except UserError as error:
            of = "" if test.bleu_tokenize else f" (for data.target_lang {self.data.target_lang})"
            raise UserError(f"test.bleu_tokenize: {error}{of}") from None

    def _validate_data(self) -> None:
        data = self.data
        for name, files in {"train": data.train, "validation": data.validation, **data.tests}.items():
            try:
                files.validate()
            except UserError as error:
                raise UserError(f"data.{name}: {error}") from None
        if data.train.references:
            raise UserError("data.train.references: training takes one target a line; leave them out")
        check_test_names(data.tests)
        if (ratio := data.cleaning.max_length_ratio) and not 1 <= ratio < math.inf:
            raise UserError(f"data.cleaning.max_length_ratio is {ratio}, expected 0 or at least 1")

    def _validate_tokenizer(self) -> None:
        settings = self.tokenizer
        for name in ("vocab_size", "target_vocab_size"):
            size: int | None = getattr(settings, name)
            if size is not None and size < LEAST_PIECES:
                raise UserError(f"tokenizer.{name} is {size}, expected at least {LEAST_PIECES}")
        settings.check()


def check_test_names(names: Iterable[Any]) -> None:
    """Check that the names of tests can be file names, and that no other split has them.

    Raises:
        UserError: one name is wrong.
    """
    for name in names:
        if not is_file_name(name):
            raise UserError(f"data.tests: {name!r} cannot be a file name; take letters, digits, - and _")
        if name in ("train", "validation"):
            raise UserError(f"data.tests: {name!r} is the name of another split; give the test another one")


def check_recipe(folder: Path, recipe: Mapping[str, Any]) -> None:
    """Check how a run is translated and scored, in a recipe whose author may be unknown.

    Raises:
        UserError: a field has a value that it cannot have.
    """
    data = recipe.get("data") or {}
    tests, test = data.get("tests") or {}, recipe.get("test") or {}
    wrong = unfit(TestConfig, test, "test")
    for name in ("source_lang", "target_lang"):
        wrong = wrong or unfit(str | None, data.get(name), f"data.{name}")
    wrong = wrong or unfit(dict[str, ParallelFiles], tests, "data.tests")
    for name in ("validation", "train"):
        if data.get(name) is not None:
            wrong = wrong or unfit(ParallelFiles, data[name], f"data.{name}")
    try:
        if wrong:
            raise UserError(wrong)
        check_test_names(tests)
    except UserError as error:
        raise UserError(f"{folder / 'config.yaml'}: {error}") from None
