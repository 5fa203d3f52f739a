"""Translation: what the trainer and a run must know about it."""

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from transformer_zoo.config import EncoderDecoderConfig
from transformer_zoo.data import (
    Batch,
    Cleaning,
    ParallelText,
    batch_indices,
    clean,
    collate,
    encode_corpus,
    read_parallel,
)
from transformer_zoo.data.batching import SpecialIds, sorted_indices
from transformer_zoo.data.encoding import drop_overlong, each_epoch
from transformer_zoo.data.splits import report_leaks
from transformer_zoo.errors import UserError, naming
from transformer_zoo.evaluation import corpus_score
from transformer_zoo.evaluation.languages import unfit_metrics
from transformer_zoo.inference import Batching, translate
from transformer_zoo.models import EncoderDecoder, check_encoder_decoder
from transformer_zoo.tokenizers import TranslationTokenizer
from transformer_zoo.tokenizers.settings import BOS_ID, EOS_ID, PAD_ID
from transformer_zoo.tokenizers.translation import report_unwritable
from transformer_zoo.training.device import choose_precision
from transformer_zoo.training.loss import total_nll
from transformer_zoo.training.overrides import keep_config, overridden
from transformer_zoo.training.task import Task
from transformer_zoo.training.tasks.kind import Kind
from transformer_zoo.training.tasks.objectives import TranslationObjective
from transformer_zoo.training.tasks.translation_recipe import TranslationRecipe
from transformer_zoo.zoo import get_config

Say = Callable[..., None]
ROOM_FOR_SPECIAL = 64  # of a preset that has not got the tokenizer's special tokens yet


@dataclass(frozen=True)
class Texts:
    """The texts of a run: cleaned text to train on, text to validate on, and tests by name."""

    train: ParallelText
    validation: ParallelText
    tests: Mapping[str, ParallelText]

    @property
    def checksums(self) -> dict[str, str]:
        """Their checksums, by the names of their fields."""
        training = {"data.train": self.train.checksum, "data.validation": self.validation.checksum}
        return training | checksums_of(self.tests)

    def report(self, tokenizer: TranslationTokenizer, say: Say) -> dict[str, Any]:
        """Which sentences are also in the training text, and which targets cannot be written: printed, and kept for the
        results."""
        held_out = {"validation": self.validation, **self.tests}
        leaks = report_leaks(self.train, held_out, say)
        targets = {name: text.target for name, text in {"train": self.train, **held_out}.items()}
        return {"targets": report_unwritable(tokenizer.target, targets, say), "leaks": leaks}


def read_tests(recipe: TranslationRecipe) -> dict[str, ParallelText]:
    """The tests, by name."""
    return {name: read_parallel(files) for name, files in recipe.data.tests.items()}


def checksums_of(tests: Mapping[str, ParallelText]) -> dict[str, str]:
    """Their checksums, by the names of their fields."""
    return {f"data.tests.{name}": text.checksum for name, text in tests.items()}


def read_texts(recipe: TranslationRecipe, tests: Mapping[str, ParallelText], say: Say) -> Texts:
    """Read all texts; prints what the tests are scored by, and how many pairs were dropped."""
    data, test = recipe.data, recipe.test
    by = f"data.target_lang {data.target_lang}" if test.bleu_tokenize is None else "test.bleu_tokenize"
    say(f"BLEU: sacreBLEU's tokenizer {recipe.bleu_tokenize}, by {by}")
    if tests and (warning := unfit_metrics(test.metrics, data.target_lang)):
        say(f"warning: test.metrics: {warning}")
    validation, report = clean(read_parallel(data.validation), Cleaning(drop_duplicates=False))
    if report.n_dropped:
        say(report)
    train, report = clean(read_parallel(data.train), data.cleaning)
    say(report)
    return Texts(train, validation, tests)


def train_tokenizer(recipe: TranslationRecipe, texts: Texts) -> TranslationTokenizer:
    """The tokenizer of the recipe, trained on the training text."""
    settings, train = recipe.tokenizer, texts.train
    return TranslationTokenizer.train(train.source, train.target, settings, seed=recipe.seed)


