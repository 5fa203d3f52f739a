"""`transformer-zoo report`: what runs learned, from which texts, and how well, on one page."""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformer_zoo.errors import UsageError, UserError

if TYPE_CHECKING:
    from transformer_zoo.runs.history import Record

_SAMPLE = re.compile(r"  source +(.*)\n  model +(.*)\n  reference +(.*)\n")
_FIGURES = {"loss": "loss (nats per token)", "bleu": "BLEU", "bits_per_byte": "bits per byte"}


def report(runs: list[Path], output: Path = Path("report.html")) -> None:
    """Write a page about runs, in one file that can be read offline, sent and printed.

    The page has curves, samples over time, scores with signatures and 95 % intervals (paired bootstrap against the
    first run), texts and how much of them leaked into the training text, and settings that differ. It says what a run
    lacks so far.

    Args:
        runs: Folders of runs, finished or not, of any kind.
        output: File for the page.

    Examples:
        transformer-zoo report runs/my
        transformer-zoo report runs/first runs/second --output both.html
        transformer-zoo report runs/seed1 runs/seed2 runs/seed3 --output seeds.html
    """
    if not runs:
        raise UsageError("give the folder of a RUN, or of several")
    from transformer_zoo import __version__
    from transformer_zoo.cli.html import check_output, write_page
    from transformer_zoo.cli.report_scores import judged
    from transformer_zoo.pictures.drawing import check_matplotlib
    from transformer_zoo.runs.history import read_record

    check_output(output, (".html",))
    check_matplotlib()
    records = [read_record(run) for run in dict.fromkeys(runs)]
    shown = [_shown_of(record) for record in records]
    kept = [score for run in shown for score in run["scores"]]
    page = {"runs": shown, "curves": _curves(records), "scores": judged(kept), "settings": _settings(records)}
    write_page(output, "report.html", **page, version=__version__)
    print(f"{output}: {len(records)} run{'s' * (len(records) > 1)}")


def _shown_of(record: "Record") -> dict[str, Any]:
    """The page's content for one run."""
    from transformer_zoo.cli.report_scores import kept_scores

    try:
        return {
            **_summary(record),
            "figures": _validated(record),
            "samples": _samples(record.samples),
            "texts": _texts(record),
            "scores": [*kept_scores(record)],
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        said = f"results.json or a file in evaluation/ is not as runs write it ({error!r})"
        raise UserError(f"{record.folder}: {said}: put it back from a copy") from None


def _summary(record: "Record") -> dict[str, Any]:
    """A line of the overview, and what is missing."""
    from transformer_zoo.zoo.describe import describe

    recipe, results, trained = record.recipe, record.results, record.of("train")
    preset = (recipe.get("model") or {}).get("preset") or recipe.get("imported") or ""
    size = "" if record.config is None else f"{describe(record.config).total:,} parameters"
    final = (results or {}).get("validation") or {}
    seconds = next((row["seconds"] for row in reversed(trained) if "seconds" in row), None)
    return {
        "name": str(record.folder),
        "model": ", ".join(filter(None, [str(preset), size])) or "not built yet",
        "state": _state(record),
        "time": "" if seconds is None else f"{seconds / 60:,.1f} min",
        "final": ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in final.items()),
        "missing": [*_missing(record)],
    }


def _state(record: "Record") -> str:
    limit = (record.recipe.get("training") or {}).get("max_updates")
    if "imported" in record.recipe:
        return "imported"
    if record.results is not None:
        return f"ended at update {record.results['step']:,} by {record.results['ended_by']}"
    step = max((row["step"] for row in record.metrics), default=0)
    return f"in training, or stopped: update {step:,}" + (f" of {limit:,}" if limit else "")


def _missing(record: "Record") -> Iterator[str]:
    """What this run lacks and a finished run would have."""
    if "imported" in record.recipe and record.results is None:
        yield "It was trained elsewhere: there are no curves, no samples and no texts."
        return
    if record.results is None:
        yield "Training has not ended: there are no final scores, and leaks are not counted yet."
    elif not record.results.get("tests") and (record.recipe.get("data") or {}).get("target_lang"):
        yield "Its recipe names no data.tests: there are no scores of a test."
    if not record.metrics:
        yield "There are no figures yet (metrics.jsonl)."
    if not record.samples:
        yield "There are no samples (validation.samples may be 0)."


