"""`transformer-zoo train --pairs` and `--text`: bare text is split, and trained on by a recipe that is kept."""

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from transformer_zoo.characters import bare
from transformer_zoo.cli import main
from transformer_zoo.commandline import parse_recipe
from transformer_zoo.data import TextFiles, read_parallel
from transformer_zoo.training.tasks.kinds import kind_of_recipe

PAIRS = [(f"The {n}th train leaves at {n % 24}.", f"Zug {n // 2} fährt um {n % 24} ab.") for n in range(400)]
TSV = "".join(f"{source}\t{target}\n" for source, target in PAIRS)
SIDES = [[pair[side] for pair in PAIRS] for side in (0, 1)]
PARAGRAPHS = [f"Act {n}.\nThe king, number {n}, speaks of {n * n} ships.\n" for n in range(200)]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder, and a machine that needs not be measured."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("transformer_zoo.training.speed.operations_a_second", lambda device: 1e9)


def write(name: str, text: str) -> None:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def lines(side: int) -> str:
    return "".join(f"{line}\n" for line in SIDES[side])


def rows(keys: tuple[str, ...], texts: list[tuple[str, ...]]) -> str:
    return "".join(json.dumps(dict(zip(keys, row, strict=True))) + "\n" for row in texts)


def train(*words: str) -> int:
    try:
        return main(["train", *words])
    except SystemExit as left:
        return int(left.code or 0)


def recipe_of(path: str) -> Any:
    """What a recipe says, checked as training checks it."""
    recipe = parse_recipe(kind_of_recipe(yaml.safe_load(Path(path).read_text("utf-8"))).recipe, [path])
    recipe.validate()
    return recipe


LANGUAGES = ("--from", "en", "--to", "de")


