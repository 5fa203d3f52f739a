"""`transformer-zoo report`: the figures are those of the runs, texts stay texts, what is missing or damaged is said."""

import base64
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.tiny import main_of, write_recipe
from transformer_zoo.checksums import read_fields, write_fields
from transformer_zoo.cli import main
from transformer_zoo.evaluation import compare
from transformer_zoo.runs.history import read_metrics, read_record, read_samples
from transformer_zoo.runs.recipe import load_recipe, save_recipe

from .test_looking import HOSTILE, Page, check_alone

pytestmark = pytest.mark.filterwarnings("ignore:.*purge_step")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs that translate, which differ in their seeds, and one that writes."""
    folder = tmp_path_factory.mktemp("trained")
    for name in ("translation", "gpt"):
        (folder / name).mkdir()
        recipe = write_recipe(folder / name, name)
        for seed in ("1", "2") if name == "translation" else ("1",):
            main_of(name)([str(recipe), "--seed", seed, "--run_dir", str(folder / f"{name}{seed}")])
    return folder


@pytest.fixture
def runs(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copies of them, where the test is."""
    for run in trained.glob("*[12]"):
        shutil.copytree(run, tmp_path / run.name, ignore=shutil.ignore_patterns("checkpoints", "tensorboard"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def page_of(*names: str) -> Page:
    assert main(["report", *names, "--output", "out.html"]) == 0
    return check_alone(Path("out.html").read_text("utf-8"))


def lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines()


def test_scores_have_intervals_and_signatures(runs: Path) -> None:
    page = page_of("translation1", "translation2")
    kept = [read_fields(runs / name / "results.json")["tests"]["words"] for name in ("translation1", "translation2")]
    own, other = (lines(runs / name / "test" / "words.hyp") for name in ("translation1", "translation2"))
    [wanted] = compare(own, other, lines(runs / "translation1" / "test" / "words.ref"), ["bleu"])
    for of, half in zip(kept, wanted.ci, strict=True):
        assert f"{of['bleu']:.2f}\xa0±\xa0{half:.2f}" in page.words
        assert of["signatures"]["bleu"] in page.words
    assert f"{wanted.p_value:.3f}" in page.words


def test_samples_leaks_settings_and_curves(runs: Path) -> None:
    page = page_of("translation1", "translation2")
    for name in ("translation1", "translation2"):
        for update, text in read_samples(runs / name):
            assert update in (6, 12)
            for line in text.splitlines():
                assert line[13:] in page.words
        results = read_fields(runs / name / "results.json")
        assert f"of its {results['leaks']['words']['of']} pairs" in page.words
        assert results["texts"]["data.train"] in page.words
        assert f"{results['validation']['loss']:.4g}" in page.words
    assert re.search(
        r"Those that differ, but for the folder\.\s*setting\s*translation1\s*translation2\s*seed\s*1\s*2", page.words
    )
    pictures = [value for name, value in page.attributes if name in ("src", "srcset")]
    assert len(pictures) == 2
    for picture in pictures:
        assert b"<svg" in base64.b64decode(picture.partition("base64,")[2])


def test_a_run_that_writes_has_a_report_too(runs: Path) -> None:
    page = page_of("gpt1")
    for _, text in read_samples(runs / "gpt1"):
        assert text in page.words
    last = [row for row in read_metrics(runs / "gpt1") if row["kind"] == "valid"][-1]
    assert f"{last['bits_per_byte']:.4g}" in page.words
    assert "No test was scored" in page.words


def test_what_was_evaluated_later_is_there(runs: Path) -> None:
    evaluated = runs / "translation1" / "evaluation"
    evaluated.mkdir()
    score = {"metric": "chrf", "score": 12.345, "signature": "nrefs:1|x", "details": ""}
    report = {
        "split": "mine",
        "text": "x",
        "sentences": 3,
        "scores": [score],
        "search": {"beam": 4, "length_penalty": 1},
    }
    (evaluated / "mine.json").write_text(json.dumps(report), "utf-8")
    words = page_of("translation1").words
    assert "12.35" in words or "12.34" in words
    assert "3 sentences, beam 4, length penalty 1; no interval" in words


def test_runs_that_have_not_ended(runs: Path) -> None:
    run = runs / "translation1"
    (run / "results.json").unlink()
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"kind": "train", "st')  # its writer is at it, or was killed
    words = page_of("translation1").words
    assert "in training, or stopped: update 12 of 12" in words
    assert "Training has not ended" in words
    for name in ("metrics.jsonl", "samples.txt", "model.json"):
        (run / name).unlink()
    words = page_of("translation1").words
    assert "There are no figures yet" in words
    assert "There are no samples" in words
    assert "not built yet" not in words.partition("Curves")[0] or "transformer-tiny" in words


def test_an_imported_run(runs: Path) -> None:
    run = runs / "gpt1"
    for name in ("metrics.jsonl", "samples.txt", "results.json"):
        (run / name).unlink()
    save_recipe(run / "config.yaml", {"imported": "someone/model", "data": {}})
    words = page_of("gpt1").words
    assert "someone/model" in words
    assert "It was trained elsewhere" in words


def test_texts_stay_texts(runs: Path) -> None:
    name = "<script>alert(3)<"
    run = (runs / "translation1").rename(runs / name)
    recipe = load_recipe(run / "config.yaml")
    recipe["data"]["train"]["source"] = recipe["extra"] = HOSTILE
    save_recipe(run / "config.yaml", recipe)
    (run / "samples.txt").write_text(
        f"== update 3\n  source     {HOSTILE}\n  model      {HOSTILE}\n  reference  \n", "utf-8"
    )
    shutil.copytree(run, runs / "other")
    (runs / "other" / "samples.txt").write_text(f"== update 3\n</pre>{HOSTILE}\n", "utf-8")
    page = page_of(name, "other")
    assert page.words.count(HOSTILE) >= 6
    assert name in page.words


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def scramble(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00" + path.read_bytes())


def unshape(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        fields = read_fields(path)
        change(fields)
        write_fields(path, fields)

    return write


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *((name, cut) for name in ("results.json", "config.yaml", "model.json")),
        *((name, scramble) for name in ("results.json", "config.yaml", "model.json", "metrics.jsonl", "samples.txt")),
        ("results.json", unshape(lambda fields: fields.update(tests=[1]))),
        ("results.json", unshape(lambda fields: fields["tests"].update(words={}))),
        ("results.json", unshape(lambda fields: fields["tests"]["words"].update(signatures=None))),
        ("results.json", unshape(lambda fields: fields["tests"]["words"].update(bleu="high"))),
        ("results.json", unshape(lambda fields: fields.update(leaks={"words": 3}))),
        ("results.json", unshape(lambda fields: fields.update(targets={"train": {"lines": 3}}))),
        ("results.json", unshape(lambda fields: fields.update(validation=7))),
        ("results.json", unshape(lambda fields: fields.update(validation={"loss": "low"}))),
        ("results.json", unshape(lambda fields: fields.pop("step"))),
        ("metrics.jsonl", lambda path: path.write_text('{"kind": "train"}\n', "utf-8")),
        ("metrics.jsonl", lambda path: path.write_text('[1]\n{"kind": "train", "step": 1}\n', "utf-8")),
        ("samples.txt", lambda path: path.write_text("no update\n", "utf-8")),
        ("test/words.hyp", lambda path: path.write_text("rot\n" * 12, "utf-8")),
        ("test/words.hyp", cut),
        ("test/words.ref", cut),
        ("evaluation/words.json", lambda path: path.write_text("[]", "utf-8")),
        ("evaluation/words.json", lambda path: path.write_text("{}", "utf-8")),
        ("evaluation/words.json", lambda path: path.write_text('{"sentences": 1, "scores": [{}]}', "utf-8")),
    ],
)
def test_damage_is_one_line(
    runs: Path, name: str, damage: Callable[[Path], object], capsys: pytest.CaptureFixture[str]
) -> None:
    path = runs / "translation1" / name
    path.parent.mkdir(exist_ok=True)
    damage(path)
    assert main(["report", "translation1", "translation2"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert error.startswith("error: ")
    assert "translation1" in error
    assert not (runs / "report.html").exists()


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ([], 2, "give the folder of a RUN"),
        (["none"], 1, "none: no such run folder"),
        (["."], 1, "it is not a run"),
        (["translation1", "--output", "page.txt"], 2, "must end in .html"),
    ],
)
def test_what_is_no_report(
    runs: Path, words: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", *words]) == status
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error


def test_without_matplotlib_it_is_refused(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    assert main(["report", "translation1"]) == 1
    assert capsys.readouterr().err == "error: pictures need matplotlib: pip install 'transformer-zoo[pictures]'\n"


def test_a_record_of_a_run(runs: Path) -> None:
    record = read_record(runs / "translation1")
    assert [row["step"] for row in record.of("valid")] == [6, 12]
    assert record.config is not None
    assert record.results is not None
