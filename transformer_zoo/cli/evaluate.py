"""What `transformer-zoo evaluate` does: translate, score, keep, compare, print."""

import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from transformer_zoo.cli.streams import warn_of_cuts, with_progress
from transformer_zoo.data import TextFiles
from transformer_zoo.data.parallel import ParallelText
from transformer_zoo.evaluation import compare, corpus_score, text_score
from transformer_zoo.files import make_folder, write_json, write_text
from transformer_zoo.generation import translate_n_best
from transformer_zoo.generation.write import first_token
from transformer_zoo.training.checkpoint import load_text_run
from transformer_zoo.training.device import choose_device

if TYPE_CHECKING:
    from transformer_zoo.cli.search import SearchOptions
    from transformer_zoo.training.checkpoint import Run


@dataclass(frozen=True)
class Evaluated:
    """A run's translations of a text, and what was said about them."""

    hypotheses: list[str]
    report: dict[str, Any]


def evaluate_run(
    folder: Path,
    run: "Run",
    texts: Mapping[str, ParallelText],
    search: "SearchOptions",
    scoring: Mapping[str, Any],
) -> list[Evaluated]:
    """Translate each text and score it."""
    how = search.prepare(run)
    return [_evaluate(folder, run, name, text, how, search, scoring) for name, text in texts.items()]


def _evaluate(
    folder: Path,
    run: "Run",
    name: str,
    text: ParallelText,
    how: Mapping[str, Any],
    search: "SearchOptions",
    scoring: Mapping[str, Any],
) -> Evaluated:
    """Translate, score, and write RUN/evaluation/NAME.hyp with NAME.json beside it: settings and scores."""
    lines = translate_n_best(run.model, run.tokenizer, text.source, **how)
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
    kept = make_folder(folder, "evaluation")
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


def evaluate_text(
    run: Path, file: Path, separator: str | None, stride: int | None, search: "SearchOptions", as_json: bool
) -> None:
    """Nats per token, perplexity and bits per byte of a text under a decoder-only run, printed."""
    loaded = load_text_run(run, device=choose_device(search.device))
    tokenizer = loaded.tokenizer
    if separator is None:
        separator = ((loaded.recipe.get("data") or {}).get("validation") or {}).get("separator")
    has_start = bool(tokenizer.start_ids) or first_token(loaded.model) is not None
    lossy = False

    def documents() -> Iterator[tuple[list[int], int]]:
        nonlocal lossy
        for text in with_progress(TextFiles(path=str(file), separator=separator).documents(), f"{run}, {file.name}"):
            ids, raw = tokenizer.encode(text), text.encode()
            lossy = lossy or tokenizer.decode_bytes(ids) != raw
            yield ids, len(raw) - (0 if has_start else len(tokenizer.decode_bytes(ids[:1])))

    how = {"start_ids": tokenizer.start_ids, "stride": stride, "dtype": getattr(torch, search.dtype)}
    score = text_score(loaded.model, documents(), **how)
    if lossy:
        print("warning: the tokenizer loses a part of the text, which the bits per byte leave out", file=sys.stderr)
    numbers = {name: getattr(score, name) for name in ("nats_per_token", "perplexity", "bits_per_byte")}
    if as_json:
        print(json.dumps({"run": str(run), "file": str(file), **dataclasses.asdict(score), **numbers}, indent=2))
        return
    counts = {"tokens": f"{score.tokens:,}", "bytes": f"{score.bytes:,}"}
    shown = {**counts, **{name: f"{value:.4f}" for name, value in numbers.items()}}
    print_table([(name.replace("_", " "), value) for name, value in shown.items()])


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
