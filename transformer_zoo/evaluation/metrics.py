"""BLEU, chrF and TER by sacreBLEU (Post 2018), with the signature that says how each was computed."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from sacrebleu.metrics.base import Metric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER
from sacrebleu.significance import estimate_ci

from transformer_zoo.characters import is_blank
from transformer_zoo.errors import UserError

LABELS = {"bleu": "BLEU", "chrf": "chrF2", "chrf++": "chrF2++", "ter": "TER"}
METRICS = tuple(LABELS)
"""The names of scores that can be asked for: "bleu", "chrf", "chrf++", "ter"."""
References = Sequence[str] | Sequence[Sequence[str]]
"""One reference for each line, or several lists of references: `references[k][i]` is the k-th one of line i."""

_EXTRAS = {"ja-mecab": "ja", "ko-mecab": "ko"}


@dataclass(frozen=True)
class CorpusScore:
    """A score over a corpus, 0 to 100 (TER: from 0, lower is better), and sacreBLEU's signature."""

    metric: str
    score: float
    signature: str
    details: str
    """sacreBLEU's own line: for BLEU with n-gram precisions, brevity penalty and lengths."""

    @property
    def label(self) -> str:
        """The metric's name in papers."""
        return LABELS[self.metric]


@dataclass(frozen=True)
class Comparison:
    """One metric of two systems on the same lines, by paired bootstrap resampling (Koehn 2004).

    `ci` is half the width of the 95 % interval around `mean` of the resampled scores. `p_value` is the probability of a
    difference as large as that of the two scores by chance. In `ties` of the `n_samples` resamples both have the same
    score. The p-value counts only resamples with a larger difference, so many ties make it small.
    """

    metric: str
    signature: str
    scores: tuple[float, float]
    means: tuple[float, float]
    ci: tuple[float, float]
    p_value: float
    ties: int
    n_samples: int


def corpus_score(
    hypotheses: Sequence[str],
    references: References,
    metrics: Sequence[str] = ("bleu",),
    *,
    tokenize: str = "13a",
    lowercase: bool = False,
) -> list[CorpusScore]:
    """Score translations against their references, in the order of `metrics`.
    >>> round(corpus_score(["the cat sat on the mat"], ["the cat sat on the mat"])[0].score)
    100

    Args:
        hypotheses: detokenized text, line for line with the references.
        references: one for each line, or several lists; if there are several, a blank one counts as none.
        metrics: some of "bleu", "chrf" (chrF2), "chrf++" (chrF2++, with words and pairs of words) and "ter".
        tokenize: sacreBLEU's tokenizer for BLEU; `bleu_tokenizer` gives the one for a language, and "none" is for text
            that is tokenized already.
        lowercase: BLEU and chrF ignore case (TER always does in sacreBLEU's default).

    Raises:
        UserError: a metric is unknown, the tokenizer cannot be used, there are no lines, or the numbers of lines
            differ.
    """
    several = _lists(references, hypotheses)
    scores = []
    for name, metric in _build(metrics, tokenize, lowercase).items():
        result = metric.corpus_score(hypotheses, several)
        scores.append(CorpusScore(name, result.score, str(metric.get_signature()), str(result)))
    return scores


def compare(
    first: Sequence[str],
    second: Sequence[str],
    references: References,
    metrics: Sequence[str] = ("bleu",),
    *,
    tokenize: str = "13a",
    lowercase: bool = False,
    n_samples: int = 1000,
) -> list[Comparison]:
    """Whether two systems differ, by paired bootstrap resampling: the numbers of `sacrebleu.significance`.

    If both have the same score in every resample, the p-value is 1, because the metric sees no difference. sacreBLEU
    counts the resamples that are strictly larger, and would give its smallest p-value.
    >>> compare(["a cat"], ["a cat"], ["a dog"], n_samples=100)[0].p_value
    1.0

    Args:
        first, second: the two systems' translations, line for line with the references; the first is the
            baseline.
        n_samples: number of resamples of the lines, drawn with the environment's seed SACREBLEU_SEED, by default 12345.

    The other arguments and errors are those of `corpus_score`.
    """
    several, systems = _lists(references, first, second), (first, second)
    if n_samples < 1:
        raise UserError(f"n_samples is {n_samples}, expected at least 1")
    return [
        _compare(name, metric, systems, several, n_samples)
        for name, metric in _build(metrics, tokenize, lowercase).items()
    ]


