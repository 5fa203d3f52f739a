"""Scores of runs for a report: the scores that the runs keep, with intervals computed from their translations."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sacrebleu.metrics.bleu import BLEU

from transformer_zoo.data.parallel import check_aligned, read_aligned, read_lines
from transformer_zoo.errors import UserError
from transformer_zoo.evaluation import compare
from transformer_zoo.evaluation.metrics import LABELS
from transformer_zoo.files import json_object, read_bytes
from transformer_zoo.runs.history import Record

_CHANGED = 0.01  # difference of a score that rounding does not explain


@dataclass(frozen=True)
class Score:
    """One metric of one text.

    Args:
        run: Name of the run.
        text: Name of the text.
        when: What computed the score.
        metric, value, signature: As sacreBLEU gives them.
        said: What else is known: number of sentences, settings of the search.
        hypotheses: File of the translations.
        references: Files of the references, if they were kept.
        half: Half of the 95 % interval around the score; None: `note` says why there is none.
        p_value: That of the difference to the first run, by paired bootstrap; None: there is nothing to compare.
        note: A remark about the interval.
    """

    run: str
    text: str
    when: str
    metric: str
    value: float
    signature: str
    said: str
    hypotheses: Path
    references: tuple[Path, ...]
    half: float | None = None
    p_value: float | None = None
    note: str = ""

    @property
    def label(self) -> str:
        """The metric's name in papers."""
        return LABELS.get(self.metric, self.metric)


def kept_scores(record: Record) -> Iterator[Score]:
    """All scores that a run keeps."""
    yield from _tests(record)
    yield from _evaluations(record)


def judged(scores: Sequence[Score]) -> list[Score]:
    """Scores by text, source and metric, with intervals, and compared with the first run's."""
    first: dict[tuple[str, str, str], Score] = {}
    ordered = sorted(scores, key=lambda score: (score.text, score.when, score.metric))
    return [_judged(score, first.setdefault((score.text, score.when, score.metric), score)) for score in ordered]


def _tests(record: Record) -> Iterator[Score]:
    """The scores that the end of training computed."""
    for name, of in ((record.results or {}).get("tests") or {}).items():
        said = f"{of['sentences']:,} sentences, {of['exact']:,} exactly right, beam {of['beam']}"
        files = record.folder / "test" / f"{name}.hyp", _references(record.folder, name)
        for metric, signature in of["signatures"].items():
            about = str(record.folder), name, "end of training", metric, float(of[metric]), str(signature), said
            yield Score(*about, *files)


def _evaluations(record: Record) -> Iterator[Score]:
    """The scores that `transformer-zoo evaluate` computed."""
    for path in sorted((record.folder / "evaluation").glob("*.json")):
        report = json_object(read_bytes(path), path, "evaluate again")
        search = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in (report.get("search") or {}).items())
        said = f"{report['sentences']:,} sentences" + f", {search}" * bool(search)
        for score in report["scores"]:
            figures = str(score["metric"]), float(score["score"]), str(score["signature"]), said
            files = path.with_suffix(".hyp"), _references(record.folder, path.stem)
            yield Score(str(record.folder), path.stem, "evaluate", *figures, *files)


def _references(run_dir: Path, name: str) -> tuple[Path, ...]:
    """The references of a test, which the run keeps."""
    kept = run_dir / "test"
    more = sorted(kept.glob(f"{name}.ref[0-9]*"), key=lambda path: int(path.suffix.removeprefix(".ref")))
    return tuple(path for path in (kept / f"{name}.ref", *more) if path.exists())


def _judged(score: Score, first: Score) -> Score:
    """The score with its interval, and the p-value of its difference to the first run's."""
    if not score.references or not score.hypotheses.exists():
        return replace(score, note="no interval: the run keeps no references of this text")
    own, references = [*read_lines(score.hypotheses)], read_aligned(score.references)
    check_aligned({str(score.hypotheses): own, str(score.references[0]): references[0]})
    other = _comparable(score, first, references)
    lowercase, tokenize = "case:lc" in score.signature, _tokenizer(score.signature)
    try:
        [found] = compare(other or own, own, references, [score.metric], tokenize=tokenize, lowercase=lowercase)
    except UserError as error:
        return replace(score, note=f"no interval: {error}")
    if abs(found.scores[1] - score.value) > _CHANGED:
        had = f"{score.label} {found.scores[1]:.2f} now, and had {score.value:.2f} when they were scored"
        raise UserError(f"{score.hypotheses}: these translations have {had}: put back what was scored")
    note = "" if other or score is first else "not compared: another text, or scored in another way"
    return replace(score, half=found.ci[1], p_value=found.p_value if other else None, note=note)


def _tokenizer(signature: str) -> str:
    """sacreBLEU's tokenizer in a signature, which may be followed by its version; the default one for a metric
    without."""
    found = re.search(r"tok:([^|]+)", signature)
    known = (name for name in sorted(BLEU.TOKENIZERS, key=len, reverse=True) if found and found[1].startswith(name))
    return next(known, "13a")


def _comparable(score: Score, first: Score, references: list[list[str]]) -> list[str] | None:
    """The first run's translations, if they are of the same text and were scored in the same way."""
    if score is first or first.signature != score.signature or not first.references or not first.hypotheses.exists():
        return None
    return [*read_lines(first.hypotheses)] if read_aligned(first.references) == references else None
