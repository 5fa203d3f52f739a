"""Text in, text out, from Python: whatever the model is called and however many texts there are."""

import io
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_overloads, get_type_hints

import pytest
import torch

import transformer_zoo as tz
from tests import hub
from tests.cli.test_cli import TEXT, make_run
from tests.cli.test_generate import LETTERS
from tests.cli.test_generate import make_run as make_writer
from transformer_zoo.cli import main
from transformer_zoo.config.decoding import Translating, Writing
from transformer_zoo.inference import TargetScore, Translation, explaining, score
from transformer_zoo.runs import Run, Scorer, TextRun, Translator, Writer, doors, load_run, translating
from transformer_zoo.runs.translating import TranslateOptions
from transformer_zoo.runs.writing import WriteOptions
from transformer_zoo.tokenizers import CharacterTokenizer


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"), seed=0)


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_writer(tmp_path_factory.mktemp("letters"), CharacterTokenizer(LETTERS), max_seq_len=64)


@pytest.fixture(scope="module")
def translate(run: Path) -> Translator:
    return tz.translator(run, max_extra=9)


@pytest.fixture(scope="module")
def write(letters: Path) -> Writer:
    return tz.writer(letters, max_new_tokens=12, seed=3)


def test_options_of_a_call_are_those_of_the_dataclass() -> None:
    for options, kind in ((TranslateOptions, Translating), (WriteOptions, Writing)):
        assert options.__annotations__.keys() == {one.name for one in fields(kind)} - {"n_best"}


def test_one_text_many_and_a_stream(translate: Translator, write: Writer) -> None:
    for door, texts in ((translate, TEXT[:5]), (write, ["once", "a", "tw"])):
        alone = [door(text) for text in texts]
        assert all(isinstance(one, str) for one in alone)
        if door is translate:
            assert door(texts) == door(tuple(texts)) == alone
            assert [[one.text for one in found] for found in door(texts, n_best=1)] == [[one] for one in alone]
        stream = door(iter(texts))
        assert isinstance(stream, Iterator)
        assert [*stream] == door(texts)
        assert door([]) == []


def test_a_stream_is_read_as_it_is_wanted(write: Writer) -> None:
    read = list[str]()

    def texts() -> Iterator[str]:
        for text in ["a"] * 40:
            read.append(text)
            yield text

    stream = write(texts())
    assert not read
    next(stream)
    assert len(read) == write.batch_size


@pytest.mark.parametrize(
    "text",
    [
        "the cat",
        "  the cat\t",
        "the cat\n",
        "\n\n the cat\n\n\n  two dogs \r\n",
        "",
        " \n\t\n",
        "\u200b",
        "the\u2028cat",
    ],
)
def test_paragraphs_and_white_space_come_back(translate: Translator, text: str) -> None:
    found = translate(text)
    parts = translate.split(text)
    assert "".join(parts) == text
    assert all(not part.strip("\u200b\n\r\t \u2028") for part in parts[0::2])
    assert found == "".join(translate(part) if place % 2 else part for place, part in enumerate(parts))
    [best, *_] = translate(text, n_best=2)
    assert best.text.split("\n")[0][:2] == found.split("\n")[0][:2] or best.text != found


def test_long_lines_are_cut_at_sentences_and_their_parts_translated_apart(translate: Translator) -> None:
    text = "The cat sat on a mat. Two small dogs saw it!  An old house.\n\n  the end"
    how: Any = {"max_source_tokens": 12, "source_lang": "en"}
    parts = translate.split(text, **how)
    assert "".join(parts) == text
    assert parts[1::2] == ["The cat sat on a mat.", "Two small dogs saw it!", "An old house.", "the end"]
    with pytest.warns(UserWarning, match=r"^line 1: much longer than max_source_tokens \(12\); translated in pieces$"):
        found = translate(text, **how)
    first, second, third, last = (translate(part, **how) for part in parts[1::2])
    assert found == f"{first} {second} {third}\n\n  {last}"
    with pytest.warns(UserWarning, match="cut as English is, since the source language is not known"):
        translate(text, max_source_tokens=12)


