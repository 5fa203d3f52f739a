"""Measures a part of the results, and writes tables and charts of all of them into docs/.

    python recipes/benchmarks/results.py [PART] [--options="--rounds 1 ..."] [--machine NAME]
    python recipes/benchmarks/results.py PART --found FILE ... [--command COMMAND] [--commit COMMIT]

`make results PART=zoo` is the first line. It runs the command of the part (recipes/benchmarks/results_parts.py), and
writes what it measured to docs/results/PART/MACHINE.json, with command, commit and machine. The second line takes what
a command wrote elsewhere. Without PART nothing is measured. Each time the tables between the marks in docs/*.md, and
the charts in docs/pictures/, are written again from these files: nobody copies a figure by hand.
"""

import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jsonargparse import ArgumentParser, Namespace

if not __package__:  # instead of this folder, whose kernels.py others would take for a package
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from recipes.benchmarks import charts
from recipes.benchmarks.results_parts import PARTS, Chart, Part
from recipes.benchmarks.results_rows import Row, counted, written
from recipes.benchmarks.speed import machine
from transformer_zoo.errors import UserError, run_program
from transformer_zoo.files import json_object, write_text
from transformer_zoo.training.device import choose_device
from transformer_zoo.words import did_you_mean

ROOT = Path(__file__).resolve().parents[2]
MARKED = re.compile(r"<!-- results ([\w-]+) -->\n.*?<!-- end of results -->", re.S)
SETS = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16", "avx512_f": "AVX-512", "avx2": "AVX2"}


def parse_options(arguments: Sequence[str]) -> Namespace:
    """The command line."""
    parser = ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add: Callable[..., Any] = parser.add_argument
    add("part", nargs="?", type=str | None, default=None, help=f"what to measure: {', '.join(PARTS)}")
    add("--options", type=str, default="", help="more options for its command, as one word")
    add("--machine", type=str | None, default=None, help="name of this machine; else processor and instruction set")
    add("--found", nargs="+", type=Path, default=[], help="take what the command wrote here, and measure nothing")
    add("--command", type=str | None, default=None, help="with --found: the command that wrote it")
    add("--commit", type=str | None, default=None, help="with --found: the commit that was measured")
    return parser.parse_args(list(arguments))


def main(arguments: Sequence[str]) -> None:
    """Measure or take a part, if one is named; then write all pages and charts."""
    options, names = parse_options(arguments), ", ".join(PARTS)
    if options.part is not None:
        if options.part not in PARTS:
            raise UserError(f"{options.part}: no such part{did_you_mean(options.part, PARTS, f'; there are {names}')}")
        command = options.command or f"{PARTS[options.part].command} {options.options}".strip()
        commit = options.commit if options.found else _git("rev-parse", "--short", "HEAD")
        taken = [_taken(path, options.part) for path in options.found]
        found = taken or [measure(options.part, command)]
        print(f"written: {keep(ROOT, options.part, found, command, options.machine, commit)}")
    for path in write_all(ROOT):
        print(f"written: {path}")


def _taken(path: Path, name: str) -> dict[str, Any]:
    """What the command of a part wrote, maybe elsewhere. UserError: it is something else, or names no machine."""
    try:
        found = json_object(path.read_bytes(), path, f"give what the command of {name} wrote")
        rows = [*PARTS[name].rows(found)]
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except (KeyError, TypeError, AttributeError):
        rows = []
    if not rows or "machine" not in found:
        lacking = "names no machine" if rows else f"has no rows of {name}"
        raise UserError(f"{path}: it {lacking}; `make results PART={name}` measures them on this machine")
    return found


