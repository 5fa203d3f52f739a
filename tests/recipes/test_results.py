"""Results: pages and charts say what was measured, and what is measured finds its way into them."""

import json
import re
import subprocess
import xml.etree.ElementTree as ET
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.test_pictures import OKABE_ITO, contrast
from transformer_zoo.errors import UserError

from .shown import shown


@pytest.fixture(scope="module")
def results() -> ModuleType:
    return import_module("recipes.benchmarks.results")


@pytest.fixture(scope="module")
def charts() -> ModuleType:
    return import_module("recipes.benchmarks.charts")


def git(folder: Path, *words: str) -> str:
    named = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    done = subprocess.run(["git", *named, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_pages_and_charts_are_what_make_results_writes(results: ModuleType, root: Path) -> None:
    written = {path: path.read_text("utf-8") if path.is_file() else None for path in results.contents(root)}
    assert [path.name for path, text in results.contents(root).items() if text != written[path]] == []
    assert results.old_charts(root) == set()


def test_every_part_is_on_one_page(results: ModuleType, root: Path) -> None:
    text = "".join(page.read_text("utf-8") for page in (root / "docs").glob("*.md"))
    assert sorted(results.MARKED.findall(text)) == sorted(results.PARTS)
    assert {folder.name for folder in (root / "docs" / "results").iterdir()} <= set(results.PARTS)
    assert set(re.findall(r"make results PART=([\w-]+)", text)) <= set(results.PARTS)


def test_what_was_measured_names_command_machine_and_a_commit(results: ModuleType, root: Path) -> None:
    if not (root / ".git").exists() or git(root, "rev-parse", "--is-shallow-repository") == "true":
        pytest.skip("not a whole clone")
    for part in results.PARTS:
        for file, measured in results.measurements(root, part).items():
            assert measured["command"], file
            assert measured["rows"], file
            assert results._slug(measured["machine"]) == file.stem
            git(root, "cat-file", "-e", f"{measured['commit']}^{{commit}}")


def test_a_part_is_measured_by_its_command_and_shown(
    results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = {"cpu": "AMD(R) Some CPU @ 2 GHz", "instruction sets": "avx2", "threads": "3", "packages": "torch 2"}
    found = {"machine": about, "gains": [{"case": "norm, small", "threads": 1, "ratios": [1.0, 1.5, 2.0]}]}
    script = (
        f"import json, sys\nassert sys.argv[1:3] == ['--rounds', '4']\njson.dump({found}, open(sys.argv[4], 'w'))\n"
    )
    (tmp_path / "measure.py").write_text(script, "utf-8")
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "page.md"
    page.write_text("<!-- results kernels -->\n<!-- end of results -->\n", "utf-8")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "A benchmark")
    part = results.Part("python measure.py", results.PARTS["kernels"].rows, chart=results.PARTS["kernels"].chart)
    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.setitem(results.PARTS, "kernels", part)
    for _ in range(2):  # the first results do not change what is measured
        results.main(["kernels", "--options=--rounds 4"])
    text = page.read_text("utf-8")
    assert f"**AMD Some, AVX2**, 3 threads, torch 2, commit {git(tmp_path, 'rev-parse', '--short', 'HEAD')}" in text
    assert "`python measure.py --rounds 4`" in text
    assert "| norm | small | 1 | 1.250 | 1.500 | 1.750 |" in text
    assert (tmp_path / "docs" / "pictures" / "results_kernels_amd-some-avx2.svg").exists()
    (tmp_path / "measure.py").write_text(f"{script}1\n", "utf-8")
    with pytest.raises(UserError, match=r"M measure.py: commit it first"):
        results.main(["kernels", "--options=--rounds 4"])
    git(tmp_path, "commit", "-qam", "It fails")
    with pytest.raises(UserError, match="wrote no results and ended with status 1"):
        results.main(["kernels"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("run_dir: x", "is damaged, it is not a JSON object"),
        ("[]", "is damaged, it is not a JSON object"),
        ('{"scores": 1}', "it has no rows of kernels"),
        ('{"gains": []}', "it has no rows of kernels"),
        ('{"gains": [{"case": "norm, small", "threads": 1, "ratios": [1.0, 1.5]}]}', "it names no machine"),
    ],
)
def test_what_a_command_did_not_write_is_not_taken(
    results: ModuleType, content: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "ROOT", tmp_path)
    (tmp_path / "found.json").write_text(content, "utf-8")
    with pytest.raises(UserError, match=said):
        results.main(["kernels", "--found", str(tmp_path / "found.json")])
    with pytest.raises(UserError, match="No such file"):
        results.main(["kernels", "--found", str(tmp_path / "nowhere.json")])
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


def test_what_cannot_be_measured_is_refused(results: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="zo: no such part; did you mean zoo"):
        results.main(["zo"])
    with pytest.raises(UserError, match="finetune: no single command"):
        results.main(["finetune"])
    about = {"cpu": "x", "instruction sets": "", "threads": "1", "packages": "", "commit": "abc1234-dirty"}
    rows = [{"case": "norm, small", "threads": 1, "ratios": [1.0, 1.5]}]
    for gains, said in ((rows, "a changed tree, abc1234-dirty"), ([], "no rows")):
        with pytest.raises(UserError, match=said):
            results.keep(tmp_path, "kernels", [{"machine": about, "gains": gains}], "python it.py", None, None)
    assert not (tmp_path / "docs").exists()


@pytest.mark.parametrize(
    ("about", "name"),
    [
        ({"cpu": "Intel(R) Xeon(R) Processor", "instruction sets": "avx2, avx512_f, amx_bf16"}, "Intel Xeon, AMX"),
        ({"cpu": "Intel(R) Xeon(R) G6 CPU @ 2 GHz", "instruction sets": "avx2, avx512_f"}, "Intel Xeon G6, AVX-512"),
        ({"cpu": "AMD EPYC 7B13", "instruction sets": "avx2"}, "AMD EPYC 7B13, AVX2"),
        ({"cpu": "unknown", "instruction sets": "aarch64"}, "unknown, aarch64"),
        ({"cpu": "x", "instruction sets": "", "gpu": "NVIDIA H200"}, "NVIDIA H200"),
    ],
)  # fmt: skip
def test_a_machine_is_called_by_what_it_is(results: ModuleType, about: dict[str, str], name: str) -> None:
    assert results.machine_name(about) == name


def test_scores_of_two_texts_are_shown(tmp_path: Path) -> None:
    """As five_minutes.py writes them."""
    about = {"threads": "2", "packages": "torch 2"}
    scores = {
        "tatoeba": {"tuned": [10.0, 12.0], "chosen": [9.0, 11.0]},
        "shakespeare": {"tuned": [2.0], "chosen": [3.0]},
    }
    text = shown("five-minutes", {"machine": about, "scores": scores}, tmp_path)
    assert "| tatoeba | tuned | BLEU | 10.000 | 12.000 | 11.000 |" in text
    assert "| shakespeare | chosen | bits per byte | 3.000 |  | 3.000 |" in text


def test_first_runs_and_the_guard_are_shown(tmp_path: Path) -> None:
    about = {"threads": "2", "packages": "torch 2"}
    runs = {
        "old": {"1": {"bleu": 1.234, "updates": 10}},
        "new": {"1": {"bleu": 2.0, "updates": 20}},
        "tuned": {"1": None},
    }
    text = shown("first-run", {"machine": about, "runs": runs, "means": {"old": 1.234, "new": 2.0}}, tmp_path)
    assert "| A Machine | old | 1.23 (10) | 1.234 | abc1234 |" in text
    guard = import_module("recipes.benchmarks.guard").Measured("greedy float32", [1.0, 1.1, 1.2], 2)
    row = {**vars(guard), "verdict": guard.verdict, "quartiles": guard.quartiles}
    text = shown("guard", {"machine": about, "rows": [row]}, tmp_path)
    assert "| greedy float32 | 1.000 | 1.050 | 1.100 | 1.150 | 1.200 | 2 | not judged |" in text


@pytest.mark.parametrize("theme", ["LIGHT", "DARK"])
def test_what_is_drawn_stands_out_on_its_paper(charts: ModuleType, theme: str) -> None:
    colours = getattr(charts, theme)
    for name in ("ink", "ours"):
        assert contrast(colours[name], colours["paper"]) >= 4.5, name
    assert colours["ours"] in OKABE_ITO
    assert set(re.findall(r"#\w{6}", charts._style(colours))) == set(colours.values())


def drawn(svg: str) -> ET.Element:
    """The chart, all of which is inside the picture, and coloured by its style alone."""
    tree = ET.fromstring(svg)
    width, height = (float(tree.attrib[name]) for name in ("width", "height"))
    for element in tree.iter():
        inside = {name: float(element.attrib[name]) for name in ("x", "x1", "x2", "cx") if name in element.attrib}
        assert all(0 <= x <= width for x in inside.values()), ET.tostring(element)
        inside = {name: float(element.attrib[name]) for name in ("y", "y1", "y2", "cy") if name in element.attrib}
        assert all(0 <= y <= height for y in inside.values()), ET.tostring(element)
        assert "fill" not in element.attrib
        assert "stroke" not in element.attrib
    assert "prefers-color-scheme:dark" in svg
    return tree


def named(tree: ET.Element, tag: str, **attributes: str) -> list[ET.Element]:
    found = tree.iter(f"{{http://www.w3.org/2000/svg}}{tag}")
    return [one for one in found if all(one.get(name) == value for name, value in attributes.items())]


def test_charts_of_the_pages_have_titles_units_and_no_text_outside(root: Path) -> None:
    files = sorted((root / "docs" / "pictures").glob("results_*.svg"))
    assert files
    for file in files:
        assert file.stat().st_size < 40_000
        tree = drawn(file.read_text("utf-8"))
        [title], words = named(tree, "title"), [one.text or "" for one in named(tree, "text")]
        assert all(words)
        assert title.text == f"{words[0]}: {words[1]}"
        assert "is better" in words[1]


def test_a_bar_is_as_long_as_its_value(charts: ModuleType) -> None:
    bars = [charts.Bar("transformer_zoo", 30.0, "30.0", True), charts.Bar("another <b>", 10.0, "10.0", False)]
    own = charts.Group("own scale", [charts.Bar("transformer_zoo", 3.0, "3.0", True)], 3.0)
    tree = drawn(charts.bars("Speed", "tokens a second, more is better", [charts.Group("", bars, 30.0), own]))
    [first, third], [second] = named(tree, "rect", **{"class": "filled"}), named(tree, "rect", **{"class": "hollow"})
    lengths = [float(one.attrib["width"]) for one in (first, second, third)]
    assert lengths[0] == pytest.approx(3 * lengths[1], abs=0.2)
    assert lengths[0] == lengths[2]
    assert {"another <b>", "own scale", "30.0", "10.0"} <= {one.text for one in named(tree, "text")}


def test_dots_lie_on_their_scale_and_differ_by_shape(charts: ModuleType) -> None:
    lines: dict[str, Any] = {"gpt2": {"one": [1.0], "many": [2.0, 3.0]}, "llama": {"one": [1.5]}}
    tree = drawn(charts.dots("Speed", "ours / theirs, more is better", "as fast", lines))
    filled, hollow = ([float(one.attrib["cx"]) for one in named(tree, "circle", **{"class": kind})]
                      for kind in ("filled", "hollow"))  # fmt: skip
    [mark] = {float(one.attrib["x1"]) for one in named(tree, "line") if one.get("stroke-dasharray") == "6 4"}
    (_, one, of_llama), (_, two, three) = filled, hollow  # the first of each stands in the legend
    assert one == mark
    assert three - two == pytest.approx(two - one, abs=0.2)
    assert of_llama - one == pytest.approx((two - one) / 2, abs=0.2)
    ticks = [float(tick.attrib["x"]) for tick in named(tree, "text", **{"text-anchor": "middle"})]
    assert len(ticks) == 4
    assert all(b > a for a, b in pairwise(ticks))


def test_what_was_measured_is_plain_json(results: ModuleType, root: Path) -> None:
    """And so small that a change of one figure is a change of one line."""
    for file in (root / "docs" / "results").glob("*/*.json"):
        rows = [line for line in file.read_text("utf-8").splitlines() if line.startswith("  {")]
        assert [json.loads(row.rstrip(",")) for row in rows] == json.loads(file.read_text("utf-8"))["rows"]