def model_config(
    recipe: TranslationRecipe,
    tokenizer: TranslationTokenizer | None = None,
    start: EncoderDecoderConfig | None = None,
) -> EncoderDecoderConfig:
    """The preset with the recipe's changes and the tokenizer's vocabularies; or the model that training starts from."""
    if start is not None and tokenizer is not None:
        if recipe.tokenizer.sample_alpha and "sample_alpha" not in tokenizer.source.reads:
            raise UserError("tokenizer.sample_alpha: the tokenizer of this model draws no pieces; set it to 0")
        return without_special(keep_config(start, recipe.model), tokenizer)
    changes, preset = overridden(recipe.model), recipe.model.preset
    base = cast(EncoderDecoderConfig, get_config(preset))  # a preset of another kind is refused before
    if not recipe.tokenizer.joint:
        changes.setdefault("share_embeddings", "decoder")
    if tokenizer is None:
        changes["vocab_size"] = max(recipe.tokenizer.expected_size, ROOM_FOR_SPECIAL)
    else:
        changes |= _vocabularies(base, tokenizer, changes)
    with naming("model"):
        return cast(EncoderDecoderConfig, get_config(preset, **changes))


def _vocabularies(
    base: EncoderDecoderConfig, tokenizer: TranslationTokenizer, given: Mapping[str, Any]
) -> dict[str, Any]:
    """The fields of a model that the tokenizer trained here decides, and those that it changes unless they are
    given."""
    starts_with_pad = base.bos_id == base.pad_id  # as Marian's targets do
    usual = {
        "forced_last_id": None if base.forced_last_id is None else EOS_ID,
        "never_ids": tuple(sorted(tokenizer.target.special_ids)),
    }
    if not base.count_padding:  # as in M2M-100, whose first position follows the id of pad
        usual["positions.offset"] = PAD_ID + 1
    return {
        **usual,
        **given,
        "vocab_size": tokenizer.source.vocab_size,
        "target_vocab_size": None if tokenizer.joint else tokenizer.target.vocab_size,
        "pad_id": PAD_ID,
        "bos_id": PAD_ID if starts_with_pad else BOS_ID,
        "eos_id": EOS_ID,
        "source_end_id": None,
    }


def in_languages(
    recipe: TranslationRecipe, config: EncoderDecoderConfig, tokenizer: TranslationTokenizer
) -> tuple[EncoderDecoderConfig, TranslationTokenizer]:
    """A multilingual model's tokenizer, set to the languages of the data. For other models they are words for people.

    Raises:
        UserError: the tokenizer does not know the languages.
    """
    if not tokenizer.languages:
        return config, tokenizer
    source, target = recipe.data.source_lang, recipe.data.target_lang
    with naming("data.source_lang and data.target_lang"), naming(recipe.model.init_from):
        tokenizer = tokenizer.with_languages(source if tokenizer.takes_source else None, target)
    return with_special_ids(config, tokenizer), tokenizer


def with_special_ids(config: EncoderDecoderConfig, tokenizer: TranslationTokenizer) -> EncoderDecoderConfig:
    """The configuration with the tokens that the chosen languages put at the end of a source and the start of a
    target."""
    bos_id = config.bos_id if tokenizer.bos_id is None else tokenizer.bos_id
    end_id = config.source_end_id if tokenizer.source_end_id is None else tokenizer.source_end_id
    return replace(config, bos_id=bos_id, source_end_id=end_id)


def without_special(config: EncoderDecoderConfig, tokenizer: TranslationTokenizer) -> EncoderDecoderConfig:
    """The configuration of a model that is trained further: it writes no unknown token, no padding and no begin
    token."""
    special = {config.pad_id, config.bos_id, *tokenizer.target.special_ids} - {config.eos_id, config.forced_last_id}
    never = {token for token in special if token < config.target_size}
    return replace(config, never_ids=tuple(sorted({*config.never, *never})))


def special_ids(config: EncoderDecoderConfig) -> SpecialIds:
    """The special ids in the batches of such a model."""
    return SpecialIds(pad_id=config.pad_id, bos_id=config.bos_id, eos_id=config.eos_id, source_end_id=config.source_end)


