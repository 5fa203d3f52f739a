"""Each command of text takes a run of either kind."""

import json
from pathlib import Path

import pytest
import torch

from tests.cli.test_cli import make_run as make_translator
from tests.cli.test_generate import LETTERS, make_run
from transformer_zoo import BeamSearch, Sampling, beam_search, generate
from transformer_zoo.cli import main
from transformer_zoo.inference import generate_plainly, processors
from transformer_zoo.runs import load_run
from transformer_zoo.tokenizers import CharacterTokenizer


@pytest.fixture(scope="module")
def translator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_translator(tmp_path_factory.mktemp("translator"), seed=0)


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("writer"), CharacterTokenizer(LETTERS), max_seq_len=64)


def said(capsys: pytest.CaptureFixture[str], command: str) -> str:
    assert main(command.split(" ")) == 0
    return capsys.readouterr().out


def test_a_translation_is_drawn(translator: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = load_run(translator)
    [source] = run.tokenizer.source.encode_batch(["two"])  # type: ignore[union-attr]
    given, how = [*source, run.model.config.source_end], Sampling(temperature=0.8)
    [tokens] = generate(run.model, [given], how, max_new_tokens=9, seed=4)
    found = json.loads(said(capsys, f"generate {translator} --prompt two --max-new-tokens 9 --seed 4 --json"))
    assert found["text"].strip() == run.tokenizer.target.decode(tokens).strip()  # type: ignore[union-attr]
    assert tokens == generate_plainly(run.model, given, how, processors(how, run.model), max_new_tokens=9, seed=4)
    texts = {
        json.loads(said(capsys, f"generate {translator} --prompt two --seed {i} --json"))["text"] for i in range(5)
    }
    assert len(texts) > 1


@pytest.mark.parametrize("beam", [1, 3])
def test_a_continuation_is_searched(
    beam: int, writer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, lines = load_run(writer), ["once", "", "a b"]
    (tmp_path / "lines").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    out = said(capsys, f"translate {writer} --input {tmp_path / 'lines'} --beam {beam} --max-extra 7")
    how = BeamSearch(beam=beam, max_extra=7)
    for line, found in zip(lines, out.split("\n")[:-1], strict=True):
        if not line:
            assert found == ""
            continue
        [[best]] = beam_search(run.model, [run.tokenizer.encode(line)], how)  # type: ignore[union-attr]
        assert found == " ".join(run.tokenizer.decode(best.tokens).splitlines())  # type: ignore[union-attr]


def test_a_continuation_is_scored(writer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = load_run(writer)
    (tmp_path / "prompts").write_text("once\na b\n", encoding="utf-8")
    (tmp_path / "answers").write_text("upon\nc\n", encoding="utf-8")
    command = f"score {writer} --source {tmp_path / 'prompts'} --target {tmp_path / 'answers'} --json"
    report = json.loads(said(capsys, command))
    for prompt, answer, line in zip(("once", "a b"), ("upon", "c"), report["lines"], strict=True):
        ids = torch.tensor([run.tokenizer.encode(prompt + answer)])  # type: ignore[union-attr]
        log_probs = run.model(ids)[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[len(prompt) - 1 :, 0]
        assert line["token_log_probs"] == pytest.approx(log_probs.tolist(), abs=1e-4)


@pytest.mark.parametrize("option", ["--no-repeat-ngram-size 1", "--min-new-tokens 12", "--repetition-penalty 1.5"])
def test_the_rules_are_options_of_both(
    option: str, translator: Path, writer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lines").write_text("once\n", encoding="utf-8")
    (tmp_path / "source").write_text("two\n", encoding="utf-8")
    commands = [
        f"generate {writer} --prompt once --seed 1 --max-new-tokens 30 --num-samples 6",
        f"generate {translator} --prompt two --seed 1 --max-new-tokens 30 --num-samples 6",
        f"translate {writer} --input {tmp_path / 'lines'} --beam 3 --max-extra 20",
        f"translate {writer} --input {tmp_path / 'lines'} --beam 1 --max-extra 20",
        f"translate {translator} --input {tmp_path / 'source'} --beam 3 --max-extra 20",
        f"translate {translator} --input {tmp_path / 'source'} --beam 1 --max-extra 20",
    ]  # fmt: skip
    changed = [said(capsys, command) != said(capsys, f"{command} {option}") for command in commands]
    assert any(changed[:2])
    if "new-tokens" not in option:  # no beam of a random model ends early
        assert any(changed[2:4]) or any(changed[4:])