def _compare(
    name: str,
    metric: Metric,
    systems: tuple[Sequence[str], Sequence[str]],
    references: Sequence[Sequence[str]],
    n_samples: int,
) -> Comparison:
    counts = [metric._extract_corpus_statistics(lines, references) for lines in systems]
    one, other = (float(metric._aggregate_and_compute(rows).score) for rows in counts)
    tables = [np.array(rows, dtype="float32") for rows in counts]  # (lines, counts), in sacreBLEU's precision
    seed = os.environ.get("SACREBLEU_SEED", "12345").lower()
    random, n = np.random.default_rng(None if seed == "none" else int(seed)), len(systems[0])
    drawn = (random.choice(n, n) for _ in range(n_samples))
    resampled = [[metric._compute_score_from_stats(x[rows].sum(0)).score for x in tables] for rows in drawn]
    ones, others = (np.array(scores) for scores in zip(*resampled, strict=True))
    differences = np.abs(others - ones)
    ties = int(np.sum(differences == 0))
    larger = int(np.sum(differences - differences.mean() > abs(one - other)))
    means, ci = zip(*(map(float, estimate_ci(scores)) for scores in (ones, others)), strict=True)
    signature = metric.get_signature()
    signature.update("seed", seed)
    signature.update("bs", n_samples)
    return Comparison(
        metric=name,
        signature=str(signature),
        scores=(one, other),
        means=means,
        ci=ci,
        p_value=1.0 if ties == n_samples else (larger + 1) / (n_samples + 1),
        ties=ties,
        n_samples=n_samples,
    )


def _lists(references: References, *systems: Sequence[str]) -> list[list[str]]:
    """The references of some systems in sacreBLEU's form: None for a line with fewer than others."""
    is_one = not references or isinstance(references[0], str)
    columns = cast(list[Sequence[str]], [references] if is_one else list(references))
    n, counts = len(columns[0]), ", ".join(str(len(column)) for column in columns)
    if any(len(column) != n for column in columns):
        raise UserError(f"the references have {counts} lines: they must match line for line")
    for hypotheses in systems:
        if len(hypotheses) != n:
            raise UserError(f"{len(hypotheses)} translations and {n} references: they must match line for line")
    if not n:
        raise UserError("there are no lines to score")
    if len(columns) == 1:
        return [list(columns[0])]
    rows = [[None if is_blank(text) else text for text in row] for row in zip(*columns, strict=True)]
    filled = [row if any(row) else ["", *row[1:]] for row in rows]
    # sacreBLEU's types do not say that None will do.
    return cast(list[list[str]], [list(column) for column in zip(*filled, strict=True)])


def check_scoring(metrics: Sequence[str], tokenize: str) -> None:
    """Check that these metrics can be computed, BLEU with sacreBLEU's tokenizer `tokenize`.

    Raises:
        UserError: a metric or the tokenizer is unknown, or needs a package or a download that is missing.
    """
    _build(metrics, tokenize, lowercase=False)


def _build(metrics: Sequence[str], tokenize: str, lowercase: bool) -> dict[str, Metric]:
    builders: dict[str, Callable[[], Metric]] = {
        "bleu": lambda: _build_bleu(tokenize, lowercase),
        "chrf": lambda: CHRF(lowercase=lowercase),
        "chrf++": lambda: CHRF(lowercase=lowercase, word_order=2),
        "ter": TER,
    }
    if unknown := [name for name in metrics if name not in builders]:
        raise UserError(f"metric {unknown[0]!r} is unknown: take {', '.join(METRICS)}")
    if not metrics:
        raise UserError(f"there is no metric to score by: take {', '.join(METRICS)}")
    return {name: builders[name]() for name in metrics}


def _build_bleu(tokenize: str, lowercase: bool) -> BLEU:
    if tokenize not in BLEU.TOKENIZERS:
        raise UserError(f"tokenizer {tokenize!r} is unknown to sacreBLEU: take {', '.join(sorted(BLEU.TOKENIZERS))}")
    try:
        # `force`: do not ask, for text that is tokenized on purpose, whether that was meant.
        return BLEU(tokenize=tokenize, lowercase=lowercase, force=tokenize == "none")
    except (ImportError, RuntimeError, OSError, SystemExit) as error:  # a package or a download is missing
        reason = " ".join(str(error).split())
        if tokenize in _EXTRAS:
            reason = f"install it with `pip install 'sacrebleu[{_EXTRAS[tokenize]}]'`, or take the tokenizer char"
        raise UserError(f"sacreBLEU's tokenizer {tokenize!r} cannot be used here: {reason}") from None
