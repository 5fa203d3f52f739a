"""The script that waits for a GPU: rehearsed on a machine that lacks packages, its time, its files, its refusals."""

import gzip
import importlib
import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from transformer_zoo.errors import UserError

SCRIPT = "recipes/benchmarks/gpu.py"
LACKING = ("jsonargparse", "docstring_parser", "datasets", "num2words", "babel", "ctranslate2", "typeshed_client")
WITHOUT = f"""
import sys
from importlib.machinery import PathFinder

class Lacking(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {LACKING} else PathFinder.find_spec(name, path, target)

sys.meta_path[:] = [Lacking if finder is PathFinder else finder for finder in sys.meta_path]
"""


@pytest.fixture(scope="module")
def gpu(root: Path) -> Iterator[Any]:
    """The script as a module."""
    sys.path.insert(0, str(root))
    import recipes.benchmarks.gpu as module

    yield module
    sys.path.remove(str(root))


@pytest.fixture(scope="module")
def blind(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str, str]:
    """What a rehearsal of all parts on a bare machine wrote: JSON, Markdown, standard output."""
    place = tmp_path_factory.mktemp("bare")
    (place / "sitecustomize.py").write_text(WITHOUT)
    environment = {**os.environ, "PYTHONPATH": str(place)}
    command = [sys.executable, SCRIPT, "--rehearse", "--out", str(place / "out"), "--files", str(place)]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads((place / "out" / "gpu.json").read_text())
    return written["parts"], (place / "out" / "gpu.md").read_text(), done.stdout