def _curves(records: Sequence["Record"]) -> dict[str, str] | None:
    """The picture of all curves for light and for dark pages; None if there are no curves."""
    from transformer_zoo.cli.html import address_of
    from transformer_zoo.pictures import curves

    folders = [record.folder for record in records if record.metrics]
    if not folders:
        return None
    pictures = {}
    for name in ("light", "dark"):
        file = io.BytesIO()
        curves(*folders, dark=name == "dark").savefig(file, format="svg", metadata={"Date": None})
        pictures[name] = address_of(file.getvalue(), "image/svg+xml")
    return pictures


def _validated(record: "Record") -> tuple[list[str], list[list[str]]]:
    """The table of validation metrics by update: names of columns, and rows."""
    rows = record.of("valid")
    names = [*dict.fromkeys(name for row in rows for name in row if name not in ("kind", "step"))]
    cells = [[f"{row['step']:,}", *(_number(row.get(name)) for name in names)] for row in rows]
    return ["update", *(_FIGURES.get(name, name.replace("_", " ")) for name in names)], cells


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else "–"


def _samples(entries: Sequence[tuple[int, str]]) -> tuple[list[dict[str, Any]], list[tuple[int, str]]]:
    """Translations of each source by update, if all samples are translations; otherwise the texts unchanged."""
    found: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for update, text in entries:
        parts = _SAMPLE.findall(text)
        if not parts or _SAMPLE.sub("", text).strip():
            return [], [*entries]
        for source, model, reference in parts:
            found.setdefault((source, reference), []).append((update, model))
    return [{"source": source, "reference": ref, "by": by} for (source, ref), by in found.items()], []


def _texts(record: "Record") -> list[dict[str, str]]:
    """Each text of a run: its path, its checksum, how much of it leaked, and how much of it cannot be written."""

    data, results = record.recipe.get("data") or {}, record.results or {}
    tests = {f"tests.{name}": where for name, where in (data.get("tests") or {}).items()}
    given = {"train": data.get("train"), "validation": data.get("validation"), **tests}
    return [_text(name, where, results) for name, where in given.items() if where]


def _text(name: str, where: Any, results: Mapping[str, Any]) -> dict[str, str]:
    short = name.removeprefix("tests.")
    leaks, unwritable, sums = (results.get(kind) or {} for kind in ("leaks", "targets", "texts"))
    files = where if isinstance(where, Mapping) else {"path": where}
    paths = [str(files[key]) for key in ("source", "target", "tsv", "jsonl", "path") if files.get(key)]
    found, lost = leaks.get(short), unwritable.get(short)
    return {
        "name": short,
        "files": ", ".join(paths),
        "checksum": str(sums.get(f"data.{name}", "")),
        "leaks": _leaks(found) if found else "",
        "cannot": f"{lost['not_writable']:,} of {lost['lines']:,}" if lost else "",
    }


def _leaks(found: Mapping[str, Any]) -> str:
    from transformer_zoo.data.splits import Leaks, Shared

    exact, near = (Shared(**found[kind]) for kind in ("exact", "near"))
    return str(Leaks(found["of"], exact, near))


def _settings(records: Sequence["Record"]) -> dict[str, Any]:
    """Recipes field by field: the fields that differ between runs, and all fields."""
    from transformer_zoo.training.fields import flatten
    from transformer_zoo.words import AS_PRESET

    flat = [{name: value for name, value in flatten(record.recipe).items() if value != AS_PRESET} for record in records]
    names = [name for name in dict.fromkeys(name for fields in flat for name in fields) if name != "run_dir"]
    rows = [(name, [_shown(fields.get(name)) for fields in flat]) for name in names]
    return {"differ": [(name, values) for name, values in rows if len({*values}) > 1], "all": rows}


def _shown(value: Any) -> str:
    return "–" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
