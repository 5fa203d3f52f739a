"""Trains a translation model from raw parallel text, and scores it.

    python recipes/translation/train.py recipes/translation/multi30k.yaml [--optimizer.lr 0.001 ...]

Read from `main` on: text -> tokenizer -> batches -> model -> training -> BLEU. The same command goes on with
a run that was stopped. `torchrun --nproc-per-node N recipes/translation/train.py ...` trains on N GPUs.
"""

import dataclasses
import functools
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from transformer_zoo.config import EncoderDecoderConfig
from transformer_zoo.data import (
    Cleaning,
    EncodedCorpus,
    ParallelFiles,
    ParallelText,
    TokenizerSettings,
    TranslationTokenizer,
    batch_indices,
    clean,
    collate,
    drop_overlong,
    encode_corpus,
    evaluation_indices,
    read_parallel,
)
from transformer_zoo.errors import UserError
from transformer_zoo.evaluation import corpus_score
from transformer_zoo.generation import translate
from transformer_zoo.models import EncoderDecoder
from transformer_zoo.training import distributed
from transformer_zoo.training.checkpoint import load_run, save_model_config
from transformer_zoo.training.config import RunConfig
from transformer_zoo.training.device import choose_device, choose_precision
from transformer_zoo.training.files import write_text
from transformer_zoo.training.folder import check_run, is_finished, mark_finished, open_run
from transformer_zoo.training.loop import Task, Trainer
from transformer_zoo.training.options import overrides_of, parse_recipe
from transformer_zoo.training.translation import TranslationObjective, mean_nll
from transformer_zoo.zoo import get_config


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


def main(arguments: list[str]) -> None:
    """One run."""
    recipe, plain = parse_recipe(Recipe, arguments)
    run_dir, here = Path(recipe.run_dir), distributed.world()
    say: Callable[..., None] = print if here.main else (lambda *words: None)
    recipe.validate()
    model_config(recipe)  # before the work: is there such a preset, do the fields fit?
    device = choose_device(recipe.device, here.local_rank)
    train, validation, tests = read_data(recipe, say)
    open_run(run_dir, plain, main=here.main)
    if is_finished(run_dir, plain):
        return say(
            f"{run_dir} is finished: results.json has its scores; raise training.max_updates to train on"
        )

    distributed.start(here, device)
    tokenizer = get_tokenizer(recipe, train, run_dir)
    task = make_task(recipe, tokenizer, train, validation, say)
    if here.main:
        save_model_config(run_dir, "encoder-decoder", model_config(recipe, tokenizer))
    trainer = Trainer(task, recipe, world=here)
    size = sum(p.numel() for p in task.model.parameters())
    say(f"{size:,} parameters on {device}, {trainer.dtype}, {here.size} process(es); run folder {run_dir}")
    reason = trainer.fit()
    if reason == "signal":
        return say(f"stopped at update {trainer.progress.step}; the same command goes on from there")
    say(f"training ended at update {trainer.progress.step} ({reason})")
    if here.main:
        results = score_tests(recipe, run_dir, tests, device)
        mark_finished(run_dir, plain, {"step": trainer.progress.step, "ended_by": reason, "tests": results})
        say(f"translate with: transformer-zoo translate {run_dir}")
    if lock is not None:
        lock.close()


def read_data(
    recipe: Recipe, say: Callable[..., None]
) -> tuple[ParallelText, ParallelText, dict[str, ParallelText]]:
    """All text of a recipe, the training part cleaned."""
    data = recipe.data
    for name, files in {"train": data.train, "validation": data.validation, **data.tests}.items():
        try:
            files.validate()
        except UserError as error:
            raise UserError(f"data.{name}: {error}") from None
    train, report = clean(read_parallel(data.train), data.cleaning)
    say(report)
    validation, report = clean(read_parallel(data.validation), Cleaning(drop_duplicates=False))
    if report.n_dropped:
        say(report)
    return train, validation, {name: read_parallel(files) for name, files in data.tests.items()}


def get_tokenizer(recipe: Recipe, train: ParallelText, run_dir: Path) -> TranslationTokenizer:
    """The tokenizer of a run that goes on; for a new one the first process trains it."""
    folder = run_dir / "tokenizer"
    if distributed.world().main and not (run_dir / "checkpoints" / "last.pt").exists():
        tokenizer = TranslationTokenizer.train(train.source, train.target, recipe.tokenizer, seed=recipe.seed)
        tokenizer.save(folder)
    distributed.barrier()
    return TranslationTokenizer.load(folder)


def model_config(recipe: Recipe, tokenizer: TranslationTokenizer | None = None) -> EncoderDecoderConfig:
    """The preset with the recipe's changes, and the tokenizer's vocabularies."""
    changes = {name: value for name, value in dataclasses.asdict(recipe.model).items() if value is not None}
    preset = changes.pop("preset")
    if not recipe.tokenizer.joint:
        changes.setdefault("share_embeddings", "decoder")
    if tokenizer is not None:
        changes["vocab_size"] = tokenizer.source.vocab_size
        changes["target_vocab_size"] = None if tokenizer.joint else tokenizer.target.vocab_size
    return get_config(preset, **changes)