def figures_of(parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [figure for part in parts.values() for figure in part["figures"]]


@pytest.mark.slow
def test_every_row_has_a_figure_or_a_reason(gpu: Any, blind: tuple[dict[str, Any], str, str]) -> None:
    parts, page, printed = blind
    figures = figures_of(parts)
    assert [row.name for row in gpu.ROWS] == list(dict.fromkeys(figure["row"] for figure in figures))
    for figure in figures:
        assert figure["value"] is not None or figure["note"], figure
        assert all(figure[name] for name in ("command", "commit", "device", "versions")), figure
        assert f"| {figure['row']} | {figure['name']} |" in page
        assert f"{figure['row']}: {figure['name']}: " in printed


@pytest.mark.slow
def test_the_first_two_parts_miss_no_package_and_the_third_says_which(blind: tuple[dict[str, Any], str, str]) -> None:
    parts, _, _ = blind
    for figure in [*parts["1"]["figures"], *parts["2"]["figures"]]:
        assert not any(name in figure["note"] for name in LACKING), figure
    assert all("jsonargparse" in figure["note"] for figure in parts["3"]["figures"])
    assert all("make gpu-wheels" in figure["note"] for figure in parts["3"]["figures"])


@pytest.mark.slow
def test_what_is_compared_in_a_rehearsal_is_the_same(blind: tuple[dict[str, Any], str, str]) -> None:
    parity = [f for f in figures_of(blind[0]) if f["row"].startswith("parity")]
    assert len(parity) == 2 * 7 + 2 * 8
    assert [f for f in parity if f["reached"] == "no"] == []
    [bits] = [f for f in figures_of(blind[0]) if f["name"] == "weights that differ, deterministic kernels"]
    assert bits["value"] == 0


@pytest.mark.slow
def test_each_row_s_aims_stand_beside_its_figures(gpu: Any, blind: tuple[dict[str, Any], str, str]) -> None:
    aims = {(f["row"], f["name"], f["aim"]) for f in figures_of(blind[0]) if f["aim"] is not None}
    assert {(row, asked.name, asked.aim) for row, asked_of in gpu_aims(gpu).items() for asked in asked_of} <= aims
    assert set(gpu_aims(gpu)) <= {row.name for row in gpu.ROWS}


def gpu_aims(gpu: Any) -> dict[str, Any]:
    module: Any = sys.modules[gpu.Report.__module__]
    aims: dict[str, Any] = module.AIMS
    return aims


@pytest.mark.slow
def test_a_profile_names_the_twenty_longest(blind: tuple[dict[str, Any], str, str]) -> None:
    tables = [f["table"] for f in figures_of(blind[0]) if f["name"] == "kernels of an update"]
    assert len(tables) == 4
    for table in tables:
        times = [milliseconds for _, milliseconds in table]
        assert 5 < len(times) <= 20
        assert times == sorted(times, reverse=True)


def test_a_part_is_at_most_four_minutes(gpu: Any) -> None:
    for part in gpu.TITLES:
        shares = sum(row.seconds for row in gpu.ROWS if row.part == part)
        assert 180 <= shares <= gpu.PART_SECONDS - gpu.START
        assert gpu.PART_SECONDS < 240


STUB = """
import json, os, sys, time
def say(**message):
    print(json.dumps(message), flush=True)
def figure(name, value):
    say(figure={"name": name, "value": value})
say(about={"device": "one", "versions": "some", "commit": "this"})
for line in sys.stdin:
    number, seconds = json.loads(line)
    if number != 1:
        figure("pid", os.getpid())
        say(end="", failed=False)
        continue
    figure("before", 1)
    if sys.argv[1] == "late":
        time.sleep(60)
    if sys.argv[1] == "killed":
        os.kill(os.getpid(), 9)
    say(end=sys.argv[1], failed=sys.argv[1] == "wrong")
    if sys.argv[1] == "wrong":
        break
"""


@pytest.mark.parametrize(
    ("fault", "reason", "failed"),
    [
        ("late", "when its time was over", 1),
        ("killed", "its process ended with signal SIGKILL; part1.log says more", 1),
        ("wrong", "wrong", 1),
        ("absent", "absent", 0),
    ],
)
def test_a_row_that_fails_ends_alone(
    gpu: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: str, reason: str, failed: int
) -> None:
    """The rows after it run, in a process of their own where its was lost; what it had found stays."""
    (tmp_path / "stub.py").write_text(STUB)
    shares = zip(("good", fault, "good"), (3, 2, 60), strict=True)
    monkeypatch.setattr(gpu, "ROWS", [gpu.Row(1, f"row {i}", of[1], of[0]) for i, of in enumerate(shares)])
    popen, stub = subprocess.Popen, [sys.executable, str(tmp_path / "stub.py"), fault]
    monkeypatch.setattr(gpu.subprocess, "Popen", lambda command, **how: popen(stub, **how))
    begun, start = time.monotonic(), partial(gpu.Worker, tmp_path, tmp_path, True)
    about = {"command": "--part 1", "commit": "a commit"}
    assert gpu.Part(1, gpu.Report(tmp_path / "out", "Faults"), start, about).run() == failed
    assert time.monotonic() - begun < 30
    found = json.loads((tmp_path / "out" / "gpu.json").read_text())["parts"]["1"]["figures"]
    assert [(f["row"], f["name"]) for f in found] == [
        ("row 0", "pid"), ("row 1", "before"), ("row 1", "the rest"), ("row 2", "pid"),
    ]  # fmt: skip
    assert reason in found[2]["note"]
    assert (found[0]["value"] != found[3]["value"]) == bool(failed)
    assert {f["commit"] for f in found} == {"a commit"}


@pytest.mark.parametrize(
    ("error", "end", "failed"),
    [
        (None, "", False),
        (UserError("this cannot be"), "this cannot be", False),
        (ModuleNotFoundError("No module named 'there'"), "No module named 'there'", False),
        (RuntimeError("CUDA error: an illegal access\nand more"), "RuntimeError: CUDA error: an illegal access", True),
    ],
)
def test_a_process_says_how_a_row_ended_and_gives_up_after_an_error(
    gpu: Any, monkeypatch: pytest.MonkeyPatch, error: Exception | None, end: str, failed: bool
) -> None:
    worker: Any = importlib.import_module("recipes.benchmarks.gpu_worker")

    def figures(row: Any, setting: Any) -> Iterator[Any]:
        yield gpu.Figure("before", 1.0)
        if error is not None:
            raise error

    monkeypatch.setattr(gpu.Row, "figures", figures)
    said: list[dict[str, Any]] = []
    setting = worker.Setting(torch.device("cpu"), True, Path())
    assert worker.run(0, setting, lambda **message: said.append(message)) != failed
    assert said[0]["figure"]["name"] == "before"
    assert said[1:] == [{"end": end, "failed": failed}]


def test_a_part_that_is_run_again_replaces_its_own_figures_alone(gpu: Any, tmp_path: Path) -> None:
    for part, value in ((1, 1.0), (2, 2.0), (1, 3.0)):
        report = gpu.Report(tmp_path, "Twice")
        report.begin(part, {"command": f"--part {part}", "device": "one", "versions": "some", "commit": "this"})
        report.add(part, "row", gpu.Figure("speed", value, "tokens/s", aim=2.0), 1.0)
    parts = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert {part: [f["value"] for f in of["figures"]] for part, of in parts.items()} == {"1": [3.0], "2": [2.0]}
    page = (tmp_path / "gpu.md").read_text()
    assert "| row | speed | 3 tokens/s | 2 tokens/s | yes |  |" in page
    assert page.index("## Part 1") < page.index("## Part 2")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_without_a_gpu_it_is_refused_in_one_line(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT, "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: no GPU is here")
    assert not (tmp_path / "out" / "gpu.json").exists()


def test_who_ends_it_ends_its_processes(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT, "--rehearse", "--out", str(tmp_path)]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL) as process:
        children, begun = Path(f"/proc/{process.pid}/task/{process.pid}/children"), time.monotonic()
        while not (there := children.read_text().split()) and time.monotonic() < begun + 60:
            time.sleep(0.05)
        process.terminate()
        assert process.wait(60) == 128 + 15
    assert len(there) == 1
    while running(there[0]) and time.monotonic() < begun + 120:
        time.sleep(0.05)
    assert not running(there[0])