@pytest.mark.parametrize(
    ("files", "options"),
    [
        ({"a.tsv": TSV}, LANGUAGES),
        ({"a.tsv.gz": TSV}, LANGUAGES),
        ({"a.jsonl": rows(("source", "target"), PAIRS)}, LANGUAGES),  # type: ignore[arg-type]
        ({"a.en": lines(0), "a.de": lines(1)}, ()),
        ({"a.en.gz": lines(0), "a.de.gz": lines(1)}, ()),
        ({"a.de": lines(1), "a.en": lines(0)}, LANGUAGES),
        ({"a.english": lines(0), "b.german": lines(1)}, LANGUAGES),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_pairs_in_every_form_become_a_recipe(
    files: dict[str, str], options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in files.items():
        write(name, text)
    assert train("--pairs", *files, *options, "--minutes", "2", "--seed", "7", "--write-only") == 0
    said = capsys.readouterr().out
    assert "train " in said
    assert "runs/a.yaml: once more with: transformer-zoo train runs/a.yaml" in said
    recipe = recipe_of("runs/a.yaml")
    assert (recipe.data.source_lang, recipe.data.target_lang) == ("en", "de")
    assert (recipe.run_dir, recipe.seed, recipe.training.max_minutes) == ("runs/a", 7, 2.0)
    parts = [read_parallel(files) for files in (recipe.data.train, recipe.data.validation, recipe.data.tests["test"])]
    assert [len(part) for part in parts[1:]] == [40, 40]
    for side in ("source", "target"):
        seen = [set(map(bare, getattr(part, side))) for part in parts]
        assert sum(map(len, seen)) == len(set().union(*seen))
    assert set(zip(parts[0].source, parts[0].target, strict=True)) < set(PAIRS)
    assert not Path("runs/a").exists()


@pytest.mark.parametrize(
    ("files", "unit"),
    [
        ({f"texts/{n}.txt": paragraph for n, paragraph in enumerate(PARAGRAPHS)}, "documents"),
        ({"texts/all.jsonl": rows(("text",), [(p,) for p in PARAGRAPHS])}, "documents"),
        ({"texts/deep/all.txt.gz": "\n".join(PARAGRAPHS)}, "paragraphs"),
        ({"texts/all.txt": "".join(PARAGRAPHS)}, "lines"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_text_in_every_form_becomes_a_recipe(
    files: dict[str, str], unit: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in files.items():
        write(name, text)
    assert train("--text", "texts", "--output", "my/gpt", "--write-only") == 0
    assert f" {unit}\n" in capsys.readouterr().out
    recipe = recipe_of("my/gpt.yaml")
    assert (recipe.run_dir, recipe.training.max_minutes) == ("my/gpt", 15.0)
    parts = ["".join(files.texts()) for files in (recipe.data.train, recipe.data.validation)]
    whole = sorted(line for text in TextFiles(path="texts").texts() for line in text.splitlines() if line)
    assert sorted(line for part in parts for line in part.splitlines() if line) == whole
    held_out = set(parts[1].splitlines()) - {""}
    assert held_out
    assert not held_out & set(parts[0].splitlines())


@pytest.mark.parametrize("what", ["--pairs", "--text"])
def test_it_trains_goes_on_and_is_repeated_by_its_recipe(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    write("a.tsv", TSV)
    write("texts/a.txt", "\n".join(PARAGRAPHS))
    words = ["--pairs", "a.tsv", *LANGUAGES] if what == "--pairs" else ["--text", "texts"]
    name = "a" if what == "--pairs" else "texts"
    words = [*words, "--minutes", "0.01"]
    assert train(*words) == 0
    results = json.loads(Path(f"runs/{name}/results.json").read_text())
    assert results["ended_by"] in ("max_minutes", "max_epochs")
    assert ("tests" in results) == (what == "--pairs")
    capsys.readouterr()
    assert train(*words) == 0  # the same command
    assert "is finished" in capsys.readouterr().out
    assert train(f"runs/{name}.yaml", "--run_dir", "runs/again") == 0
    assert Path("runs/again/model.safetensors").exists()
    assert train(*words, "--seed", "2") == 1
    assert f"runs/{name}.yaml is there already" in capsys.readouterr().err
    shutil.rmtree("runs")
    assert train(*words, "--seed", "2", "--write-only") == 0


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ("", 2, "give --pairs, or --text, or a recipe"),
        ("--pairs a.tsv --text texts --from en --to de", 2, "one of them"),
        ("--text texts --from en", 2, "--from and --to are for --pairs"),
        ("--seed 2 recipe.yaml", 2, "a recipe (recipe.yaml) excludes --seed"),
        ("--pairs a.tsv", 2, "--pairs needs the languages, such as --from en --to de"),
        ("--pairs a.tsv --from en --to en", 2, "--from and --to are both en"),
        ("--pairs a.tsv a.tsv a.tsv --from en --to de", 2, "--pairs takes a file, or two"),
        ("--pairs none.tsv --from en --to de", 1, "none.tsv: no such file"),
        ("--pairs few.tsv --from en --to de", 1, "few.tsv: 9 pairs teach nothing; give at least 100"),
        ("--pairs odd.tsv --from en --to de", 1, "odd.tsv:4: 1 columns, but column 2 is asked for"),
        ("--pairs picture.tsv --from en --to de", 1, "picture.tsv:1: not UTF-8"),
        ("--pairs nul.tsv --from en --to de", 1, "nul.tsv:16: no text (it has a NUL byte)"),
        ("--pairs a.en short.de", 1, "line n of one must translate line n of the other"),
        ("--pairs empty.tsv --from en --to de", 1, "empty.tsv: empty, no sentence pairs"),
        ("--text nothing", 1, "nothing: no files in this folder"),
        ("--text nowhere", 1, "nowhere: no such file"),
        ("--text few.tsv", 1, "bytes teach nothing; give at least 2,000"),
        ("--text mixed", 1, "mixed/b.png:1: not UTF-8"),
        ("--text nul.tsv", 1, "nul.tsv:1: no text (it has a NUL byte)"),
        ("--text line.txt", 1, "fewer than 50 lines"),
        ("--text texts --output texts/run", 2, "is in texts, whose files are all text"),
        ("--text texts --minutes 0", 2, "--minutes"),
        ("--text texts --output .", 2, "--output .: name a folder for the run"),
        ("--text texts --output ..", 2, "--output ..: name a folder for the run"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    words: str, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in {
        "a.tsv": TSV, "a.en": lines(0), "short.de": lines(1)[:-40], "few.tsv": "a\tb\n" * 9, "empty.tsv": "",
        "odd.tsv": "a\tb\n" * 3 + TSV.replace("\t", " "), "nul.tsv": TSV.replace("um 15 ab", "\0"),
        "line.txt": "x" * 5000, "texts/a.txt": "\n".join(PARAGRAPHS), "mixed/a.txt": "\n".join(PARAGRAPHS),
    }.items():  # fmt: skip
        write(name, text)
    for name in ("picture.tsv", "mixed/b.png"):
        Path(name).write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9)
    Path("nothing").mkdir()
    before = sorted(Path().rglob("*"))
    assert train(*words.split()) == status
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert [path for path in sorted(Path().rglob("*")) if path not in before] == []
