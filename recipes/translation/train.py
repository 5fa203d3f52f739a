"""Trains a translation model from raw parallel text, and scores it.

    python recipes/translation/train.py recipes/translation/multi30k.yaml [--optimizer.lr 0.001 ...]

Read from `main` on: text -> tokenizer -> batches -> model -> training -> BLEU. The same command goes on with
a run that was stopped. `torchrun --nproc-per-node N recipes/translation/train.py ...` trains on N GPUs.
"""

import functools
import math
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch

from transformer_zoo.config import EncoderDecoderConfig
from transformer_zoo.data import (
    Cleaning,
    EpochCorpus,
    ParallelText,
    batch_indices,
    clean,
    collate,
    drop_overlong,
    encode_corpus,
    evaluation_indices,
    read_parallel,
)
from transformer_zoo.data.leaks import report_leaks
from transformer_zoo.errors import UserError, naming
from transformer_zoo.evaluation import bleu_tokenizer, check_scoring, corpus_score, unfit_metrics
from transformer_zoo.evaluation.tests import score_test
from transformer_zoo.files import make_folder, write_text
from transformer_zoo.inference import Batching, translate
from transformer_zoo.models import EncoderDecoder
from transformer_zoo.tokenizers import TranslationTokenizer
from transformer_zoo.tokenizers.settings import BOS_ID, EOS_ID, PAD_ID
from transformer_zoo.tokenizers.writable import report_unwritable
from transformer_zoo.training import distributed
from transformer_zoo.training.checkpoint import Run, TextRun, load_translation_run
from transformer_zoo.training.device import choose_device, choose_precision
from transformer_zoo.training.folder import check_run, is_finished, kept_test, mark_finished, open_run
from transformer_zoo.training.imported import imported_run
from transformer_zoo.training.initial import Start, is_going_on, keep_config, translation_start
from transformer_zoo.training.logging import in_words
from transformer_zoo.training.loop import Trainer
from transformer_zoo.training.memory import check_training
from transformer_zoo.training.model_json import save_model_config, without_special
from transformer_zoo.training.options import defaults_of, overridden, parse_recipe
from transformer_zoo.training.task import Task
from transformer_zoo.training.translation import Recipe, TranslationObjective, longest_input, mean_nll, special_ids
from transformer_zoo.zoo import get_config
from transformer_zoo.zoo.huggingface import from_huggingface, resolve

Say = Callable[..., None]
ROOM_FOR_SPECIAL = 64  # of a preset that has not got the tokenizer's special tokens yet
Initial = Start[EncoderDecoderConfig, TranslationTokenizer]


def main(arguments: list[str]) -> None:
    """One run: everything is checked before anything is written."""
    recipe, plain = parse_recipe(Recipe, arguments)
    run_dir, here = Path(recipe.run_dir), distributed.world()
    say: Say = print if here.main else (lambda *words: None)
    recipe.validate()
    check_scores(recipe)
    known = model_config(recipe) if recipe.model.init_from is None else None  # is there such a preset, do they fit?
    device = choose_device(recipe.device, here.local_rank)
    check_run(run_dir, plain, defaults_of(Recipe))
    tests = {name: read_parallel(files) for name, files in recipe.data.tests.items()}
    tested = {f"data.tests.{name}": text.checksum for name, text in tests.items()}
    if is_finished(run_dir, plain, tested):
        return say(f"{run_dir} is finished, see results.json; to train on, raise its limit")
    say_scores(recipe, say)
    if known is not None:
        check_training(known, recipe, device)
    distributed.start(here, device)
    start = get_start(recipe, run_dir)
    train, validation = read_data(recipe, say)
    leaks = report_leaks(train, {"validation": validation, **tests}, say) if here.main else {}
    contents = {"data.train": train.checksum, "data.validation": validation.checksum, **tested}
    with ExitStack() as held:
        with distributed.first() as mine:
            if mine:
                held.enter_context(open_run(run_dir, plain, contents))
        tokenizer = get_tokenizer(recipe, train, run_dir, start)
        texts = {name: text.target for name, text in {"train": train, "validation": validation, **tests}.items()}
        targets = report_unwritable(tokenizer.target, texts, say) if here.main else {}
        config = model_config(recipe, tokenizer, start)
        check_training(config, recipe, device)
        budget = recipe.training.batch_tokens
        corpus = EpochCorpus(
            train,
            tokenizer,
            max_tokens=min(recipe.data.cleaning.max_tokens or budget, budget, longest_input(config)),
            sample_alpha=recipe.tokenizer.sample_alpha,
            seed=recipe.seed,
            say=say,
        )
        longest = max(int(corpus(0).source_lengths.max()), 0 if start is None else start.max_source_tokens)
        task = make_task(recipe, config, tokenizer, corpus, validation, contents, longest, say)
        if start is not None:
            start.load_into(task.model)
        trainer = Trainer(task, recipe, world=here)
        if here.main:
            save_model_config(run_dir, "encoder-decoder", config, max_source_tokens=longest)
        say(f"{trainer.how}; run folder {run_dir}")
        reason, step = trainer.fit(), trainer.progress.step
        if reason == "signal":
            say(f"stopped at update {step}; the same command goes on from there")
            raise KeyboardInterrupt  # the exit status: what comes after a finished run is not to come yet
        say(f"training ended at update {step} ({reason})")
        if here.main:
            metrics = trainer.validate_final()
            say(f"validation, final weights: {in_words(metrics)}")
            scores = score_tests(recipe, run_dir, tests, device)
            results = {"step": step, "ended_by": reason, "validation": metrics, "tests": scores}
            mark_finished(run_dir, plain, trainer.task.data, {**results, "targets": targets, "leaks": leaks})
            say(f"translate with: transformer-zoo translate {run_dir}")