def running(process: str) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_wheels_that_fit_are_unpacked(gpu: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wheels: Any = sys.modules[gpu.unpack.__module__]
    (tmp_path / "wheels").mkdir()
    for name in ("one-1-py3-none-any.whl", "two-1-cp312-cp312-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl"):
        with zipfile.ZipFile(tmp_path / "wheels" / name, "w") as wheel:
            wheel.writestr(f"{name[:3]}/__init__.py", "")
    monkeypatch.setattr(wheels.sys, "version_info", (3, 11, 0))
    gpu.unpack(tmp_path, tmp_path / "there")
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["one"]
    assert wheels.fits("two-1-cp312-cp312-manylinux_2_28_x86_64.whl", (3, 12), "x86_64")
    assert not wheels.fits("two-1-cp312-cp312-manylinux_2_28_x86_64.whl", (3, 12), "aarch64")


def test_the_wheels_have_the_versions_that_are_tested(gpu: Any) -> None:
    wheels: Any = sys.modules[gpu.unpack.__module__]
    assert [word.partition("==")[0] for word in wheels.wanted()] == list(wheels.PACKAGES)


@pytest.mark.parametrize(("at_once", "speed"), [(1, 10.0), (8, 80.0)])
def test_steps_are_counted_from_the_end_of_the_first_ones(gpu: Any, at_once: int, speed: float) -> None:
    """Tokens that come several at a time are not taken for several steps in no time."""
    decoding: Any = importlib.import_module("recipes.benchmarks.gpu_decoding")
    steps = decoding.Steps(decoding.Setting(torch.device("cpu"), False, Path()))
    steps.times = [number // at_once / 10 for number in range(256)]
    assert steps.per_second() == pytest.approx(speed)


def test_what_is_no_number_is_not_reached_and_says_so(gpu: Any, tmp_path: Path) -> None:
    report = gpu.Report(tmp_path, "None")
    report.begin(1, {"command": "one"})
    report.add(1, "row", gpu.Figure("error", float("nan"), "", 1e-3, True, "beside the CPU's"), 1.0)
    [figure] = json.loads((tmp_path / "gpu.json").read_text(), parse_constant=pytest.fail)["parts"]["1"]["figures"]
    assert (figure["value"], figure["reached"], figure["note"]) == (None, "no", "came out as nan; beside the CPU's")


def test_books_are_read_where_they_lie_beside_it(gpu: Any, tmp_path: Path) -> None:
    setting: Any = importlib.import_module("recipes.benchmarks.gpu_setting")
    made_up = setting.Setting(torch.device("cpu"), True, tmp_path).windows(2, 16, 131)
    (tmp_path / "books").mkdir()
    text = b"Call me Ishmael. " * 9
    with gzip.open(tmp_path / "books" / "train.txt.gz", "wb") as file:
        file.write(text)
    read = setting.Setting(torch.device("cpu"), True, tmp_path)
    batch = read.windows(2, 16, 131)
    assert read.tokens[1] == "books, byte by byte"
    assert batch.ids.shape == made_up.ids.shape == (2, 16)
    assert bytes(batch.ids[0].tolist()) == text[:16]
    assert torch.equal(batch.ids[:, 1:], batch.targets[:, :-1])


def test_multi30k_is_taken_whole_or_made_up(gpu: Any, tmp_path: Path) -> None:
    runs: Any = importlib.import_module("recipes.benchmarks.gpu_runs")
    made = runs.made_up_text(tmp_path, runs.Setting(torch.device("cpu"), True, tmp_path))
    for split in runs.SPLITS:
        sources, targets = (made[split, language].read_text().splitlines() for language in ("en", "de"))
        assert [len(line.split()) for line in sources] == [len(line.split()) for line in targets]
    there = tmp_path / "multi30k"
    there.mkdir()
    names = [f"{split}.lc.norm.tok.{language}.gz" for split in runs.SPLITS for language in ("en", "de")]
    for name in names:
        (there / name).touch()
    assert [path.name for path in runs.found_text(there).values()] == names
    (there / names[3]).rename(there / names[3].removesuffix(".gz"))
    assert runs.found_text(there)["val", "de"].name == "val.lc.norm.tok.de"
    (there / names[0]).unlink()
    with pytest.raises(runs.NotHere, match=r"neither train\.lc\.norm\.tok\.en nor .*\.gz is there"):
        runs.found_text(there)


def test_a_run_that_had_no_time_to_end_has_not_reached_its_time(gpu: Any, tmp_path: Path) -> None:
    runs: Any = importlib.import_module("recipes.benchmarks.gpu_runs")
    test = {"bleu": 40.5, "signatures": {"bleu": "tok:none"}}
    (tmp_path / "metrics.jsonl").write_text('{"kind": "train", "seconds": 180}\n{"kind": "valid", "loss": 1}\n')
    for reason, minutes in (("max_updates", 3.0), ("max_minutes", None)):
        results = {"step": 6000, "ended_by": reason, "tests": {"test_2016_flickr": test}}
        (tmp_path / "results.json").write_text(json.dumps(results))
        figures = {figure.name: figure.value for figure in runs.scores(tmp_path, False)}
        assert figures == {"updates": 6000, "training": minutes, "an update": 30.0, "BLEU": 40.5}
