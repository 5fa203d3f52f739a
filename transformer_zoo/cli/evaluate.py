"""What `transformer-zoo evaluate` does: translate, score, keep, compare, print."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformer_zoo.cli.streams import warn_of_cuts, with_progress
from transformer_zoo.data.parallel import ParallelText
from transformer_zoo.evaluation import compare, corpus_score
from transformer_zoo.generation import translate_n_best
from transformer_zoo.training.files import write_json, write_text

if TYPE_CHECKING:
    from transformer_zoo.cli.commands import Search
    from transformer_zoo.training.checkpoint import Run


@dataclass(frozen=True)
class Evaluated:
    """A run's translations of a text, and what was said about them."""

    hypotheses: list[str]
    report: dict[str, Any]


def evaluate_run(
    folder: Path, run: "Run", name: str, text: ParallelText, search: "Search", scoring: Mapping[str, Any]
) -> Evaluated:
    """Translate, score, and write RUN/evaluation/NAME.hyp with NAME.json beside it: settings and scores."""
    lines = translate_n_best(run.model, run.tokenizer, text.source, **search.options(run))
    found = [best for best, *_ in with_progress(lines, f"{folder}, {name}", len(text))]
    warn_of_cuts([number for number, best in enumerate(found, start=1) if best.is_cut])
    hypotheses = [best.text for best in found]
    scores = corpus_score(hypotheses, text.target, **scoring)
    report = {
        "split": name,
        "text": text.name,
        "sentences": len(text),
        "search": {**search.settings(run), "dtype": search.dtype},
        "scores": [dataclasses.asdict(score) for score in scores],
    }
    kept = folder / "evaluation"
    kept.mkdir(exist_ok=True)
    write_text(kept / f"{name}.hyp", "".join(line + "\n" for line in hypotheses))
    write_json(kept / f"{name}.json", {**report, **{k: v for k, v in scoring.items() if k != "metrics"}})
    return Evaluated(hypotheses, report)


def compare_runs(
    first: Sequence[Evaluated],
    second: Sequence[Evaluated],
    texts: Mapping[str, ParallelText],
    scoring: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Paired bootstrap of two runs on every text."""
    return [
        {"split": name, **dataclasses.asdict(comparison)}
        for one, other, (name, text) in zip(first, second, texts.items(), strict=True)
        for comparison in compare(one.hypotheses, other.hypotheses, text.target, **scoring)
    ]


def print_scores(report: Mapping[str, Any]) -> None:
    """A row for each split and metric."""
    rows = [("split", "metric", "score", "signature")]
    for split in report["splits"]:
        for score in split["scores"]:
            rows.append((split["split"], score["metric"], f"{score['score']:.2f}", score["signature"]))
    print_table(rows)
    _print_search(report["splits"])


def print_comparisons(report: Mapping[str, Any]) -> None:
    """A row for each split and metric: both scores with half their 95 % intervals, and the p-value."""
    names = [report["run"], report["compared_with"]["run"]]
    rows = [("split", "metric", *names, "p-value", "signature")]
    for row in report["comparisons"]:
        scores = [f"{score:.2f} ± {ci:.2f}" for score, ci in zip(row["scores"], row["ci"], strict=True)]
        rows.append((row["split"], row["metric"], *scores, f"{row['p_value']:.4f}", row["signature"]))
    print_table(rows)
    for name, splits in zip(names, (report["splits"], report["compared_with"]["splits"]), strict=True):
        _print_search(splits, f"{name}: ")


def _print_search(splits: Sequence[Mapping[str, Any]], start: str = "") -> None:
    print(start + ", ".join(f"{name} {value}" for name, value in splits[0]["search"].items()))


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as what is in them."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
