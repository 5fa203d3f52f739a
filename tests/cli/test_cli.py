"""The command as people use it: what it prints, what it writes, how it ends."""

import itertools
import json
import os
import re
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from transformer_zoo.cli import main
from transformer_zoo.config import EncoderDecoderConfig
from transformer_zoo.evaluation import corpus_score
from transformer_zoo.inference import quantize
from transformer_zoo.models import EncoderDecoder
from transformer_zoo.runs.model_json import ModelJson, write_model_json
from transformer_zoo.runs.recipe import save_recipe
from transformer_zoo.tokenizers import TranslationTokenizer, TranslationTokenizerSettings
from transformer_zoo.training.weights import copy_weights, save_weights

WORDS = "the cat sat on a mat and saw two small dogs near an old house"
LONGEST = 100
TEXT = [WORDS[i % 40 :] + " " + WORDS[: i % 30] for i in range(60)]


def make_run(folder: Path, seed: int) -> Path:
    """A run of a random model, whose recipe names two tests."""
    tokenizer = TranslationTokenizer.train(TEXT, TEXT, TranslationTokenizerSettings(vocab_size=60))
    config = EncoderDecoderConfig.of(
        vocab_size=60, d_model=16, n_heads=2, d_ff=16, n_encoder_layers=1, n_decoder_layers=1
    )
    tokenizer.save(folder / "tokenizer")
    write_model_json(folder, ModelJson(config, max_source_tokens=LONGEST))
    for step in (1, 2, 3):
        torch.manual_seed(seed + step)
        save_weights(folder / "checkpoints" / f"step_{step:06d}.safetensors", copy_weights(EncoderDecoder(config)))
    save_weights(folder / "model.safetensors", copy_weights(EncoderDecoder(config)))
    for side in ("en", "de"):
        (folder / f"test.{side}").write_text("".join(line + "\n" for line in TEXT[:6]), encoding="utf-8")
    files = {"source": str(folder / "test.en"), "target": str(folder / "test.de")}
    recipe = {
        "data": {"tests": {"one": files, "two": files}, "validation": files},
        "test": {"beam": 3, "length_penalty": 1.0, "penalty": "length", "bleu_tokenize": "none"},
    }
    save_recipe(folder / "config.yaml", recipe)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"), seed=0)


@pytest.fixture(scope="module")
def other_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("other"), seed=10)


def read_lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines()