def measure(name: str, command: str) -> dict[str, Any]:
    """Run the command of a part; what it wrote, with `seconds`. UserError: it cannot be run, or fails."""
    part = PARTS[name]
    if not part.command:
        raise UserError(f"{name}: no single command measures it; the page says how it was done")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs")
    if changed:
        raise UserError(f"{changed.splitlines()[0].strip()}: commit it first, so that the results can name a commit")
    with TemporaryDirectory() as folder:
        file_or_folder = Path(folder) / "found"
        words = [*shlex.split(command)[1:], part.writes, str(file_or_folder)]
        start = time.perf_counter()
        status = subprocess.run([sys.executable, *words], cwd=ROOT, check=False).returncode
        seconds = time.perf_counter() - start
        file = file_or_folder / "results.json" if part.writes == "--run_dir" else file_or_folder
        if not file.is_file():
            raise UserError(f"{name}: its command wrote no results and ended with status {status}")
        return {**json.loads(file.read_text("utf-8")), "seconds": seconds}


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"git {words[0]}: {done.stderr.strip()}; results are measured in a clone of the repository")
    return done.stdout.strip()


def keep(
    root: Path, name: str, found: Sequence[Mapping[str, Any]], command: str, named: str | None, commit: str | None
) -> Path:
    """Write the rows of what one machine found to docs/results/PART/MACHINE.json. UserError: there are none."""
    described = found[0].get("machine") or machine(choose_device("auto"))
    rows = [_rounded(row) for one in found for row in PARTS[name].rows(one)]
    commit = commit or described["commit"]
    if not rows or commit.endswith("-dirty"):
        raise UserError(f"{name}: {'measured in a changed tree, ' + commit if rows else 'no rows'}; measure it again")
    named = named or machine_name(described)
    head = {
        "machine": named,
        "threads": described["threads"],
        "packages": described["packages"],
        "commit": commit,
        "command": command,
    }
    path = root / "docs" / "results" / name / f"{_slug(named)}.json"
    lines = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in rows)
    fields = "".join(f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)},\n" for key, value in head.items())
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, f'{{\n{fields}"rows": [\n{lines}\n]\n}}\n')
    return path


def machine_name(described: Mapping[str, str]) -> str:
    """The GPU, or the processor and the best of its instruction sets: "Intel Xeon, AMX"."""
    if "gpu" in described:
        return described["gpu"]
    cpu = re.sub(r"\((R|TM)\)|\b(CPU|Processor)\b.*", "", described["cpu"])
    sets = described["instruction sets"].split(", ")
    best = next((word for name, word in SETS.items() if name in sets), sets[0])
    return f"{' '.join(cpu.split())}, {best}"


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _rounded(row: Row) -> Row:
    return {key: float(f"{value:.5g}") if isinstance(value, float) else value for key, value in row.items()}


def write_all(root: Path) -> list[Path]:
    """Write what is not as it should be, of pages and charts; remove charts of results that are gone."""
    wanted = {path: content for path, content in contents(root).items() if not _has(path, content)}
    (root / "docs" / "pictures").mkdir(exist_ok=True)
    for path, content in wanted.items():
        write_text(path, content)
    for path in old_charts(root):
        path.unlink()
    return list(wanted)


def _has(path: Path, content: str) -> bool:
    return path.is_file() and path.read_text("utf-8") == content


def old_charts(root: Path) -> set[Path]:
    """Charts of which there are no results."""
    return {*(root / "docs" / "pictures").glob("results_*.svg")} - {*contents(root)}


def contents(root: Path) -> dict[Path, str]:
    """Each page with its tables, and each chart: what is to be in the file."""
    docs = root / "docs"
    made = {
        page: MARKED.sub(lambda found: _block(root, found[1]), page.read_text("utf-8"))
        for page in sorted(docs.glob("*.md"))
    }
    for name, part in PARTS.items():
        for file, measured in measurements(root, name).items():
            if how := drawn(part, measured):
                made[docs / "pictures" / _picture(name, file)] = chart(how, measured)
    return made


def measurements(root: Path, name: str) -> dict[Path, dict[str, Any]]:
    """What was measured of a part: files, one for each machine, and what they say."""
    files = sorted((root / "docs" / "results" / name).glob("*.json"))
    return {file: json.loads(file.read_text("utf-8")) for file in files}


def drawn(part: Part, measured: Mapping[str, Any]) -> Chart | None:
    """The chart, if there is one and something for it to show."""
    how = part.chart
    return how if how and any(row.get(how.value) is not None for row in measured["rows"]) else None


