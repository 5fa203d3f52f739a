"""Options of `evaluate`: which text is scored, and how."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jsonargparse.typing import PositiveInt

from transformer_zoo.errors import UsageError, UserError, printable

if TYPE_CHECKING:
    from transformer_zoo.data.parallel import ParallelFiles, ParallelText


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """What is translated and scored.

    Args:
        split: Text that the run's recipe names: one of its data.tests, or validation. By default all of data.tests.
        source: Text to translate instead of a split; needs --reference.
        reference: Its translations, line for line. If there are several references, give several files, or the option
            several times; a blank line in one of them means that it has no reference there.
        hypothesis: Translations to score instead of a run's; needs --reference. - is standard input. Their language is
            --target-lang, in any spelling.
    """

    split: str | None = None
    source: Path | None = None
    reference: list[Path] = field(default_factory=list)
    hypothesis: Path | None = None

    def check(self) -> None:
        """Raise a UsageError for options that do not go together."""
        if self.hypothesis is not None and (self.split is not None or self.source is not None):
            raise UsageError("--hypothesis excludes --split and --source")
        if self.source is not None and self.split is not None:
            raise UsageError("--split and --source exclude each other")
        text = "--source" if self.hypothesis is None else "--hypothesis"
        if (self.source is None and self.hypothesis is None) != (not self.reference):
            raise UsageError(f"{text} and --reference go together")

    def read(self, run: Path, recipe: Mapping[str, Any]) -> "dict[str, ParallelText]":
        """The texts to translate, by name: those of the options, or those that the run's recipe names."""
        from transformer_zoo.data.parallel import ParallelFiles, read_parallel
        from transformer_zoo.runs.kept_tests import check_kept_tests

        if self.source is None:
            named = named_texts(run, recipe, self.split)
            texts = {name: read_parallel(files) for name, files in named.items()}
            check_kept_tests(run, texts)
            return texts
        first, *more = map(str, self.reference)
        return {self.source.name: read_parallel(ParallelFiles(source=str(self.source), target=first, references=more))}


def named_texts(run: Path, recipe: Mapping[str, Any], split: str | None) -> "dict[str, ParallelFiles]":
    """The text of a split that the recipe names, or of all its tests.

    A run keeps a copy of each test that it was scored on, so the text is there even if the run was moved.
    """
    from transformer_zoo.data.parallel import ParallelFiles
    from transformer_zoo.runs.kept_tests import kept_test

    path, data = run / "config.yaml", recipe.get("data") or {}
    tests = data.get("tests") or {}
    splits = {**tests, **{name: data[name] for name in ("validation", "train") if data.get(name)}}
    if split is None and not tests:
        raise UserError(f"{path} has no data.tests: give --split validation, or --source and --reference")
    if split is not None and split not in splits:
        raise UserError(f"{path} has no split {split!r}: it names {', '.join(splits) or 'none'}")
    wanted = tests if split is None else {split: splits[split]}
    files = {name: ParallelFiles(**given) for name, given in wanted.items()}
    kept = {name: kept_test(run, name, len(files[name].references)) for name in files if name in tests}
    return {**files, **{name: copy for name, copy in kept.items() if all(Path(p).exists() for p in copy.paths)}}


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """How translations are scored.

    Args:
        metrics: One or more of bleu, chrf, chrf++, ter.
        tokenize: sacreBLEU's tokenizer for BLEU; none for text that is tokenized already. The default is the recipe's
            test.bleu_tokenize, or follows the target language: zh, ja-mecab, ko-mecab, char (Thai, Lao, Khmer,
            Burmese), 13a for others.
        lowercase: Ignore case in BLEU and chrF.
    """

    metrics: list[Literal["bleu", "chrf", "chrf++", "ter"]] = field(default_factory=lambda: ["bleu"])
    tokenize: str | None = None
    lowercase: bool = False

    @property
    def how(self) -> dict[str, Any]:
        """The scoring options if the language does not matter or was checked before."""
        return {"tokenize": self.tokenize or "13a", "lowercase": self.lowercase}

    def settle(self, language: str | None, recipe: Mapping[str, Any], *, more: str = "") -> "ScoreOptions":
        """The options with the tokenizer for translations into this language, by a run of this recipe, and each metric
        once.

        `more` says what besides --tokenize would name a tokenizer.

        Raises:
            UserError: such scores cannot be computed here.
        """
        from transformer_zoo.evaluation.languages import bleu_tokenizer, unfit_metrics
        from transformer_zoo.evaluation.metrics import check_scoring

        metrics = list(dict.fromkeys(self.metrics))
        tokenize = self.tokenize or (recipe.get("test") or {}).get("bleu_tokenize")
        if tokenize is None and language is None and "bleu" in metrics:
            warn(
                "the target language is not known: BLEU with sacreBLEU's tokenizer 13a, which is wrong for Chinese, "
                f"Japanese, Korean, Thai, Lao, Khmer and Burmese; {more}--tokenize names another"
            )
        if unfit := unfit_metrics(metrics, language):
            warn(unfit)
        tokenize = tokenize or bleu_tokenizer(language)
        check_scoring(metrics, tokenize)
        return replace(self, metrics=metrics, tokenize=tokenize)


@dataclass(frozen=True, kw_only=True)
class PredictionOptions:
    """Which text a decoder-only run predicts.

    Args:
        file: Text to predict: a file, a folder or a pattern, plain, .gz or JSON lines.
        separator: Line of --file between two documents, which are predicted separately. The default is that of the
            validation text in the run's recipe.
        stride: The window moves by this many tokens; a smaller number predicts better and takes longer. The default is
            half of the model's context.
    """

    file: Path | None = None
    separator: str | None = None
    stride: PositiveInt | None = None


def given(*groups: Any, but: Sequence[str] = ()) -> list[str]:
    """The options of these groups with values other than the default, as they are written."""
    return [
        "--" + field.name.replace("_", "-")
        for group in groups
        for field in fields(group)
        if field.name not in but and getattr(group, field.name) != getattr(type(group)(), field.name)
    ]


def refuse_beside(option: str, others: Sequence[str], flags: Mapping[str, bool]) -> None:
    """Raise a UsageError if one of the other options, or one of the flags, is given together with an option."""
    if excluded := [*others, *(name for name, there in flags.items() if there)]:
        raise UsageError(f"{option} excludes {', '.join(excluded)}")


def warn(message: str) -> None:
    """Print a line on standard error."""
    print(f"warning: {printable(message)}", file=sys.stderr, flush=True)
