"""BLEU, chrF and TER by sacreBLEU (Post 2018), with the signature that says how each was computed."""

from collections.abc import Sequence
from dataclasses import dataclass

from sacrebleu.metrics.base import Metric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER
from sacrebleu.significance import PairedTest, Result

from transformer_zoo.errors import UserError

METRICS = ("bleu", "chrf", "ter")


@dataclass(frozen=True)
class CorpusScore:
    """A score over a corpus, 0 to 100 (TER: from 0, lower is better), and sacreBLEU's signature."""

    metric: str
    score: float
    signature: str
    details: str
    """sacreBLEU's own line: for BLEU with n-gram precisions, brevity penalty and lengths."""


@dataclass(frozen=True)
class Comparison:
    """One metric of two systems on the same lines, by paired bootstrap resampling (Koehn 2004).

    `ci` is half the width of the 95 % interval around `mean` of the resampled scores, and `p_value` how
    likely a difference as large as that of the two scores is by chance.
    """

    metric: str
    signature: str
    scores: tuple[float, float]
    means: tuple[float, float]
    ci: tuple[float, float]
    p_value: float


def corpus_score(
    hypotheses: Sequence[str],
    references: Sequence[str],
    metrics: Sequence[str] = ("bleu",),
    *,
    tokenize: str = "13a",
    lowercase: bool = False,
) -> list[CorpusScore]:
    """Score translations against one reference each, in the order of `metrics`.

    Args:
        hypotheses, references: detokenized text, line for line.
        metrics: out of "bleu", "chrf" (chrF2) and "ter".
        tokenize: sacreBLEU's tokenizer for BLEU: 13a, intl, zh, ja-mecab, ..., or none for text that is
            tokenized already.
        lowercase: BLEU and chrF ignore case (TER always does in sacreBLEU's default).

    Raises:
        UserError: an unknown metric or unusable tokenizer, no lines, or numbers of lines that differ.
    """
    _check_lines(hypotheses, references)
    scores = []
    for name in metrics:
        metric = _build(name, tokenize, lowercase)
        result = metric.corpus_score(hypotheses, [references])
        scores.append(CorpusScore(name, result.score, str(metric.get_signature()), str(result)))
    return scores


def compare(
    first: Sequence[str],
    second: Sequence[str],
    references: Sequence[str],
    metrics: Sequence[str] = ("bleu",),
    *,
    tokenize: str = "13a",
    lowercase: bool = False,
    n_samples: int = 1000,
) -> list[Comparison]:
    """Whether two systems differ: `sacrebleu.significance` with paired bootstrap resampling.

    Args:
        first, second: the two systems' translations, line for line with `references`; the first is the
            baseline.
        n_samples: resamples of the lines.

    The other arguments and errors are those of `corpus_score`.
    """
    for hypotheses in (first, second):
        _check_lines(hypotheses, references)
    comparisons = []
    for name in metrics:
        test = PairedTest(
            [("first", list(first)), ("second", list(second))],
            {name: _build(name, tokenize, lowercase)},
            [list(references)],
            test_type="bs",
            n_samples=n_samples,
        )
        signatures, scores = test()
        [label] = signatures
        one, other = [result for result in scores[label] if isinstance(result, Result)]
        comparisons.append(
            Comparison(
                name,
                str(signatures[label]),
                (one.score, other.score),
                (_number(one.mean), _number(other.mean)),
                (_number(one.ci), _number(other.ci)),
                _number(other.p_value),
            )
        )
    return comparisons


def _number(value: float | None) -> float:
    assert value is not None
    return float(value)


def _check_lines(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    if len(hypotheses) != len(references):
        raise UserError(
            f"{len(hypotheses)} translations and {len(references)} references: they must match line for line"
        )
    if not references:
        raise UserError("there are no lines to score")


def _build(name: str, tokenize: str, lowercase: bool) -> Metric:
    if name == "chrf":
        return CHRF(lowercase=lowercase)
    if name == "ter":
        return TER()
    if name != "bleu":
        raise UserError(f"metric {name!r} is unknown: take {', '.join(METRICS)}")
    return _build_bleu(tokenize, lowercase)


def check_tokenizer(name: str) -> None:
    """Whether BLEU can be computed with sacreBLEU's tokenizer `name`.

    Raises:
        UserError: it is unknown, or needs a package or a download that is not there.
    """
    _build_bleu(name, lowercase=False)


def _build_bleu(tokenize: str, lowercase: bool) -> BLEU:
    if tokenize not in BLEU.TOKENIZERS:
        raise UserError(f"tokenizer {tokenize!r} is unknown to sacreBLEU: take {', '.join(sorted(BLEU.TOKENIZERS))}")
    try:
        # `force`: do not ask, for text that is tokenized on purpose, whether that was meant.
        return BLEU(tokenize=tokenize, lowercase=lowercase, force=tokenize == "none")
    except (ImportError, RuntimeError, OSError, SystemExit) as error:  # a package or a download is missing
        reason = " ".join(str(error).split())
        raise UserError(f"sacreBLEU's tokenizer {tokenize!r} cannot be used here: {reason}") from None
