"""`evaluate`: which tokenizer, whose translations, against what, beside whom; and what is refused before any work."""

import io
import itertools
import json
import re
import shutil
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from transformer_zoo.cli import main
from transformer_zoo.cli.search import SearchOptions
from transformer_zoo.evaluation import METRICS, compare, corpus_score
from transformer_zoo.runs.folder import mark_finished
from transformer_zoo.runs.load import Run
from transformer_zoo.runs.recipe import save_recipe
from transformer_zoo.tokenizers import TranslationTokenizer
from transformer_zoo.tokenizers.imported import ImportedTranslationTokenizer

from .test_cli import TEXT, make_run

N = 6
REFERENCE = TEXT[:N]
HYPOTHESIS = [line.replace("cat", "dog") for line in REFERENCE[:3]] + REFERENCE[3:]
CHINESE = ["我看见了三本书。", "他看见了两只猫。", "你看见了四个杯子。"]
Report = dict[str, Any]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"), seed=0)


@pytest.fixture
def text(tmp_path: Path) -> Callable[[str, list[str]], Path]:
    """Writes a file of lines."""

    def write(name: str, lines: list[str]) -> Path:
        path = tmp_path / name
        path.write_text("".join(line + "\n" for line in lines), "utf-8")
        return path

    return write


Text = Callable[[str, list[str]], Path]


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Callable[..., Report]:
    """What `evaluate WORDS --json` prints."""

    def evaluated(*words: object) -> Report:
        assert main(["evaluate", *map(str, words), "--json"]) == 0
        found: Report = json.loads(capsys.readouterr().out)
        return found

    return evaluated


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """Exit status and the one line of `evaluate WORDS`, which must not translate anything."""
    monkeypatch.setattr(SearchOptions, "translator", lambda *_, **__: pytest.fail("it translates"))

    def ended(*words: object) -> tuple[int, str]:
        try:
            status = main(["evaluate", *map(str, words)])
        except SystemExit as exit_:
            status = int(exit_.code or 0)
        captured = capsys.readouterr()
        assert captured.out == ""
        [line] = captured.err.splitlines()
        assert line.startswith("error: ")
        return status, line

    return ended


def change(run: Path, folder: Path, **fields: Any) -> Path:
    """A copy of a run with other fields in its recipe."""
    shutil.copytree(run, folder)
    recipe = yaml.safe_load((run / "config.yaml").read_text())
    for name, value in fields.items():
        section, _, key = name.partition("__")
        if key:
            recipe.setdefault(section, {})[key] = value
        else:
            recipe[section] = value
    save_recipe(folder / "config.yaml", recipe)
    return folder


def test_a_file_of_any_system_is_scored_without_a_model(text: Text, report: Callable[..., Report]) -> None:
    files = "--hypothesis", text("out", HYPOTHESIS), "--reference", text("ref.de", REFERENCE)
    [system] = report(*files, "--target-lang", "de", "--metrics", *METRICS)["systems"]
    assert system["system"] == str(files[1])
    [split] = system["splits"]
    assert (split["split"], split["sentences"]) == ("ref.de", N)
    wanted = corpus_score(HYPOTHESIS, REFERENCE, METRICS)
    assert [(score["metric"], score["score"]) for score in split["scores"]] == [(w.metric, w.score) for w in wanted]
    assert "tok:13a" in split["scores"][0]["signature"]


