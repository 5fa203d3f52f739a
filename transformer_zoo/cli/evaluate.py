"""The work of `transformer-zoo evaluate`: translate, score, keep, compare, print."""

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from transformer_zoo.cli.scoring import PredictionOptions, ScoreOptions, TextOptions, warn
from transformer_zoo.cli.search import Languages, SearchOptions
from transformer_zoo.cli.streams import input_lines, with_progress
from transformer_zoo.cli.tables import print_table
from transformer_zoo.data import TextFiles
from transformer_zoo.data.parallel import ParallelText, check_aligned, read_aligned
from transformer_zoo.errors import UserError
from transformer_zoo.evaluation import compare, corpus_score, text_score
from transformer_zoo.files import make_folder, write_json, write_text
from transformer_zoo.inference import first_token
from transformer_zoo.runs.folder import read_results, trained_on
from transformer_zoo.runs.hub import is_name
from transformer_zoo.runs.load import Run, load_text_run
from transformer_zoo.training.device import choose_device
from transformer_zoo.training.fields import flatten

_SHOWN = 5  # number of fields in which two recipes may differ in a message


@dataclass(frozen=True)
class Evaluated:
    """A system's translations of a text, and the report on them."""

    hypotheses: list[str]
    report: dict[str, Any]


def evaluate_file(
    texts: TextOptions, scoring: ScoreOptions, language: str | None, compare: Path | None
) -> dict[str, Any]:
    """The report on a file of translations into `language`, by any system, and on a second file."""
    references = read_aligned(texts.reference)
    files = [path for path in (texts.hypothesis, compare) if path is not None]
    hypotheses = [read_hypotheses(path, texts.reference[0], references[0]) for path in files]
    how = scoring.settle(language, {}, more="--target-lang or ")
    name = texts.reference[0].name
    results = [[evaluate_lines(name, str(texts.reference[0]), lines, references, how)] for lines in hypotheses]
    return report_on(files, results, {name: references}, how, compared=compare is not None)


def read_hypotheses(path: Path, reference: str | Path, lines: Sequence[str]) -> list[str]:
    """The translations in a file, as many as there are references; - is standard input."""
    found = list(input_lines(None if str(path) == "-" else path))
    check_aligned({str(path): found, str(reference): lines})
    return found


def evaluate_runs(
    runs: Sequence[Path],
    compare: Path | None,
    texts: TextOptions,
    scoring: ScoreOptions,
    search: SearchOptions,
    languages: Languages,
) -> dict[str, Any]:
    """The report on a run, on a second run or file to compare it with, or on several runs of one recipe.

    Input that cannot be used is refused before anything is translated, for the other runs too.
    """
    first, *others = [*runs, *([compare] if compare is not None and _is_run(compare) else [])]
    run = search.load_translation(first, languages)
    named = texts.read(first, run.recipe)
    how = scoring.settle(run.target_language, {} if languages.target_lang else run.recipe)
    lines = None if compare is None or _is_run(compare) else _only_text(compare, named)
    recipes = [(first, run.recipe)]
    for folder in others:
        recipes.append((folder, search.load_translation(folder, languages).recipe))
    if len(runs) > 1:
        check_same_recipe(recipes)
        for folder, recipe in recipes[1:]:
            check_same_text(folder, texts.read(folder, recipe), first, named)
    for folder in (first, *others):
        _kept_in(folder)
    results = [evaluate_run(first, run, named, search, how)]
    results += [
        evaluate_run(folder, search.load_translation(folder, languages), named, search, how) for folder in others
    ]
    references = {name: text.references for name, text in named.items()}
    if compare is not None and lines is not None:
        others.append(compare)
        results.append([evaluate_lines(name, text.name, lines, text.references, how) for name, text in named.items()])
    return report_on([first, *others], results, references, how, compared=compare is not None)


def _is_run(compared: Path) -> bool:
    """Whether it is not a file with translations."""
    return compared.is_dir() or (not compared.exists() and is_name(str(compared)))


def _kept_in(run: Path) -> Path | None:
    """The folder for a run's translations; None: the run is on the hub, and they are not kept."""
    return make_folder(run, "evaluation") if run.is_dir() else None


def _only_text(file: Path, named: Mapping[str, ParallelText]) -> list[str]:
    """Another system's translations of the only text."""
    if not file.exists():
        raise UserError(f"{file}: no such run folder, and no file with translations")
    (text, *more) = named.values()
    if more:
        raise UserError(f"{file} has translations of one text, and here are {len(named)}: name it with --split")
    return read_hypotheses(file, text.name, text.target)


def report_on(
    systems: Sequence[Path],
    results: Sequence[list[Evaluated]],
    references: Mapping[str, list[list[str]]],
    how: ScoreOptions,
    *,
    compared: bool,
) -> dict[str, Any]:
    """The output of `evaluate`: the systems with their scores and, if there are several, their comparison or means."""
    reports = [
        {"system": str(system), "splits": [result.report for result in found]}
        for system, found in zip(systems, results, strict=True)
    ]
    report: dict[str, Any] = {"systems": reports}
    if compared:
        report["comparisons"] = compare_systems(results[0], results[1], references, how)
    elif len(reports) > 1:
        report["means"] = means_of(reports)
    return report