def _picture(name: str, file: Path) -> str:
    return f"results_{name}_{file.stem}.svg"


def _block(root: Path, name: str) -> str:
    """A part as the page shows it, between its marks."""
    if name not in PARTS:
        raise UserError(f"<!-- results {name} -->: no such part{did_you_mean(name, PARTS)}")
    part, measured = PARTS[name], measurements(root, name)
    shown = [_joined(part, measured.values())] if part.joined else [_apart(name, *item) for item in measured.items()]
    command = [f"<!-- make -->\n```bash\nmake results PART={name}\n```"] if part.command else []
    text = "\n\n".join([*command, *(shown if measured else ["Not measured yet."])])
    return f"<!-- results {name} -->\n\n{text}\n\n<!-- end of results -->"


def _apart(name: str, file: Path, measured: Mapping[str, Any]) -> str:
    """One machine's chart, what it is, and table."""
    part, threads = PARTS[name], f"{measured['threads']} thread{'' if measured['threads'] == '1' else 's'}"
    about = f"{threads}, {measured['packages']}, commit {measured['commit']}"
    parts = [f"**{measured['machine']}**, {about}:", f"`{measured['command']}`", table(part.table(measured["rows"]))]
    if how := drawn(part, measured):
        alt = f"{how.title} on {measured['machine']}: {how.unit}; the figures are in the table below"
        parts.insert(0, f"![{alt}](pictures/{_picture(name, file)})")
    return "\n\n".join([*parts, *measured.get("notes", [])])


def _joined(part: Part, measured: Iterable[Mapping[str, Any]]) -> str:
    """All machines in one table; below it what all lines have in common."""
    found = [*measured]
    rows = [{"machine": one["machine"], **row, "commit": one["commit"]} for one in found for row in one["rows"]]
    signatures = dict.fromkeys(row.pop("signature") for row in rows if "signature" in row)
    below = [f"Measured by `{command}`." for command in dict.fromkeys(one["command"] for one in found)]
    below += [f"BLEU is `{signature}`." for signature in signatures]
    notes = dict.fromkeys(note for one in found for note in one.get("notes", []))
    return "\n\n".join([table(part.table(rows)), " ".join(below), *notes])


def table(rows: Sequence[Row]) -> str:
    """Markdown: a column for each heading that any row has, `commit` last; numbers to the right."""
    headings = sorted(dict.fromkeys(key for row in rows for key in row), key=lambda key: key == "commit")
    numbers = {key for key in headings if all(not isinstance(row.get(key), str) for row in rows)}
    lines = [
        f"| {' | '.join(headings)} |",
        f"|{'|'.join('--:' if key in numbers else '---' for key in headings)}|",
        *(f"| {' | '.join(written(key, row.get(key)) for key in headings)} |" for row in rows),
    ]
    return "\n".join(lines)


def chart(how: Chart, measured: Mapping[str, Any]) -> str:
    """The SVG of one machine's rows."""
    rows = [row for row in measured["rows"] if row.get(how.value) is not None]
    title = f"{how.title} ({measured['machine']}, commit {measured['commit']})"
    if how.mark:
        lines = dict[str, dict[str, list[float]]]()
        for row in rows:
            kinds = lines.setdefault(counted(row, how.name), {})
            kinds.setdefault(counted(row, how.group), []).append(row[how.value])
        return charts.dots(title, how.unit, how.mark, lines)
    groups = dict[str, list[charts.Bar]]()
    for row in rows:
        name = counted(row, how.name)
        bar = charts.Bar(name, row[how.value], written(how.value, row[how.value]), name.startswith(how.ours))
        groups.setdefault(counted(row, how.group), []).append(bar)
    of_all = max(row[how.value] for row in rows)
    longest = {name: max(bar.value for bar in bars) if how.own_scale else of_all for name, bars in groups.items()}
    return charts.bars(title, how.unit, [charts.Group(name, bars, longest[name]) for name, bars in groups.items()])


if __name__ == "__main__":
    sys.exit(run_program(lambda: main(sys.argv[1:])))