def bleu_tokenize(recipe: Recipe) -> str:
    """sacreBLEU's tokenizer for BLEU: the recipe's, or that of the target language."""
    return recipe.test.bleu_tokenize or bleu_tokenizer(recipe.data.target_lang)


def check_scores(recipe: Recipe) -> None:
    """Can all scores be computed? A tokenizer may need a package or a download."""
    metrics = [
        *(["bleu"] if recipe.validation.bleu_sentences else []),
        *(recipe.test.metrics if recipe.data.tests else []),
    ]
    if not metrics:
        return
    try:
        check_scoring(metrics, bleu_tokenize(recipe))
    except UserError as error:
        of = "" if recipe.test.bleu_tokenize else f" (for data.target_lang {recipe.data.target_lang})"
        raise UserError(f"test.bleu_tokenize: {error}{of}") from None


def say_scores(recipe: Recipe, say: Say) -> None:
    """What the scores are computed with."""
    chosen = recipe.test.bleu_tokenize is not None
    by = "test.bleu_tokenize" if chosen else f"data.target_lang {recipe.data.target_lang}"
    say(f"BLEU: sacreBLEU's tokenizer {bleu_tokenize(recipe)}, by {by}")
    if recipe.data.tests and (warning := unfit_metrics(recipe.test.metrics, recipe.data.target_lang)):
        say(f"warning: test.metrics: {warning}")


def read_data(recipe: Recipe, say: Say) -> tuple[ParallelText, ParallelText]:
    """The text to train on, cleaned, and the text to validate on."""
    data = recipe.data
    validation, report = clean(read_parallel(data.validation), Cleaning(drop_duplicates=False))
    if report.n_dropped:
        say(report)
    train, report = clean(read_parallel(data.train), data.cleaning)
    say(report)
    return train, validation


def get_start(recipe: Recipe, run_dir: Path) -> Initial | None:
    """What `model.init_from` names, in the languages of the data; None where training starts from scratch."""
    if recipe.model.init_from is None:
        return None
    languages = {"source_lang": recipe.data.source_lang, "target_lang": recipe.data.target_lang}
    start = translation_start(recipe.model.init_from, run_dir, read_huggingface, **languages)
    model_config(recipe, start.tokenizer, start)  # do the fields fit?
    if recipe.tokenizer.sample_alpha and "sample_alpha" not in start.tokenizer.source.reads:
        raise UserError("tokenizer.sample_alpha: the tokenizer of this model draws no pieces; set it to 0")
    return start


def read_huggingface(name: str) -> Run | TextRun:
    """A model and its tokenizer from a folder of Hugging Face's, or from its hub."""
    folder = resolve(name)
    return imported_run(from_huggingface(folder), folder)


def get_tokenizer(recipe: Recipe, train: ParallelText, run_dir: Path, start: Initial | None) -> TranslationTokenizer:
    """The tokenizer of a run that goes on, or of the model it starts from; else the first process trains one."""
    folder = run_dir / "tokenizer"
    with distributed.first() as mine:
        if mine and not is_going_on(run_dir):
            if start is not None:
                tokenizer = start.tokenizer
            else:
                tokenizer = TranslationTokenizer.train(train.source, train.target, recipe.tokenizer, seed=recipe.seed)
            tokenizer.save(folder)
    return TranslationTokenizer.load(folder)


def model_config(
    recipe: Recipe, tokenizer: TranslationTokenizer | None = None, start: Initial | None = None
) -> EncoderDecoderConfig:
    """The preset with the recipe's changes, and the tokenizer's vocabularies; or the model that it starts from."""
    if start is not None:
        return without_special(keep_config(start.config, recipe.model), start.tokenizer)
    changes, preset = overridden(recipe.model), recipe.model.preset
    with naming("model.preset"):
        base = get_config(preset)
    if not isinstance(base, EncoderDecoderConfig):
        raise UserError(f"model.preset: {preset} is decoder-only; train it with recipes/gpt/train.py")
    if not recipe.tokenizer.joint:
        changes.setdefault("share_embeddings", "decoder")
    if tokenizer is None:
        changes["vocab_size"] = max(recipe.tokenizer.expected_size, ROOM_FOR_SPECIAL)
    else:
        changes["vocab_size"] = tokenizer.source.vocab_size
        changes["target_vocab_size"] = None if tokenizer.joint else tokenizer.target.vocab_size
        starts_with_pad = base.bos_id == base.pad_id  # as Marian's targets do
        changes |= {"pad_id": PAD_ID, "bos_id": PAD_ID if starts_with_pad else BOS_ID, "eos_id": EOS_ID}
        changes["source_end_id"] = None
        changes.setdefault("forced_last_id", None if base.forced_last_id is None else EOS_ID)
        changes.setdefault("never_ids", tuple(sorted(tokenizer.target.special_ids)))
        if not base.count_padding:  # M2M-100's first place follows the id of pad, there as here
            changes.setdefault("position_offset", PAD_ID + 1)
    with naming("model"):
        return cast(EncoderDecoderConfig, get_config(preset, **changes))