def evaluate_run(
    folder: Path, run: Run, texts: Mapping[str, ParallelText], search: SearchOptions, scoring: ScoreOptions
) -> list[Evaluated]:
    """Translate each text, score it, and write RUN/evaluation/NAME.hyp and NAME.json with settings and scores, if there
    is such a folder."""
    translator, kept, results = search.translator(run, name=str(folder)), _kept_in(folder), []
    for name, text in texts.items():
        lines = (best.text for [best] in translator.best(text.source, scored=False, name=name))
        hypotheses = list(with_progress(lines, f"{folder}, {name}", len(text)))
        done = evaluate_lines(name, text.name, hypotheses, text.references, scoring)
        report = {**done.report, "search": {**translator.settings, "dtype": search.dtype}}
        if kept is not None:
            write_text(kept / f"{name}.hyp", "".join(line + "\n" for line in hypotheses))
            write_json(kept / f"{name}.json", {**report, **scoring.how})
        results.append(Evaluated(hypotheses, report))
    return results


def evaluate_lines(
    name: str, of: str, hypotheses: list[str], references: list[list[str]], scoring: ScoreOptions
) -> Evaluated:
    """Score translations by any system of the split `name`; `of` says where its text came from."""
    scores = [asdict(score) for score in corpus_score(hypotheses, references, scoring.metrics, **scoring.how)]
    return Evaluated(hypotheses, {"split": name, "text": of, "sentences": len(hypotheses), "scores": scores})


def compare_systems(
    first: Sequence[Evaluated],
    second: Sequence[Evaluated],
    references: Mapping[str, list[list[str]]],
    scoring: ScoreOptions,
) -> list[dict[str, Any]]:
    """Paired bootstrap of two systems on every text."""
    return [
        {"split": name, **asdict(comparison)}
        for one, other, (name, lines) in zip(first, second, references.items(), strict=True)
        for comparison in compare(one.hypotheses, other.hypotheses, lines, scoring.metrics, **scoring.how)
    ]


def means_of(systems: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each split and metric the mean over the systems' reports, and the sample standard deviation (n - 1)."""
    means = []
    for splits in zip(*(system["splits"] for system in systems), strict=True):
        for scores in zip(*(split["scores"] for split in splits), strict=True):
            values = [score["score"] for score in scores]
            spread = {"mean": statistics.mean(values), "standard_deviation": statistics.stdev(values)}
            about = {"split": splits[0]["split"], "metric": scores[0]["metric"], "signature": scores[0]["signature"]}
            means.append({**about, **spread, "n": len(values), "scores": values})
    return means


def check_same_recipe(recipes: Sequence[tuple[Path, Mapping[str, Any]]]) -> None:
    """Check that runs differ only in their seeds, so that the spread of their scores is due to chance.

    Raises:
        UserError: a run was not trained by a recipe, two have the same seed, recipes differ in more, or runs had
            different texts.
    """
    seeds: dict[int, Path] = {}
    first, wanted = recipes[0][0], flatten(dict(recipes[0][1]))
    texts = trained_on(read_results(first))
    for folder, recipe in recipes:
        found = flatten(dict(recipe))
        if (seed := found.get("seed")) is None:
            raise UserError(f"--mean: {folder} was not trained here by a recipe with a seed")
        changed = [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]
        if more := [name for name in changed if name not in ("seed", "run_dir")]:
            some = ", ".join(f"{name} {wanted.get(name)} and {found.get(name)}" for name in more[:_SHOWN])
            raise UserError(f"--mean: {first} and {folder} differ in more than their seeds: {some}")
        if seed in seeds:
            raise UserError(f"--mean: {seeds[seed]} and {folder} have the same seed, {seed}: train with another")
        seeds[seed] = folder
        others = trained_on(read_results(folder))
        if other := sorted(name for name in texts.keys() & others.keys() if texts[name] != others[name]):
            raise UserError(f"--mean: {first} and {folder} had different texts in {other[0]}: train both with one")


def check_same_text(
    folder: Path, texts: Mapping[str, ParallelText], other: Path, others: Mapping[str, ParallelText]
) -> None:
    """Raise a UserError if the texts of two runs' splits differ."""
    for name, text in texts.items():
        if (text.source, text.references) != (others[name].source, others[name].references):
            raise UserError(f"--mean: the text of {name} is not the same in {folder} and {other}: give --source")


def evaluate_text(run: Path, prediction: PredictionOptions, search: SearchOptions, as_json: bool) -> None:
    """Print nats per token, perplexity and bits per byte of a text under a decoder-only run."""
    file, separator = prediction.file, prediction.separator
    assert file is not None
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

    how = {"start_ids": tokenizer.start_ids, "stride": prediction.stride, "dtype": getattr(torch, search.dtype)}
    score = text_score(loaded.model, documents(), **how)
    if lossy:
        warn("the tokenizer loses a part of the text, which the bits per byte leave out")
    numbers = {name: getattr(score, name) for name in ("nats_per_token", "perplexity", "bits_per_byte")}
    if as_json:
        print(json.dumps({"run": str(run), "file": str(file), **asdict(score), **numbers}, indent=2))
        return
    counts = [("tokens", f"{score.tokens:,}"), ("bytes", f"{score.bytes:,}")]
    print_table([*counts, *((name.replace("_", " "), f"{value:.4f}") for name, value in numbers.items())])