def test_it_is_the_text_of_the_command_at_any_batch_size(
    run: Path, translate: Translator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [*TEXT[:9], "", "  the cat  "]
    (tmp_path / "lines").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    found = translate(lines)
    for batch_tokens in ("1", "300", "32768"):
        command = f"translate {run} --input {tmp_path / 'lines'} --max-extra 9 --batch-tokens {batch_tokens}"
        assert main(command.split()) == 0
        assert capsys.readouterr().out.split("\n")[:-1] == found
    scored = tz.scorer(run)(TEXT[:3], found[:3])
    for name, side in (("s", TEXT[:3]), ("t", found[:3])):
        (tmp_path / name).write_text("".join(line + "\n" for line in side), encoding="utf-8")
    assert main(f"score {run} --source {tmp_path / 's'} --target {tmp_path / 't'}".split()) == 0
    shown = [float(line.split("\t")[0]) for line in capsys.readouterr().out.splitlines()]
    assert shown == pytest.approx([one.log_prob for one in scored], abs=1e-3)


def test_it_is_the_text_of_generate(letters: Path, write: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    command = f"generate {letters} --max-new-tokens 12 --seed 3 --json --prompt once a tw"
    for batch_size in ("1", "2", "16"):
        assert main(f"{command} --batch-size {batch_size}".split()) == 0
        shown = [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()]
        assert shown == write(["once", "a", "tw"])


def test_a_list_that_takes_long_shows_a_bar_where_there_is_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    def answer(texts: Iterable[str]) -> Iterator[str]:
        for text in texts:
            time.sleep(0.15)
            yield text

    for seconds, screen, shown in ((0.2, Screen(), True), (9.0, Screen(), False), (0.2, io.StringIO(), False)):
        monkeypatch.setattr(doors, "_SECONDS", seconds)
        monkeypatch.setattr(sys, "stderr", screen)
        assert doors.each(["a"] * 5, answer, "translated") == ["a"] * 5
        assert ("translated:" in screen.getvalue()) == shown
        assert not screen.getvalue().endswith("\n")
        assert doors.each("a", answer, "translated") == "a"


def test_an_editor_knows_what_comes_back() -> None:
    for door, wanted in (
        (Translator, [str, list[Translation], list[str], list[list[Translation]], Iterator[str]]),
        (Writer, [str, list[str], Iterator[str]]),
        (Scorer, [TargetScore, list[TargetScore]]),
    ):
        found = [get_type_hints(one)["return"] for one in get_overloads(door.__call__)]
        assert found[: len(wanted)] == wanted


def test_an_explanation_is_of_the_translation_and_its_probabilities_are_those_of_score(
    run: Path, translate: Translator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explaining, "_AT_ONCE", 2)
    loaded = load_run(run)
    assert isinstance(loaded, Run)
    for text in TEXT[:4]:
        found = translate.explain(text, k=3)
        assert found.text.strip() == translate(text).strip()
        given = [*loaded.tokenizer.source.encode(text), loaded.model.config.source_end]
        target = torch.tensor([[loaded.model.config.bos_id, *found.ids]])
        with torch.no_grad():
            logits = loaded.model(torch.tensor([given]), target)[0]
        chosen = logits.softmax(-1)[range(len(found.ids)), found.ids].tolist()
        assert [piece.probability for piece in found.pieces] == pytest.approx(chosen, rel=1e-4)
        assert found.alignment is not None
        assert found.alignment.shape == (len(found.pieces), len(given)) == (len(found.ids), len(found.source_pieces))
        assert found.alignment.sum(1).tolist() == pytest.approx([1] * len(found.ids))
        assert "".join(found.source_pieces).split() == text.split()
        for piece in found.pieces:
            assert len(piece.alternatives) == 3
            assert [one.probability for one in piece.alternatives] == sorted(
                (one.probability for one in piece.alternatives), reverse=True
            )


def test_the_best_translations_are_all_explained(translate: Translator) -> None:
    found = translate.explain(TEXT[0], n_best=3, beam=4)
    assert [one.text.strip() for one in found] == [one.text.strip() for one in translate(TEXT[0], n_best=3, beam=4)]
    assert found[0].ids == translate.explain(TEXT[0], beam=4).ids


def test_an_alternative_is_chosen_and_the_rest_translated_anew(translate: Translator) -> None:
    first = translate.explain(TEXT[0])
    other = next(one for one in first.pieces[2].alternatives if one.id != first.ids[2] and one.text)
    prefix = [*first.ids[:2], other.id]
    second = translate.explain(TEXT[0], prefix=prefix)
    assert second.ids[:3] == prefix
    assert second.text.strip() == translate(TEXT[0], prefix=prefix).strip()
    assert translate(TEXT[0], prefix="the old").startswith("the old")


def test_what_is_drawn_can_be_drawn_again(translate: Translator) -> None:
    lines = ["the cat", "two dogs", "an old house"]
    drawn = translate(lines, temperature=1.5, seed=4)
    assert drawn == [translate(line, temperature=1.5, seed=4 + i) for i, line in enumerate(lines)]
    assert len({translate("the cat", top_k=9) for _ in range(9)}) > 1
    with pytest.raises(tz.UserError, match="n_best 2: a translation that is drawn is one"):
        translate("the cat", top_k=9, n_best=2)


def test_writing_goes_on_and_can_be_looked_into(letters: Path, write: Writer) -> None:
    loaded = load_run(letters)
    assert isinstance(loaded, TextRun)
    assert "".join(write.stream("once")) == write("once") == write(["once"])[0]
    assert write("once", seed=5) == write(["a", "once"], seed=4)[1]
    ids = torch.tensor([loaded.tokenizer.encode("once")])
    with torch.no_grad():
        probabilities = loaded.model(ids)[0].softmax(-1)
    found = write.next_tokens("once", k=5)
    assert [one.probability for one in found] == pytest.approx(probabilities[-1].topk(5).values.tolist(), rel=1e-4)
    assert [one.text for one in found] == [loaded.tokenizer.decode([one.id]) for one in found]
    assert write.next_tokens(loaded.tokenizer.encode("once"), k=5) == found
    explained = write.explain("once")
    assert explained.text == "once"
    assert explained.pieces[0].probability is None
    chosen = probabilities[range(3), ids[0, 1:]].tolist()
    assert [piece.probability for piece in explained.pieces[1:]] == pytest.approx(chosen, rel=1e-4)
    assert len(write.next_tokens("once" * 99, k=10_000)) == loaded.model.config.vocab_size - len(
        {*loaded.model.facts.never, *loaded.tokenizer.special_ids}
    )


def test_scores_are_those_of_score(run: Path, letters: Path) -> None:
    loaded: Any = load_run(run)
    found = tz.scorer(run)(TEXT[:3], TEXT[3:6])
    assert found == score(loaded.model, loaded.tokenizer, TEXT[:3], TEXT[3:6])
    assert tz.scorer(run)(TEXT[0], TEXT[3]).log_prob == pytest.approx(found[0].log_prob, rel=1e-5)
    texts: Any = load_run(letters)
    [alone] = tz.scorer(letters)(["once"])
    first = texts.model.config.eos_id
    ids = torch.tensor([[first, *texts.tokenizer.encode("once")]])
    with torch.no_grad():
        log_probs = texts.model(ids)[0].log_softmax(-1)[range(4), ids[0, 1:]].tolist()
    assert alone.token_log_probs == pytest.approx(log_probs, rel=1e-4)


def test_a_run_that_is_given_stays_as_it_is(run: Path, letters: Path) -> None:
    for folder, door in ((run, tz.translator), (letters, tz.writer)):
        loaded: Any = load_run(folder)
        before = {name: weight.clone() for name, weight in loaded.model.state_dict().items()}
        made: Any = door(loaded)
        assert made(["the cat"] * 5)
        after = loaded.model.state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(weight, after[name]) for name, weight in before.items())


def test_a_tag_goes_for_all_parts_of_a_text(tmp_path: Path) -> None:
    hub.marian(tmp_path, codes=[">>deu<<", ">>fra<<"])
    translate = tz.translator(tmp_path, max_extra=3)
    text = ">>fra<< a cat. A red dog.\n\n a house"
    assert translate.split(text) == ["", ">>fra<< a cat. A red dog.", "\n\n ", ">>fra<<a house", ""]
    cut = translate.split(text, max_source_tokens=5)
    assert cut[1::2] == [">>fra<<a cat.", ">>fra<<A red dog.", ">>fra<<a house"]
    assert cut[2::2] == [" ", "\n\n ", ""]
    one, two = (translate(part, max_source_tokens=5) for part in (">>fra<<a cat.", ">>fra<<a house"))
    with pytest.warns(UserWarning, match="translated in pieces"):
        found = translate(text, max_source_tokens=5)
    assert found.startswith(one.strip())
    assert found.endswith(f"\n\n {two}")


def test_a_language_is_chosen_at_each_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.nllb(tmp_path / "nllb")
    monkeypatch.setattr(translating, "_PAIRS", 1)
    translate = tz.translator(tmp_path / "nllb", source_lang="eng_Latn", max_extra=3)
    german, french = (translate("a cat", target_lang=code) for code in ("deu_Latn", "fra_Latn"))
    stream = translate(iter(["a cat"]), target_lang="deu_Latn")
    assert translate("a cat", target_lang="fra_Latn") == french
    assert next(stream) == german
    first = translate.explain("a cat", target_lang="deu_Latn").ids[0]
    assert translate.run.tokenizer.target.pieces[first] not in translate.languages
    for _ in range(2):  # of those that are kept and those that are made again
        assert [translate("a cat", target_lang=code) for code in ("deu_Latn", "fra_Latn")] == [german, french]
    assert len(translate._runs) == 2
    with pytest.raises(tz.UserError, match=r"language 'deu' is none of the .* near ones are deu_Latn"):
        translate("a cat", target_lang="deu")


MISTAKES: dict[str, tuple[Callable[..., Any], str]] = {
    "a writer": (lambda run, letters, t, w: tz.translator(letters), "a decoder-only run, .* use tz.writer"),
    "a translator": (lambda run, letters, t, w: tz.writer(run), "a translation run, .* use tz.translator"),
    "a number": (lambda run, letters, t, w: tz.translator(3), "takes a run, its folder or a name, not int"),
    "no folder": (lambda run, letters, t, w: tz.scorer("nowhere"), "nowhere: no such run folder"),
    "a device": (lambda run, letters, t, w: tz.writer(load_run(letters), device="cpu"), "stays where it is"),
    "no text": (lambda run, letters, t, w: t(3), "expected a text, or a list or an iterator of texts, not int"),
    "no texts": (lambda run, letters, t, w: t(["a", 3]), "text 2 is 3, which is not text but int"),
    "bytes": (lambda run, letters, t, w: w([b"a"]), "which is not text but bytes"),
    "an option": (lambda run, letters, t, w: t("a", bem=3), "bem: no such field; did you mean beam"),
    "a range": (lambda run, letters, t, w: t("a", beam=0), "beam is 0, expected at least 1"),
    "a type": (lambda run, letters, t, w: w("a", max_new_tokens="x"), "max_new_tokens is 'x', expected a whole"),
    "none": (lambda run, letters, t, w: t("a", n_best=0), "n_best is 0"),
    "a dtype": (lambda run, letters, t, w: tz.translator("nowhere", dtype="float8"), "dtype is 'float8', expected one"),
    "an option too early": (lambda run, letters, t, w: tz.writer("nowhere", top=3), "top: no such field"),
    "a seed": (lambda run, letters, t, w: w("a", seed=-1), "seed is -1"),
    "no language": (lambda run, letters, t, w: t("a", target_lang="de"), "has no languages to choose from"),
    "lines": (lambda run, letters, t, w: t.explain("a\nb"), "explain takes one line"),
    "a prefix": (lambda run, letters, t, w: t.explain("a", prefix=[10**9]), "prefix 0 has a token outside"),
    "ids": (lambda run, letters, t, w: w.explain([10**9]), "a token outside the vocabulary of"),
    "later ids": (lambda run, letters, t, w: w.explain([72, 10**9]), "a token outside the vocabulary of"),
    "next ids": (lambda run, letters, t, w: w.next_tokens([10**9]), "a token outside the vocabulary of"),
    "no ids": (lambda run, letters, t, w: w.explain([]), "is empty"),
    "no next ids": (lambda run, letters, t, w: w.next_tokens([]), "is empty"),
    "no targets": (lambda run, letters, t, w: tz.scorer(run)("a"), "this model translates"),
    "one target": (lambda run, letters, t, w: tz.scorer(run)(["a"], "b"), "both one text, or both lists"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_one_line(name: str, run: Path, letters: Path, translate: Translator, write: Writer) -> None:
    mistake, message = MISTAKES[name]
    with pytest.raises(tz.UserError, match=message) as caught:
        mistake(run, letters, translate, write)
    assert "\n" not in str(caught.value)