def make_task(
    recipe: Recipe,
    config: EncoderDecoderConfig,
    tokenizer: TranslationTokenizer,
    corpus: EpochCorpus,
    validation: ParallelText,
    contents: dict[str, str],
    longest: int,
    say: Say,
) -> Task:
    """Batches, model, loss and validation: what the trainer needs to know about translation."""
    budget, special = recipe.training.batch_tokens, special_ids(config)

    def plan(epoch: int) -> list[Any]:
        encoded = corpus(epoch)
        lengths = encoded.source_lengths, encoded.target_lengths
        indices = batch_indices(*lengths, batch_tokens=budget, seed=recipe.seed, epoch=epoch)
        return [functools.partial(collate, encoded, batch, special) for batch in indices]

    torch.manual_seed(recipe.seed)
    model = EncoderDecoder(config)
    objective = TranslationObjective(model, label_smoothing=recipe.training.label_smoothing)
    validator = Validator(recipe, tokenizer, validation, objective, longest, say)
    return Task(
        model=model,
        objective=objective,
        plan=plan,
        load=lambda batch: batch(),
        in_bucket=lambda batch: batch.in_bucket(special.pad_id, batch_tokens=budget, longest=longest_input(config)),
        validate=validator.validate,
        samples=validator.samples,
        data=contents,
        d_model=config.d_model,
        fine_tuning=recipe.model.init_from is not None,
    )


class Validator:
    """Plain NLL and perplexity over the validation text, BLEU and samples over its first sentences."""

    def __init__(
        self,
        recipe: Recipe,
        tokenizer: TranslationTokenizer,
        text: ParallelText,
        objective: TranslationObjective,
        longest: int,
        say: Say,
    ) -> None:
        self.recipe, self.tokenizer, self.text, self.objective = recipe, tokenizer, text, objective
        self.longest = longest
        # BLEU and samples are of all sentences: what is too long for the model is translated in pieces.
        self.corpus, report = drop_overlong(encode_corpus(text, tokenizer), longest_input(objective.model.config))
        if report.n_dropped:
            say(f"validation loss: {report}")
        lengths = self.corpus.source_lengths, self.corpus.target_lengths
        budget = max(recipe.training.batch_tokens, *(int(side.max()) for side in lengths))
        self.batches = evaluation_indices(*lengths, batch_tokens=budget)
        self.hypotheses: list[str] = []

    def validate(self) -> dict[str, int | float]:
        """NLL per token, perplexity, and BLEU where the recipe asks for it."""
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
            batching=Batching(dtype=dtype),
            name="validation",
        )
        self.hypotheses = list(found)
        if how.bleu_sentences:
            best, *references = (x[: how.bleu_sentences] for x in (self.hypotheses, *self.text.references))
            metrics["bleu"] = corpus_score(best, references, tokenize=bleu_tokenize(self.recipe))[0].score
        return metrics

    def samples(self) -> list[str]:
        """Some of the translations of the last `validate`, with source and reference."""
        shown = list(zip(self.text.source, self.hypotheses, self.text.target, strict=False))
        shown = shown[: self.recipe.validation.samples]
        return [f"  source     {s}\n  model      {h}\n  reference  {r}\n" for s, h, r in shown]


def score_tests(recipe: Recipe, run_dir: Path, tests: dict[str, ParallelText], device: torch.device) -> dict[str, Any]:
    """Translates every test with the final weights, keeps the hypotheses, prints scores and their signatures."""
    run, how = load_translation_run(run_dir, device=device), recipe.test
    results: dict[str, Any] = {}
    make_folder(run_dir, "test")
    for name, text in tests.items():
        hypotheses, results[name] = score_test(
            run.model,
            run.tokenizer,
            text,
            how.search,
            name=name,
            metrics=how.metrics,
            tokenize=bleu_tokenize(recipe),
            never=how.never,
            max_source_tokens=how.max_source_tokens or run.max_source_tokens,
        )
        keep_test(run_dir, name, text, hypotheses)
    return results


def keep_test(run_dir: Path, name: str, text: ParallelText, hypotheses: list[str]) -> None:
    """A test as it was scored: its source, its references, its translations."""
    files = kept_test(run_dir, name, len(text.more))
    write = {Path(path): lines for path, lines in zip(files.paths, (text.source, *text.references), strict=True)}
    for path, lines in {**write, run_dir / "test" / f"{name}.hyp": hypotheses}.items():
        write_text(path, "".join(line + "\n" for line in lines))


if __name__ == "__main__":
    sys.exit(distributed.run(lambda: main(sys.argv[1:])))
