"""What `evaluate` prints: tables, for a terminal or in LaTeX."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from transformer_zoo.errors import printable

Rows = list[tuple[str, ...]]
"""The first row has the names of the columns."""

_MANY_TIES = 1 / 20
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    **{sign: "\\" + sign for sign in "&%$#_{}"},
}


def print_report(report: Mapping[str, Any], *, latex: bool) -> None:
    """Print the most informative table: comparisons, else means, else scores; below it how they were computed."""
    systems: Sequence[Mapping[str, Any]] = report["systems"]
    notes: list[str] = []
    if "comparisons" in report:
        table, notes = _comparisons(report)
    else:
        table = _means(report["means"]) if "means" in report else _scores(systems[0])
    notes += _searches(systems)
    if latex:  # signatures are too long for a page
        notes = [*(f"{row[0]}, {row[1]}: {row[-1]}" for row in table[1:]), *notes]
        table = [row[:-1] for row in table]
    print_table(table, notes, latex=latex)


def _scores(system: Mapping[str, Any]) -> Rows:
    rows: Rows = [("split", "metric", "score", "signature")]
    for split in system["splits"]:
        for score in split["scores"]:
            rows.append((split["split"], score["metric"], f"{score['score']:.2f}", score["signature"]))
    return rows


def _comparisons(report: Mapping[str, Any]) -> tuple[Rows, list[str]]:
    """A row for each split and metric: both scores with half their 95 % intervals, and the p-value."""
    systems = report["systems"]
    rows: Rows = [("split", "metric", *(system["system"] for system in systems), "p-value", "signature")]
    notes = []
    for row in report["comparisons"]:
        scores = [f"{score:.2f} ± {ci:.2f}" for score, ci in zip(row["scores"], row["ci"], strict=True)]
        rows.append((row["split"], row["metric"], *scores, f"{row['p_value']:.4f}", row["signature"]))
        if row["ties"] > row["n_samples"] * _MANY_TIES:
            share = f"{row['split']}, {row['metric']}: the same score in {row['ties']} of {row['n_samples']} resamples"
            same = row["ties"] == row["n_samples"]
            notes.append(
                f"{share}; {'nothing differs that it sees' if same else 'the p-value takes no account of ties'}"
            )
    return rows, notes


def _means(means: Sequence[Mapping[str, Any]]) -> Rows:
    """A row for each split and metric: mean and sample standard deviation over the runs, and each run's score."""
    rows: Rows = [("split", "metric", "mean ± deviation", "runs", "scores", "signature")]
    for row in means:
        spread = f"{row['mean']:.2f} ± {row['standard_deviation']:.2f}"
        scores = ", ".join(f"{score:.2f}" for score in row["scores"])
        rows.append((row["split"], row["metric"], spread, str(row["n"]), scores, row["signature"]))
    return rows


def _searches(systems: Sequence[Mapping[str, Any]]) -> list[str]:
    """How each system searched, as far as it is known."""
    lines = []
    for system in systems:
        if search := system["splits"][0].get("search"):
            start = f"{system['system']}: " if len(systems) > 1 else ""
            lines.append(start + ", ".join(f"{name} {value}" for name, value in search.items()))
    return lines


def print_table(rows: Sequence[Sequence[str]], notes: Sequence[str] = (), *, latex: bool = False) -> None:
    """Columns as wide as their content, the first row above the others; notes below.

    In LaTeX it is a `tabular` that needs no package, and notes are comments.
    """
    rows, notes = [[printable(cell) for cell in row] for row in rows], [printable(note) for note in notes]
    if latex:
        _print_latex(rows, notes)
        return
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for note in notes:
        print(note)


def _print_latex(rows: Sequence[Sequence[str]], notes: Sequence[str]) -> None:
    lines = [" & ".join(map(_escaped, row)) + r" \\" for row in rows]
    numbers = [all(re.match(r"-?\d", row[i]) for row in rows[1:]) for i in range(len(rows[0]))]
    print(r"\begin{tabular}{" + "".join("r" if number else "l" for number in numbers) + "}")
    print("\n".join([r"\hline", lines[0], r"\hline", *lines[1:], r"\hline", r"\end{tabular}"]))
    for note in notes:
        print(f"% {note}")


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)
