"""Rows of tables out of what the benchmarks and the runs of recipes write, and how their cells are written."""

import ast
import re
import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from recipes.benchmarks.speed import OURS

Row = dict[str, Any]
"""Cells by the heading of their column: text, numbers, None for an empty one."""
FORMATS = {
    r"loss": ".4f",
    r"seed \d+|mean|median|(lower|upper) quartile|least|most|bits per byte": ".3f",
    r"BLEU|ours / \w+|of offline": ".2f",
    r"minutes": ".1f",
    r"p\d\d ms": ",.0f",
}
"""How the fractions of a column are written; other numbers by their size."""


def speeds(found: Mapping[str, Any]) -> Iterable[Row]:
    """The rows of the tables of `speed.report`."""
    for table in found["tables"]:
        batch = re.search(r", batch (\d+)$", table["title"])
        for row in table["rows"]:
            yield {
                **({"texts at once": int(batch[1])} if batch else {}),
                "implementation": row["name"],
                "precision": row["precision"],
                table["unit"]: row["speed"],
                "lowest": row["lowest"],
                "highest": row["highest"],
                "ours / this": None if row["name"] == OURS else row["ratio"],
            }


def beside_transformers(found: Mapping[str, Any]) -> Iterable[Row]:
    """The rows of zoo.py: a line for both sides of each race."""
    for table in found["tables"]:
        rows = table["rows"]
        for mine, theirs in zip(rows[::2], rows[1::2], strict=True):
            [(batch, search)] = re.findall(r", batch (\d+), (.+)$", mine["name"])
            yield {
                "family": table["title"],
                "model": _model(table["notes"][0]),
                "search": search,
                "texts at once": int(batch),
                "ours": mine["speed"],
                "theirs": theirs["speed"],
                "ours / theirs": theirs["ratio"],
            }


def _model(note: str) -> str:
    """The preset, and what was changed of it, in words."""
    [(preset, changes)] = re.findall(r"^(\S+) (\{.*?\})?", note)
    words = {"n_layers": "{} layers", "vocab_size": "vocabulary {:,}", "ffn.n_experts": "{} experts"}
    return ", ".join([preset, *(words[name].format(n) for name, n in ast.literal_eval(changes or "{}").items())])


def by_family(rows: Iterable[Row]) -> list[Row]:
    """The page's table of them: a line for each family; in brackets ours / theirs."""
    table = dict[str, Row]()
    for row in rows:
        cells = table.setdefault(row["family"], {"family": row["family"], "model": row["model"]})
        ratio = f"({row['ours / theirs']:.2f})"
        speed = f"{written('tokens/s', row['ours'])} "
        cells[counted(row, ("search", "texts at once"))] = (speed + ratio).strip()
    return list(table.values())


def answers(found: Mapping[str, Any]) -> Iterable[Row]:
    """The rows of serving.py."""
    for table in found["tables"]:
        offline = {"run": table["run"], "server": "none: offline, batches of 16", "clients": None}
        yield {**offline, "answers/s": table["offline"], "of offline": 1.0, "p50 ms": None, "p95 ms": None}
        for server, loads in table["loads"].items():
            for load in loads:
                yield {
                    "run": table["run"],
                    "server": server,
                    "clients": load["clients"],
                    "answers/s": load["per_second"],
                    "of offline": load["per_second"] / table["offline"],
                    "p50 ms": 1000 * load["p50"],
                    "p95 ms": 1000 * load["p95"],
                }


def chosen_and_tuned(found: Mapping[str, Any]) -> Iterable[Row]:
    """The rows of five_minutes.py."""
    for text, sides in found["scores"].items():
        for side, scores in sides.items():
            seeds = {f"seed {i}": score for i, score in enumerate(scores, 1)}
            score = "bits per byte" if text == "shakespeare" else "BLEU"
            yield {"text": text, "settings": side, "score": score, **seeds, "mean": statistics.mean(scores)}


def first_runs(found: Mapping[str, Any]) -> Iterable[Row]:
    """The rows of first_run.py; in brackets the updates."""
    for side, runs in found["runs"].items():
        if side in found["means"]:
            seeds = {f"seed {seed}": f"{run['bleu']:.2f} ({run['updates']})" for seed, run in runs.items() if run}
            yield {"side": side, **seeds, "mean": found["means"][side]}


def gains(found: Mapping[str, Any]) -> Iterable[Row]:
    """The rows of kernels.py."""
    for gain in found["gains"]:
        kernel, _, case = gain["case"].partition(", ")
        lower, median, upper = statistics.quantiles(gain["ratios"], n=4, method="inclusive")
        spread = {"lower quartile": lower, "median": median, "upper quartile": upper}
        yield {"kernel": kernel, "case": case, "threads": gain["threads"], **spread}


def rows_of_guard(found: Mapping[str, Any]) -> Iterable[Row]:
    """The rows of guard.py."""
    for row in found["rows"]:
        lower, median, upper = row["quartiles"]
        spread = {"least": min(row["ratios"]), "lower quartile": lower, "median": median, "upper quartile": upper}
        more = {"most": max(row["ratios"]), "measured": row["attempts"], "verdict": row["verdict"]}
        yield {"old / new seconds": row["row"], **spread, **more}


def tests_of_run(found: Mapping[str, Any]) -> Iterable[Row]:
    """The rows of the results.json of a translator."""
    for name, test in found["tests"].items():
        exact = f"{test['exact'] / test['sentences']:.1%}"
        score = {"test": name, "BLEU": test["bleu"], "exactly right": exact}
        yield {**score, **_effort(found), "signature": test["signatures"]["bleu"]}


def validation_of_run(found: Mapping[str, Any]) -> Iterable[Row]:
    """The row of the results.json of a GPT."""
    validation = found["validation"]
    yield {"loss": validation["loss"], "bits per byte": validation["bits_per_byte"], **_effort(found)}


def _effort(found: Mapping[str, Any]) -> Row:
    return {"updates": found["step"], **({"minutes": found["seconds"] / 60} if "seconds" in found else {})}


def counted(row: Row, columns: Iterable[str]) -> str:
    """The cells of these columns as a name; a whole number is said with its heading."""
    cells = {column: row[column] for column in columns if row.get(column) is not None}
    return ", ".join(
        f"{value} {column.replace('s', '', 1) if value == 1 else column}" if isinstance(value, int) else value
        for column, value in cells.items()
    )


def written(heading: str, value: Any) -> str:
    """A cell: a fraction as its column is written, or with three figures or more."""
    if value is None or isinstance(value, str):
        return str(value or "").replace("|", "\\|")
    if isinstance(value, int):
        return f"{value:,}"
    by_size = ",.0f" if value >= 1000 else ".1f" if value >= 10 else ".2f"
    return format(value, next((how for name, how in FORMATS.items() if re.fullmatch(name, heading)), by_size))