@pytest.mark.parametrize(
    ("language", "tokenizer"), [("zh", "zh"), ("zho_Hant", "zh"), ("my_MM", "char"), ("de", "13a"), ("eng_Latn", "13a")]
)
def test_the_language_chooses_the_tokenizer(
    language: str, tokenizer: str, text: Text, report: Callable[..., Report], capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = [line.replace("看见", "看到") for line in CHINESE]
    files = "--hypothesis", text("out", wrong), "--reference", text("ref", CHINESE)
    [score] = report(*files, "--target-lang", language)["systems"][0]["splits"][0]["scores"]
    assert f"tok:{tokenizer}|" in score["signature"]
    assert score["score"] == corpus_score(wrong, CHINESE, tokenize=tokenizer)[0].score
    [score] = report(*files, "--target-lang", language, "--tokenize", "char")["systems"][0]["splits"][0]["scores"]
    assert "tok:char" in score["signature"]
    assert capsys.readouterr().err == ""


def test_an_unknown_language_is_said(text: Text, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "--hypothesis", str(text("out", CHINESE)), "--reference", str(text("ref", CHINESE))]
    assert main(words) == 0
    captured = capsys.readouterr()
    assert "tok:13a" in captured.out
    [line] = captured.err.splitlines()
    assert line.startswith("warning: the target language is not known: BLEU with sacreBLEU's tokenizer 13a")
    assert "--target-lang or --tokenize" in line
    assert main([*words, "--metrics", "chrf"]) == 0
    assert capsys.readouterr().err == ""
    assert main([*words, "--metrics", "ter", "chrf++", "--target-lang", "th"]) == 0
    assert capsys.readouterr().err.startswith("warning: ter and chrf++ of text in th says little")


@pytest.mark.parametrize(
    ("fields", "words", "tokenizer"),
    [
        ({"data__target_lang": "zh"}, "", "zh"),
        ({"data__target_lang": "lao_Laoo"}, "", "char"),
        ({"data__target_lang": "de"}, "", "13a"),
        ({"data__target_lang": "zh", "test__bleu_tokenize": "char"}, "", "char"),
        ({"data__target_lang": "zh", "test__bleu_tokenize": "char"}, "--tokenize intl", "intl"),
        ({"data__target_lang": "ja"}, "--tokenize char", "char"),
    ],
)
def test_a_run_is_scored_by_the_language_of_its_recipe(
    run: Path, tmp_path: Path, fields: dict[str, str], words: str, tokenizer: str, report: Callable[..., Report]
) -> None:
    folder = change(run, tmp_path / "run", **{"test": {"beam": 1}, **fields})
    found = report(folder, "--split", "one", "--max-extra", 1, *words.split())
    assert f"tok:{tokenizer}|" in found["systems"][0]["splits"][0]["scores"][0]["signature"]


@pytest.mark.parametrize(
    ("language", "tokenizer", "family"),
    [
        ("zho_Hans", "zh", {}),
        (None, "char", {"target_lang": "tha"}),
        (None, "13a", {}),
        (None, "13a", {"target_lang": 3}),
    ],
)
def test_an_imported_model_is_scored_by_the_language_that_is_chosen(
    language: str | None, tokenizer: str, family: dict[str, Any]
) -> None:
    imported = object.__new__(ImportedTranslationTokenizer)
    imported.target_language, imported.files = language, SimpleNamespace(settings=family)  # type: ignore[assignment]
    imported.family = "marian"
    recipe = {"data": {"target_lang": "de"}}
    found = Run(None, imported, recipe, 1).target_language  # type: ignore[arg-type]
    assert found is not None
    assert evaluate_tokenizer(found) == tokenizer
    plain = Run(None, object.__new__(TranslationTokenizer), recipe, 1)  # type: ignore[arg-type]
    assert plain.target_language == "de"


def evaluate_tokenizer(language: str) -> str:
    from transformer_zoo.evaluation import bleu_tokenizer

    return bleu_tokenizer(language)


@pytest.mark.parametrize("language", ["ja", "jpn_Jpan", "ko_KR", "kor_Hang"])
def test_a_missing_extra_is_refused_before_anything_is_translated(
    run: Path, tmp_path: Path, language: str, text: Text, refused: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = language[:2].replace("jp", "ja")
    monkeypatch.setattr(f"sacrebleu.tokenizers.tokenizer_{extra}_mecab.MeCab", None)
    folder = change(run, tmp_path / "run", test={}, data__target_lang=language)
    files = "--hypothesis", text("out", REFERENCE), "--reference", text("ref", REFERENCE), "--target-lang", language
    for words in ((folder, "--split", "one"), (folder, "--split", "one", "--compare", run), files):
        status, line = refused(*words)
        assert status == 1
        assert f"pip install 'sacrebleu[{extra}]'" in line


def test_several_references_repeated_or_in_a_row(text: Text, report: Callable[..., Report]) -> None:
    second = [REFERENCE[0], "", *HYPOTHESIS[2:4], "another", ""]
    files = [text("ref", REFERENCE), text("ref2", second)]
    start = "--hypothesis", text("out", HYPOTHESIS), "--target-lang", "de", "--metrics", *METRICS
    repeated = report(*start, "--reference", files[0], "--reference", files[1])
    assert report(*start, "--reference", *files) == repeated
    scores = repeated["systems"][0]["splits"][0]["scores"]
    wanted = corpus_score(HYPOTHESIS, [REFERENCE, second], METRICS)
    assert [(s["score"], s["signature"]) for s in scores] == [(w.score, w.signature) for w in wanted]
    assert report(*start[:4], "--metrics", "bleu", "--metrics", "ter", "bleu", "--reference", files[0])["systems"][0][
        "splits"
    ][0]["scores"] == [vars(w) for w in corpus_score(HYPOTHESIS, REFERENCE, ["bleu", "ter"])]


def test_a_run_is_scored_against_several_references(run: Path, text: Text, report: Callable[..., Report]) -> None:
    files = "--source", run / "test.en", "--reference", run / "test.de", text("other", HYPOTHESIS)
    [split] = report(run, *files, "--beam", 1, "--max-extra", 1)["systems"][0]["splits"]
    hypotheses = (run / "evaluation" / "test.en.hyp").read_text("utf-8").splitlines()
    wanted = corpus_score(hypotheses, [REFERENCE, HYPOTHESIS], tokenize="none")[0]
    assert (split["scores"][0]["score"], split["scores"][0]["signature"]) == (wanted.score, wanted.signature)
    assert "nrefs:2|" in wanted.signature


def test_a_test_of_the_recipe_with_several_references(
    run: Path, tmp_path: Path, text: Text, report: Callable[..., Report]
) -> None:
    test = {"source": str(run / "test.en"), "target": str(run / "test.de"), "references": [str(text("o", HYPOTHESIS))]}
    folder = change(run, tmp_path / "run", data__tests={"one": test}, test__beam=1)
    assert "nrefs:2|" in str(report(folder, "--max-extra", 1))
    (folder / "test").mkdir()
    for kind in ("src", "ref", "ref2"):  # the run's own copy counts once it is whole
        assert "nrefs:2|" in str(report(folder, "--max-extra", 1))
        shutil.copy(run / "test.de", folder / "test" / f"one.{kind}")
    [split] = report(folder, "--max-extra", 1)["systems"][0]["splits"]
    assert split["text"] == f"{folder}/test/one.src and {folder}/test/one.ref"
    assert "nrefs:2|" in split["scores"][0]["signature"]


def test_two_files_are_compared(text: Text, report: Callable[..., Report]) -> None:
    one, other = HYPOTHESIS, [line.upper() for line in REFERENCE]
    words = "--hypothesis", text("a", one), "--reference", text("ref", REFERENCE), "--compare"
    found = report(*words, text("b", other), "--metrics", "chrf", "ter", "--target-lang", "de")
    wanted = compare(one, other, REFERENCE, ["chrf", "ter"])
    assert [system["system"][-1] for system in found["systems"]] == ["a", "b"]
    for row, own in zip(found["comparisons"], wanted, strict=True):
        assert (row["p_value"], row["ties"], tuple(row["scores"])) == (own.p_value, own.ties, own.scores)


@pytest.mark.parametrize(
    ("other", "note"),
    [
        (HYPOTHESIS, "ref, bleu: the same score in 1000 of 1000 resamples; nothing differs that it sees"),
        (
            [*HYPOTHESIS[:5], "x"],
            r"ref, bleu: the same score in \d\d\d of 1000 resamples; the p-value takes no account",
        ),
        (["x"] * N, None),
    ],
)
def test_ties_are_named(other: list[str], note: str | None, text: Text, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "--hypothesis",
        text("a", HYPOTHESIS),
        "--reference",
        text("ref", REFERENCE),
        "--compare",
        text("b", other),
    ]
    for latex in ([], ["--latex"]):
        assert main(["evaluate", *map(str, words), "--target-lang", "de", *latex]) == 0
        out = capsys.readouterr().out
        assert ("the same score in" in out) == (note is not None)
        assert note is None or re.search(note, out)
        if other == HYPOTHESIS:
            assert "  1.0000  " in out or " & 1.0000 " in out


def test_a_run_is_compared_with_a_file(run: Path, text: Text, report: Callable[..., Report]) -> None:
    report(run, "--split", "one", "--max-extra", 1)
    same = run / "evaluation" / "one.hyp"
    found = report(run, "--split", "one", "--max-extra", 1, "--compare", shutil.copy(same, same.with_name("copy")))
    assert found["comparisons"][0]["p_value"] == 1
    found = report(run, "--split", "one", "--max-extra", 1, "--compare", text("b", REFERENCE))
    assert found["comparisons"][0]["scores"][1] == pytest.approx(100)
    assert found["comparisons"][0]["p_value"] < 0.05


def test_lines_that_do_not_match_are_refused_with_both_counts(
    run: Path, text: Text, refused: Callable[..., Any]
) -> None:
    short, ref = text("short", REFERENCE[1:]), text("ref", REFERENCE)
    source = "--source", run / "test.en", "--reference"
    for words in (
        ("--hypothesis", short, "--reference", ref),
        ("--hypothesis", ref, "--reference", ref, short),
        ("--hypothesis", ref, "--reference", ref, "--compare", short),
        (run, *source, short),
        (run, *source, ref, short),
        (run, *source, ref, "--compare", short),
        (run, "--split", "one", "--compare", short),
    ):
        status, line = refused(*words)
        assert status == 1
        assert re.search(r"has 5 lines .* has 6|has 6 lines .* has 5", line)


def test_what_cannot_be_scored_is_refused_before_anything_is_translated(
    run: Path, tmp_path: Path, text: Text, refused: Callable[..., Any]
) -> None:
    damaged = change(run, tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"no weights")
    empty, ref = text("empty", []), text("ref", REFERENCE)
    (tmp_path / "latin").write_bytes("schön\n".encode("latin-1") * N)
    split = (run, "--split", "one")
    cases: list[tuple[tuple[object, ...], int, str]] = [
        ((*split, "--compare", damaged), 1, "no weights can be read"),
        ((*split, "--compare", tmp_path / "nowhere"), 1, "nowhere: no such run folder, and no file"),
        ((*split, "--compare", tmp_path), 1, "it is not a run"),
        ((*split, "--compare", tmp_path / "latin"), 1, "latin:1: not UTF-8"),
        ((run, "--compare", ref), 1, "name it with --split"),
        ((*split, "--tokenize", "14a"), 1, "'14a'"),
        ((*split, "--metrics", "blue"), 2, "--metrics"),
        ((*split, "--metrics"), 2, "--metrics"),
        ((run, "--source", ref, "--reference", tmp_path / "nowhere"), 1, "nowhere: no such file"),
        (("--hypothesis", ref, "--reference", tmp_path / "nowhere"), 1, "nowhere: no such file"),
        (("--hypothesis", tmp_path / "nowhere", "--reference", ref), 1, "nowhere: no such file"),
        (("--hypothesis", "--reference", ref), 2, "--hypothesis"),
        (("--hypothesis", empty, "--reference", empty, "--target-lang", "de"), 1, "no lines to score"),
        (("--hypothesis", ref, "--reference", ref, "--compare", run), 1, str(run)),
    ]
    for words, status, message in cases:
        assert refused(*words)[0] == status, words
        assert message in refused(*words)[1], words


FILES = {"source": "s", "target": "t"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data": {"tests": ["a"]}}, "data.tests is"),
        ({"data": {"tests": "abc"}}, "data.tests is 'abc'"),
        ({"data": {"tests": {"a": 3}}}, "data.tests.a is 3"),
        ({"data": {"tests": {"a": None}}}, "data.tests.a is empty"),
        ({"data": {"tests": {3: FILES}}}, "data.tests: 3 cannot be a file name"),
        *(
            ({"data": {"tests": {name: FILES}}}, "cannot be a file name")
            for name in ("../../x", "/x", "", ".x", "a/b", "a\n", "..")
        ),
        ({"data": {"tests": {"validation": FILES}}}, "'validation' is the name of another split"),
        ({"data": {"tests": {"one": {"sourc": "x"}}}}, "data.tests.one.sourc: no such field"),
        ({"data": {"tests": {"one": {**FILES, "references": "x"}}}}, "data.tests.one.references is 'x'"),
        ({"data": {"tests": {"one": {**FILES, "references": [3]}}}}, "data.tests.one.references is [3]"),
        ({"data": {"tests": {"one": {**FILES, "source_column": 0}}}}, "source_column"),
        ({"data": {"validation": 3}}, "data.validation is 3"),
        ({"data": {"target_lang": 5}}, "data.target_lang is 5"),
        ({"data": {"target_lang": ["zh"]}}, "data.target_lang is ['zh']"),
        ({"test": {"bleu_tokenize": 3}}, "test.bleu_tokenize is 3"),
        ({"test": {"bleu_tokenize": ["zh"]}}, "test.bleu_tokenize is ['zh']"),
        ({"test": {"beam": "wide"}}, "test.beam is 'wide'"),
        ({"test": {"metrics": "bleu"}}, "test.metrics is 'bleu'"),
        ({}, "has no data.tests"),
    ],
)
def test_a_strangers_recipe_is_one_line_and_writes_nothing_elsewhere(
    run: Path, tmp_path: Path, fields: dict[str, Any], message: str, refused: Callable[..., Any]
) -> None:
    folder = tmp_path / "a" / "b" / "run"
    shutil.copytree(run, folder)
    shutil.rmtree(folder / "evaluation", ignore_errors=True)
    save_recipe(folder / "config.yaml", fields)
    before = sorted(tmp_path.rglob("*"))
    status, line = refused(folder)
    assert status == 1
    assert message in line
    assert sorted(tmp_path.rglob("*")) == before


OPTIONS = {
    "--split": ["one"], "--source": ["s"], "--reference": ["r"], "--hypothesis": ["h"], "--file": ["f"],
    "--stride": ["3"], "--separator": ["x"], "--compare": ["c"], "--mean": [], "--beam": ["2"], "--json": [],
    "--latex": [], "--target-lang": ["de"], "--source-lang": ["en"], "--lowercase": [], "--tokenize": ["zh"],
}  # fmt: skip
EXCLUDE = [
    ("--json", "--latex"), ("--split", "--source"), ("--split", "--hypothesis"), ("--source", "--hypothesis"),
    ("--mean", "--compare"), ("--mean", "--hypothesis"), ("--hypothesis", "--beam"), ("--hypothesis", "--source-lang"),
    ("--split", "--reference"),
    *(("--file", other) for other in OPTIONS if other not in ("--stride", "--separator", "--json", "--file")),
]  # fmt: skip


@pytest.mark.parametrize("options", EXCLUDE, ids=" ".join)
def test_options_that_do_not_go_together(options: tuple[str, str], refused: Callable[..., Any]) -> None:
    words = list(itertools.chain.from_iterable([name, *OPTIONS[name]] for name in options))
    for given in (words, ["run", *words], ["run", "run2", *words]):
        assert refused(*given)[0] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give the folder of a RUN"),
        (["--mean"], "give the folder of a RUN"),
        (["a", "--mean"], "--mean takes two runs or more"),
        (["a", "b"], "several runs are for --mean"),
        (["--file", "x"], "--file needs a RUN"),
        (["a", "b", "--file", "x"], "more than one RUN"),
        (["a", "--hypothesis", "x", "--reference", "y"], "--hypothesis excludes RUN"),
        (["a", "--source", "x"], "--source and --reference"),
        (["a", "--reference", "x"], "--source and --reference"),
        (["--hypothesis", "x"], "--hypothesis and --reference"),
    ],
)
def test_too_few_or_too_many(words: list[str], message: str, refused: Callable[..., Any]) -> None:
    status, line = refused(*words)
    assert status == 2
    assert message in line