def make_task(
    recipe: Recipe,
    tokenizer: TranslationTokenizer,
    train: ParallelText,
    validation: ParallelText,
    say: Callable[..., None],
) -> Task:
    """Batches, model, loss and validation: what the trainer needs to know about translation."""
    config = model_config(recipe, tokenizer)
    budget = recipe.training.batch_tokens
    longest = min(recipe.data.cleaning.max_tokens or budget, budget)
    if config.positions == "learned":
        longest = min(longest, config.max_seq_len)
    alpha = recipe.tokenizer.sample_alpha

    @functools.lru_cache(maxsize=1)
    def corpus(epoch: int) -> EncodedCorpus:
        encoded = encode_corpus(train, tokenizer, sample_alpha=alpha, seed=recipe.seed, epoch=epoch)
        encoded, report = drop_overlong(encoded, longest)
        if report.n_dropped and epoch == 0:
            say(report)
        return encoded

    def plan(epoch: int) -> list[Any]:
        encoded = corpus(epoch if alpha else 0)
        lengths = encoded.source_lengths, encoded.target_lengths
        indices = batch_indices(*lengths, batch_tokens=budget, seed=recipe.seed, epoch=epoch)
        return [functools.partial(collate, encoded, batch) for batch in indices]

    torch.manual_seed(recipe.seed)
    model = EncoderDecoder(config)
    objective = TranslationObjective(model, label_smoothing=recipe.training.label_smoothing)
    validator = Validator(recipe, tokenizer, validation, objective)
    return Task(
        model=model,
        objective=objective,
        plan=plan,
        load=lambda batch: batch(),
        validate=validator.validate,
        samples=validator.samples,
        d_model=config.d_model,
    )


class Validator:
    """Plain NLL and perplexity over the validation text, BLEU and samples over its first sentences."""

    def __init__(
        self,
        recipe: Recipe,
        tokenizer: TranslationTokenizer,
        text: ParallelText,
        objective: TranslationObjective,
    ) -> None:
        self.recipe, self.tokenizer, self.text, self.objective = recipe, tokenizer, text, objective
        self.corpus = encode_corpus(text, tokenizer)
        lengths = self.corpus.source_lengths, self.corpus.target_lengths
        budget = max(recipe.training.batch_tokens, *(int(side.max()) for side in lengths))
        self.batches = evaluation_indices(*lengths, batch_tokens=budget)
        self.hypotheses: list[str] = []

    def validate(self) -> dict[str, int | float]:
        """NLL per token, perplexity, and BLEU where the recipe asks for it."""
        nll = mean_nll(self.objective, (collate(self.corpus, batch) for batch in self.batches))
        metrics: dict[str, int | float] = {"loss": nll, "perplexity": math.exp(min(nll, 700))}
        how, model = self.recipe.validation, self.objective.model
        lines = self.text.source[: max(how.bleu_sentences, how.samples)]
        dtype = choose_precision(self.recipe.precision, model.head_weight.device)
        self.hypotheses = list(translate(model, self.tokenizer, lines, beam=how.beam, dtype=dtype))
        if how.bleu_sentences:
            found, references = self.hypotheses[: how.bleu_sentences], self.text.target[: how.bleu_sentences]
            tokenize = self.recipe.test.bleu_tokenize
            metrics["bleu"] = corpus_score(found, references, tokenize=tokenize)[0].score
        return metrics

    def samples(self) -> list[str]:
        """Some of the translations of the last `validate`, with source and reference."""
        shown = list(zip(self.text.source, self.hypotheses, self.text.target, strict=False))
        shown = shown[: self.recipe.validation.samples]
        return [f"  source     {s}\n  model      {h}\n  reference  {r}\n" for s, h, r in shown]


def score_tests(
    recipe: Recipe, run_dir: Path, tests: dict[str, ParallelText], device: torch.device
) -> dict[str, Any]:
    """Translates every test with the final weights, keeps the hypotheses, and prints BLEU with its signature."""
    run, how = load_run(run_dir, device=device), recipe.test
    results: dict[str, Any] = {}
    search: dict[str, Any] = {"beam": how.beam, "length_penalty": how.length_penalty, "penalty": how.penalty}
    (run_dir / "test").mkdir(exist_ok=True)
    for name, text in tests.items():
        hypotheses = list(translate(run.model, run.tokenizer, text.source, **search))
        write_text(run_dir / "test" / f"{name}.hyp", "".join(line + "\n" for line in hypotheses))
        bleu = corpus_score(hypotheses, text.target, tokenize=how.bleu_tokenize)[0]
        same = sum(
            hypothesis == reference for hypothesis, reference in zip(hypotheses, text.target, strict=True)
        )
        print(
            f"{name}: BLEU {bleu.score:.2f}  {bleu.signature}  ({same} of {len(text)} exactly right)",
            flush=True,
        )
        results[name] = {
            "bleu": bleu.score,
            "signature": bleu.signature,
            "exact": same,
            "sentences": len(text),
            **search,
        }
    return results


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
    finally:
        distributed.stop()