def call(command: str, *words: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """In a process of its own, for what depends on real streams."""
    code = "import sys; from transformer_zoo.cli import main; sys.exit(main())"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONWARNINGS": "default"}
    arguments = [sys.executable, "-c", code, command, *map(str, words)]
    return subprocess.run(arguments, input=stdin, env=environment, capture_output=True, check=False)


def test_translate_from_stdin_to_stdout(run: Path) -> None:
    done = call("translate", run, stdin="the cat\n\r\nan old hoüse\r\n\ntwo dogs".encode())
    lines = done.stdout.decode().split("\n")
    assert (done.returncode, len(lines)) == (0, 6)
    assert [bool(line) for line in lines] == [True, False, True, False, True, False]
    # A random model rarely ends a sentence.
    [told] = done.stderr.decode().splitlines()
    assert told.startswith("warning: 3 of 5 lines (1, 3, 5): translated up to the length limit")


@pytest.mark.parametrize(
    ("words", "n"),
    [
        ("--beam 1 --window 1", 1),
        ("--beam 1", 1),
        ("--beam 1 --n-best 1", 0),  # scores need all logits
        ("--beam 1 --n-best 1 --window 1", 0),
        ("--beam 2 --window 1", 0),
    ],
)
def test_greedily_a_draft_translates_the_same(
    run: Path, words: str, n: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lines").write_text("the cat\n\ntwo dogs\n", encoding="utf-8")
    command = f"translate {run} --input {tmp_path / 'lines'} {words}".split()
    drafts = []

    def draft_of(model: EncoderDecoder) -> EncoderDecoder:
        drafts.append(quantize(model))
        return drafts[-1]

    assert main(command) == 0
    wanted = capsys.readouterr().out
    monkeypatch.setattr("transformer_zoo.runs.translating.draft_of", draft_of)
    assert main(command) == 0
    assert capsys.readouterr().out == wanted
    assert len(drafts) == n


def test_a_terminal_gets_its_answer_before_the_next_line(run: Path) -> None:
    code = "import sys; from transformer_zoo.cli import main; sys.exit(main())"
    terminal, stdin = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code, "translate", str(run), "--beam", "1"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(stdin)
    assert process.stdout
    try:
        for line in (b"the cat\n", b"a dog\n"):
            os.write(terminal, line)
            assert select.select([process.stdout], [], [], 60)[0], "no answer"
            assert process.stdout.readline().endswith(b"\n")
        os.write(terminal, b"\x04")  # Ctrl-D
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()
        os.close(terminal)


@pytest.mark.skipif(os.name != "posix", reason="pipes with a name are posix's")
def test_a_pipe_or_a_device_is_written_to_and_never_replaced(run: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE)
    has_a_reader = os.open(pipe, os.O_WRONLY)
    options = ["--input", str(run / "test.en"), "--beam", "1"]
    assert main(["translate", str(run), *options, "--output", str(pipe)]) == 0
    os.close(has_a_reader)
    assert reader.communicate(timeout=60)[0].count(b"\n") == 6
    assert pipe.is_fifo()
    link = tmp_path / "link"
    link.symlink_to(os.devnull)
    assert main(["translate", str(run), *options, "--output", str(link)]) == 0
    assert link.is_symlink()
    assert {path.name for path in tmp_path.iterdir()} == {"pipe", "link"}


@pytest.mark.skipif(os.name != "posix", reason="pipes with a name are posix's")
def test_a_pipe_from_which_nobody_reads_is_not_waited_for(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    assert main(["translate", str(run), "--input", str(run / "test.en"), "--output", str(pipe)]) == 1
    assert capsys.readouterr().err == f"error: {pipe}: nobody reads from this pipe; start what reads it first\n"


def test_translate_files_and_recipe_settings(run: Path, tmp_path: Path) -> None:
    out, explicit = tmp_path / "out.txt", tmp_path / "explicit.txt"
    assert main(["translate", str(run), "--input", str(run / "test.en"), "--output", str(out)]) == 0
    options = ["--beam", "3", "--length-penalty", "1.0", "--penalty", "length", "--batch-tokens", "1"]
    assert main(["translate", str(run), "--input", str(run / "test.en"), "--output", str(explicit), *options]) == 0
    assert out.read_text("utf-8").count("\n") == 6
    assert out.read_text("utf-8") == explicit.read_text("utf-8")
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("n_best", [2, 7])  # fewer and more than the recipe's beam
def test_n_best_lists_are_different_texts_with_the_score_of_score(
    run: Path, n_best: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["translate", str(run), "--input", str(run / "test.en"), "--n-best", str(n_best), "--max-extra", "2"]
    assert main(command) == 0
    rows = [line.split(" ||| ") for line in capsys.readouterr().out.splitlines()]
    assert [int(number) for number, _, _ in rows] == [n for n in range(1, 7) for _ in range(n_best)]
    assert main([*command, "--json"]) == 0
    lists = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for number, found in enumerate(lists, start=1):
        mine = [(float(score), text) for n, score, text in rows if n == str(number)]
        assert len({" ".join(text.split()) for _, text in mine}) == n_best
        assert [score for score, _ in mine] == sorted((score for score, _ in mine), reverse=True)
        assert found["line"] == number
        assert [one["text"] for one in found["translations"]] == [text for _, text in mine]
        assert [one["log_prob"] for one in found["translations"]] == pytest.approx([s for s, _ in mine], abs=1e-3)
        assert all(one["search"]["log_prob"] <= one["search"]["score"] < 0 for one in found["translations"])
    sources = [line for line in read_lines(run / "test.en") for _ in range(n_best)]
    for name, lines in (("s", sources), ("t", [text for _, _, text in rows])):
        (tmp_path / name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    assert main(["score", str(run), "--source", str(tmp_path / "s"), "--target", str(tmp_path / "t")]) == 0
    scores = [float(line.split("\t")[0]) for line in capsys.readouterr().out.splitlines()]
    assert scores == pytest.approx([float(score) for _, score, _ in rows], abs=1e-3)


def test_json_of_the_best_translation(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["translate", str(run), "--input", str(run / "test.en")]
    assert main(command) == 0
    texts = capsys.readouterr().out.splitlines()
    assert main([*command, "--json"]) == 0
    found = [json.loads(line)["translations"] for line in capsys.readouterr().out.splitlines()]
    assert [[one["text"] for one in ones] for ones in found] == [[text] for text in texts]


def test_a_line_much_longer_than_those_of_the_training_is_split_and_named(run: Path) -> None:
    found = []
    for options in ([], ["--max-source-tokens", "1000"]):
        done = call("translate", run, "--beam", 1, *options, stdin=b"cat\n" + b"the cat sat. " * 40)
        assert (done.returncode, done.stdout.count(b"\n")) == (0, 2)
        found.append([line for line in done.stderr.decode().splitlines() if "max_source_tokens" in line])
    [said] = found[0]
    assert said.startswith(
        f"warning: line 2: much longer than max_source_tokens ({LONGEST}); translated in pieces, cut"
    )
    assert found[1] == []


@pytest.mark.filterwarnings("always:.*length limit")
@pytest.mark.parametrize(("command", "name"), [("evaluate", "one: "), ("translate", "")])
def test_translations_at_the_length_limit_are_counted(
    run: Path, command: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    what = ["--split", "one"] if command == "evaluate" else ["--input", str(run / "test.en")]
    assert main([command, str(run), *what, "--max-extra", "1"]) == 0
    wanted = (
        f"warning: {name}6 of 6 lines (1, 2, 3, 4, 5, ...): translated up to the length limit, perhaps not to the end"
    )
    assert wanted in capsys.readouterr().err
    moved = tmp_path / "moved"
    shutil.copytree(run, moved)
    recipe = yaml.safe_load((moved / "config.yaml").read_text("utf-8"))
    recipe["test"]["max_extra"] = 3  # the recipe's counts where no option says another
    (moved / "config.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    assert main([command, str(moved), *what]) == 0
    assert "max_extra (3 tokens more" in capsys.readouterr().err


def test_unknown_padding_and_begin_are_written_when_asked_for(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    weights = load_file(folder / "model.safetensors")
    config = EncoderDecoderConfig.of(
        vocab_size=60, d_model=16, n_heads=2, d_ff=16, n_encoder_layers=1, n_decoder_layers=1, logit_bias=True,
        never_ids=(0, 1, 2),
    )  # fmt: skip
    write_model_json(folder, ModelJson(config, max_source_tokens=LONGEST))
    for likely in (0, 1, 2):
        weights["logit_bias"] = torch.nn.functional.one_hot(torch.tensor(likely), 60).float() * 99
        save_weights(folder / "model.safetensors", weights)
        found = []
        for beam, option in itertools.product(("1", "3"), ([], ["--write-special"])):
            assert main(["translate", str(folder), "--input", str(folder / "test.en"), "--beam", beam, *option]) == 0
            found.append(capsys.readouterr().out)
        assert "⁇" not in found[0] + found[2]
        assert all(found[0].splitlines())
        assert ("⁇" in found[1], "⁇" in found[3]) == (likely == 1, likely == 1)
        assert found[0] != found[1]


def test_a_prefix_that_the_vocabulary_cannot_say_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["translate", str(run), "--input", str(run / "test.en"), "--prefix"]
    assert main([*command, "Der Laden ½"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error: prefix 'Der Laden ½': the model's vocabulary has no 'D' 'L' '½'\n"
    assert main([*command, "the old"]) == 0
    assert all(line.strip().startswith("the old") for line in capsys.readouterr().out.splitlines())


def test_a_closed_pipe_is_quiet(run: Path) -> None:
    code = "import sys; from transformer_zoo.cli import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "translate", str(run), "--beam", "1", "--window", "1"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin
    assert process.stdout
    assert process.stderr
    process.stdin.write(b"the cat\n" * 50)
    process.stdin.close()
    process.stdout.readline()
    process.stdout.close()
    assert {line[:14] for line in process.stderr} <= {b"warning: line "}
    process.stderr.close()
    assert process.wait() == 141


def test_evaluate_all_tests_of_the_recipe(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--metrics", "bleu", "chrf", "ter"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:7]] == [
        [s, m] for s in ("one", "two") for m in ("bleu", "chrf", "ter")
    ]
    assert "tok:none" in lines[1]
    assert "penalty length" in lines[-1]
    kept = json.loads((run / "evaluation" / "one.json").read_text("utf-8"))
    assert kept["search"] == {
        "beam": 3, "length_penalty": 1.0, "penalty": "length", "max_extra": 50,
        "max_source_tokens": LONGEST, "write_special": False, "dtype": "float32",
    }  # fmt: skip
    assert "tok:none" in kept["scores"][0]["signature"]
    assert (run / "evaluation" / "one.hyp").read_text("utf-8").count("\n") == 6


def test_a_test_that_was_scored_is_evaluated_from_the_runs_own_copy(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(run, moved)
    recipe = yaml.safe_load((moved / "config.yaml").read_text().replace(str(run), "/nowhere"))
    save_recipe(moved / "config.yaml", recipe)
    assert main(["evaluate", str(moved), "--split", "one"]) == 1
    assert "nowhere/test.en: no such file" in capsys.readouterr().err
    (moved / "test").mkdir()
    for side, kind in (("en", "src"), ("de", "ref")):
        shutil.copy(run / f"test.{side}", moved / "test" / f"one.{kind}")
    for folder in (run, moved):
        assert main(["evaluate", str(folder), "--split", "one"]) == 0
    first, second = (line for line in capsys.readouterr().out.splitlines() if line.startswith("one"))
    assert first == second


def test_evaluate_prints_json(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--source", str(run / "test.en"), "--reference", str(run / "test.de")]
    assert main(["evaluate", str(run), *files, "--json", "--beam", "1", "--tokenize", "13a"]) == 0
    [split] = json.loads(capsys.readouterr().out)["systems"][0]["splits"]
    assert (split["split"], split["sentences"], split["search"]["beam"]) == ("test.en", 6, 1)
    assert "tok:13a" in split["scores"][0]["signature"]
    assert (run / "evaluation" / "test.en.hyp").exists()


@pytest.mark.parametrize("as_json", [False, True])
def test_evaluate_compares_two_runs(
    run: Path, other_run: Path, as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--split", "validation", "--compare", str(other_run), *(["--json"] if as_json else [])]
    assert main(["evaluate", str(run), *options]) == 0
    out = capsys.readouterr().out
    reference = read_lines(run / "test.de")
    scores = tuple(
        corpus_score(read_lines(folder / "evaluation" / "validation.hyp"), reference, tokenize="none")[0].score
        for folder in (run, other_run)
    )
    assert scores[0] != scores[1]
    if as_json:
        [row] = json.loads(out)["comparisons"]
        assert row["scores"] == pytest.approx(scores)
        assert 0 <= row["p_value"] <= 1
        assert "bs:1000" in row["signature"]
    else:
        assert "p-value" in out.splitlines()[0]
        assert str(other_run) in out.splitlines()[0]
        assert [float(score) for score in re.findall(r"([\d.]+) ±", out)] == [round(s, 2) for s in scores]
    assert (other_run / "evaluation" / "validation.hyp").exists()


def test_score_gives_log_probability_and_perplexity(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--source", str(run / "test.en"), "--target", str(run / "test.de")]
    assert main(["score", str(run), *files]) == 0
    captured = capsys.readouterr()
    rows = [tuple(map(float, line.split("\t"))) for line in captured.out.splitlines()]
    assert len(rows) == 6
    assert all(log_prob < 0 and perplexity > 1 for log_prob, perplexity in rows)
    assert "6 lines" in captured.err
    assert main(["score", str(run), *files, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["log_prob"] == pytest.approx(sum(log_prob for log_prob, _ in rows), abs=1e-2)
    assert sum(len(line["token_log_probs"]) for line in report["lines"]) == report["tokens"]


def test_average_is_the_mean_of_the_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run(tmp_path / "average", seed=5)
    before, apart = (folder / "model.safetensors").read_bytes(), tmp_path / "mean.safetensors"
    assert main(["average", str(folder), "--last", "2", "--output", str(apart)]) == 0
    assert "step_000002, step_000003\n" in capsys.readouterr().out
    assert (folder / "model.safetensors").read_bytes() == before
    assert main(["average", str(folder), "--last", "2"]) == 0
    said = capsys.readouterr().out
    assert "model.safetensors: average of step_000002, step_000003, instead of what was there" in said
    assert (folder / "model.safetensors").read_bytes() == apart.read_bytes()
    last = [load_file(folder / "checkpoints" / f"step_00000{i}.safetensors") for i in (2, 3)]
    found = load_file(folder / "model.safetensors")
    assert found.keys() == last[0].keys()
    for name, value in found.items():
        torch.testing.assert_close(value, (last[0][name] + last[1][name]) / 2)


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ("translate RUN --n-bets 3", 2, "--n-bets: no such option; did you mean --n-best?"),
        ("translate RUN --beam 0", 2, "--beam"),
        ("translate RUN --penalty none", 2, "--penalty is 'none', expected one of gnmt, length"),
        ("translate", 2, "run missing: give it"),
        ("transalte RUN", 2, "transalte: no such command; did you mean translate?"),
        ("evaluate RUN --metrics blue", 2, "--metrics"),
        ("evaluate RUN --source a", 2, "--source and --reference"),
        ("evaluate RUN --split one --source a --reference b", 2, "--split and --source"),
        ("score RUN --source a", 2, "--target"),
        ("translate nowhere", 1, "nowhere: no such run folder"),
        ("translate RUN/tokenizer", 1, "it is not a run"),
        ("translate RUN --input nofile", 1, "nofile: no such file"),
        ("translate RUN --input RUN/broken", 1, "broken:2: not UTF-8"),
        ("translate RUN --input RUN/test.en --output RUN/none/out", 1, "none/out"),
        ("translate RUN --input RUN/test.en --n-best 1025", 1, "n_best 1025 is more than 1024"),
        ("translate RUN --device tpu", 1, "'tpu'"),
        ("evaluate RUN --split three", 1, "no split 'three': it names one, two, validation"),
        ("evaluate RUN --tokenize 14a", 1, "'14a'"),
        ("average RUN --last 4", 1, "3 checkpoints"),
        ("average nowhere", 1, "nowhere: no such run folder"),
    ],
)
def test_mistakes_end_in_one_line(
    run: Path, words: str, status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "broken").write_bytes(b"fine\nbr\xffken\n")
    try:
        ended = main(words.replace("RUN", str(run)).split())
    except SystemExit as exit_:
        ended = exit_.code
    captured = capsys.readouterr()
    assert ended == status
    assert captured.out == ""
    [line] = captured.err.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_broken_text_on_standard_input(run: Path) -> None:
    done = call("translate", run, stdin=b"fine\n\xff\n")
    assert (done.returncode, done.stderr) == (1, b"error: standard input:2: not UTF-8; convert it to UTF-8\n")