@pytest.mark.parametrize("latex", [[], ["--latex"]])
def test_names_of_files_and_languages_never_reach_the_terminal_raw(
    latex: list[str], text: Text, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(text(f"{name}\x1b[31m", REFERENCE)) for name in ("out", "ref")]
    words = ["--hypothesis", files[0], "--reference", files[1], "--compare", files[0], "--metrics", "ter"]
    assert main(["evaluate", *words, "--target-lang", "th\x1b[31m", *latex]) == 0
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out + captured.err
    assert "ref" in captured.out
    assert "ter of text in th" in captured.err


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_ends_of_lines_and_byte_order_marks_are_no_text(
    start: bytes, end: bytes, tmp_path: Path, report: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["", *HYPOTHESIS, "", "caf\u2028é"]  # blank lines stay, and only \n ends a line
    content = start + end.join(line.encode() for line in lines) + end
    (tmp_path / "file").write_bytes(content)
    (tmp_path / "ref").write_text("\n".join(["", *REFERENCE, "", "caf\u2028é"]) + "\n", "utf-8")
    words = "--reference", tmp_path / "ref", "--target-lang", "de", "--metrics", *METRICS
    wanted = [score.score for score in corpus_score(lines, ["", *REFERENCE, "", "caf\u2028é"], METRICS)]
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    for name in (tmp_path / "file", "-"):
        [system] = report("--hypothesis", name, *words)["systems"]
        assert [score["score"] for score in system["splits"][0]["scores"]] == wanted


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Runs of one recipe and three seeds."""
    folders = []
    for seed in range(3):
        folder = tmp_path_factory.mktemp("seeds") / f"seed_{seed}"
        made = make_run(tmp_path_factory.mktemp("made"), seed=7 * seed)
        files = {"source": str(folders[0] / "test.en"), "target": str(folders[0] / "test.de")} if folders else None
        tests = {"data__tests": {"one": files}} if files else {}
        change(made, folder, seed=seed, run_dir=str(folder), data__target_lang="en", test={"beam": 1}, **tests)
        folders.append(folder)
    files = {"source": str(folders[0] / "test.en"), "target": str(folders[0] / "test.de")}
    for folder in folders:
        recipe = yaml.safe_load((folder / "config.yaml").read_text())
        recipe["data"] = {"target_lang": "en", "tests": {"one": files}}
        save_recipe(folder / "config.yaml", recipe)
    return folders


def test_mean_and_spread_over_seeds(
    seeds: list[Path], report: Callable[..., Report], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*seeds, "--mean", "--metrics", "chrf", "chrf++", "--max-extra", "1"]
    found = report(*words)
    assert [system["system"] for system in found["systems"]] == list(map(str, seeds))
    assert [(row["split"], row["metric"], row["n"]) for row in found["means"]] == [
        ("one", "chrf", 3),
        ("one", "chrf++", 3),
    ]
    shown = []
    for k, row in enumerate(found["means"]):
        scores = [system["splits"][0]["scores"][k]["score"] for system in found["systems"]]
        assert row["scores"] == scores
        assert len(set(scores)) == 3
        assert row["mean"] == pytest.approx(sum(scores) / 3)
        spread = (sum((score - sum(scores) / 3) ** 2 for score in scores) / 2) ** 0.5
        assert row["standard_deviation"] == pytest.approx(spread) == pytest.approx(statistics.stdev(scores))
        shown.append((f"{row['mean']:.2f}", f"{spread:.2f}"))
    assert main(["evaluate", *map(str, words)]) == 0
    lines = capsys.readouterr().out.splitlines()
    for (mean, spread), line in zip(shown, lines[1:], strict=False):
        assert f"  {mean} ± {spread}  3  " in re.sub(r" {2,}", "  ", line)
        assert "nrefs:1|" in line
    assert main(["evaluate", *map(str, words), "--latex"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("\\begin{tabular}{ll")
    assert f"one & chrf & {shown[0][0]} $\\pm$ {shown[0][1]} & 3 & " in out
    assert "\n% one, chrf++: nrefs:1|" in out


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seed": 0}, "have the same seed, 0"),
        ({"seed": None}, "was not trained here by a recipe with a seed"),
        (
            {"seed": 5, "training": {"max_updates": 3}},
            "differ in more than their seeds: training.max_updates None and 3",
        ),
        ({"seed": 5, "data__target_lang": "de"}, "data.target_lang en and de"),
        ({"seed": 5, "test__beam": 2}, "test.beam 1 and 2"),
    ],
)
def test_a_mean_is_over_seeds_of_one_recipe(
    seeds: list[Path], tmp_path: Path, fields: dict[str, Any], message: str, refused: Callable[..., Any]
) -> None:
    other = change(seeds[1], tmp_path / "other", **fields)
    status, line = refused(seeds[0], other, "--mean")
    assert status == 1
    assert message in line


def test_a_mean_is_over_one_text(seeds: list[Path], tmp_path: Path, refused: Callable[..., Any]) -> None:
    other = change(seeds[1], tmp_path / "other")
    (other / "test").mkdir()
    for kind in ("src", "ref"):
        (other / "test" / f"one.{kind}").write_text("changed\n" * N)
    status, line = refused(seeds[0], other, "--mean")
    assert (status, "the text of one is not the same" in line) == (1, True)
    status, line = refused(seeds[0], seeds[0], "--mean")
    assert (status, "the same seed" in line) == (1, True)


def test_a_mean_is_over_runs_that_were_trained_on_one_text(
    seeds: list[Path], tmp_path: Path, refused: Callable[..., Any]
) -> None:
    runs = [change(seed, tmp_path / seed.name) for seed in seeds[:2]]
    for number, run in enumerate(runs):
        mark_finished(run, {}, {"data.train": str(number), "data.validation": "same"}, {})
    status, line = refused(*runs, "--mean")
    assert (status, line.endswith("had different texts in data.train: train both with one")) == (1, True)


def test_a_latex_table_has_no_sign_that_latex_takes_for_its_own(text: Text, capsys: pytest.CaptureFixture[str]) -> None:
    reference = text("a_b&c%d#e$f{g}h~i^j\\k.de", REFERENCE)
    words = ["--hypothesis", str(text("out", HYPOTHESIS)), "--reference", str(reference), "--target-lang", "de"]
    assert main(["evaluate", *words, "--latex"]) == 0
    row = capsys.readouterr().out.splitlines()[4]
    wanted = r"a\_b\&c\%d\#e\$f\{g\}h\textasciitilde{}i\textasciicircum{}j\textbackslash{}k.de & bleu & "
    assert row.startswith(wanted)