def translation_task(
    recipe: TranslationRecipe,
    model: EncoderDecoder,
    tokenizer: TranslationTokenizer,
    texts: Texts,
    say: Say,
    *,
    longest_before: int = 0,
) -> Task:
    """Batches, model, loss and validation: what the trainer must know about translation.

    `longest_before` is the longest source that the model was trained on before.
    """
    check_encoder_decoder(model, "translation_task")
    budget, special, fits = recipe.training.batch_tokens, special_ids(model.config), model.config.longest_input
    longest_pair = min(recipe.data.cleaning.max_tokens or budget, budget, fits)
    alpha = recipe.tokenizer.sample_alpha
    corpus = each_epoch(texts.train, tokenizer, max_tokens=longest_pair, sample_alpha=alpha, seed=recipe.seed, say=say)
    longest = max(int(corpus(0).source_lengths.max()), longest_before)

    def plan(epoch: int) -> list[Any]:
        encoded = corpus(epoch)
        lengths = encoded.source_lengths, encoded.target_lengths
        indices = batch_indices(*lengths, batch_tokens=budget, seed=recipe.seed, epoch=epoch)
        return [functools.partial(collate, encoded, batch, special) for batch in indices]

    objective = TranslationObjective(model, label_smoothing=recipe.training.label_smoothing)
    validator = Validator(recipe, tokenizer, texts.validation, objective, longest, say)
    return Task(
        model=model,
        objective=objective,
        plan=plan,
        load=lambda batch: batch(),
        in_bucket=lambda batch: batch.in_bucket(special.pad_id, batch_tokens=budget, longest=fits),
        validate=validator.validate,
        samples=validator.samples,
        data=texts.checksums,
        d_model=model.config.d_model,
        fine_tuning=recipe.model.init_from is not None,
        max_source_tokens=longest,
    )


class Validator:
    """Plain NLL and perplexity over the validation text, BLEU and samples over its first sentences."""

    def __init__(
        self,
        recipe: TranslationRecipe,
        tokenizer: TranslationTokenizer,
        text: ParallelText,
        objective: TranslationObjective,
        longest: int,
        say: Say,
    ) -> None:
        self.recipe, self.tokenizer, self.text, self.objective = recipe, tokenizer, text, objective
        self.longest = longest
        # BLEU and samples cover all sentences: one that is too long for the model is translated in pieces.
        self.corpus, report = drop_overlong(encode_corpus(text, tokenizer), objective.model.config.longest_input)
        if report.n_dropped:
            say(f"validation loss: {report}")
        lengths = self.corpus.source_lengths, self.corpus.target_lengths
        budget = max(recipe.training.batch_tokens, *(int(side.max()) for side in lengths))
        self.batches = sorted_indices(*lengths, batch_tokens=budget)
        self.hypotheses: list[str] = []

    def validate(self) -> dict[str, int | float]:
        """NLL per token, perplexity, and BLEU if the recipe asks for it."""
        how, model = self.recipe.validation, self.objective.model
        special = special_ids(model.config)
        nll = mean_nll(self.objective, (collate(self.corpus, batch, special) for batch in self.batches))
        metrics: dict[str, int | float] = {"loss": nll, "perplexity": math.exp(min(nll, 700))}
        lines = self.text.source[: max(how.bleu_sentences, how.samples)]
        dtype = choose_precision(self.recipe.precision, model.head_weight.device)
        test = self.recipe.test
        found = translate(
            model,
            self.tokenizer,
            lines,
            replace(test.search, beam=how.beam),
            never=test.never,
            max_source_tokens=test.max_source_tokens or self.longest,
            language=self.recipe.data.source_lang,
            batching=Batching(dtype=dtype),
            name="validation",
        )
        self.hypotheses = list(found)
        if how.bleu_sentences:
            best, *references = (x[: how.bleu_sentences] for x in (self.hypotheses, *self.text.references))
            metrics["bleu"] = corpus_score(best, references, tokenize=self.recipe.bleu_tokenize)[0].score
        return metrics

    def samples(self) -> list[str]:
        """Some of the translations of the last `validate`, with source and reference."""
        shown = list(zip(self.text.source, self.hypotheses, self.text.target, strict=False))
        shown = shown[: self.recipe.validation.samples]
        return [f"  source     {s}\n  model      {h}\n  reference  {r}\n" for s, h, r in shown]


def mean_nll(objective: TranslationObjective, batches: Iterable[Batch]) -> float:
    """Plain negative log-likelihood per target token, eos included, in nats: the log of the perplexity."""
    total, n_tokens = total_nll(objective, batches)
    return total / n_tokens


TRANSLATION = Kind(
    name="an encoder-decoder",
    recipes="recipes/translation",
    marks=frozenset({"source_lang", "target_lang"}),
    use="translate with: transformer-zoo translate {}",
    recipe=TranslationRecipe,
    config=EncoderDecoderConfig,
    load_tokenizer=TranslationTokenizer.load,
    model=EncoderDecoder,
    model_config=model_config,
    adapt=in_languages,
)
