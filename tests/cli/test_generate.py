"""`transformer-zoo generate` and `evaluate --file` as people use them."""

import json
import math
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

import transformer_zoo as tz
from tests import flat
from transformer_zoo.cli import main
from transformer_zoo.config import DecoderConfig, EncoderDecoderConfig
from transformer_zoo.inference import NewText
from transformer_zoo.models import DecoderOnly, EncoderDecoder
from transformer_zoo.runs.load import TextRun, load_run
from transformer_zoo.runs.model_json import ModelJson, write_model_json
from transformer_zoo.runs.recipe import save_recipe
from transformer_zoo.runs.writing import in_order
from transformer_zoo.tokenizers import (
    ByteTokenizer,
    CharacterTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    TokenizerSettings,
    WordTokenizer,
)
from transformer_zoo.training.weights import copy_weights, load_weights, save_weights

LETTERS = "abcdefghijklmnopqrstuvwxyz é\n"


def make_run(folder: Path, tokenizer: Tokenizer, **changes: object) -> Path:
    """A run of a random model."""
    folder.mkdir(parents=True, exist_ok=True)
    size = {"d_model": 12, "n_heads": 2, "d_ff": 16, "n_layers": 1, "max_seq_len": 16}
    fields = {"vocab_size": tokenizer.vocab_size, "eos_id": tokenizer.eos_id, **size, **changes}
    config = DecoderConfig.of(**fields)  # type: ignore[arg-type]
    tokenizer.save(folder / "tokenizer")
    write_model_json(folder, ModelJson(config, tokenizer=tokenizer.fingerprint))
    torch.manual_seed(0)
    save_weights(folder / "model.safetensors", copy_weights(DecoderOnly(config)))
    save_recipe(folder / "config.yaml", {"run_dir": "x"})
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"), CharacterTokenizer(LETTERS))


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose texts never end by themselves."""
    return make_run(tmp_path_factory.mktemp("endless"), CharacterTokenizer(LETTERS, end_of_text=False))


@pytest.mark.parametrize("temperature", ["0", "1"])
@pytest.mark.parametrize("kind", ["words", "sentencepiece"])
def test_unknown_padding_and_begin_are_written_when_asked_for(
    kind: str, temperature: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = ["a b c d e f"]
    trained = {
        "words": WordTokenizer.make,
        "sentencepiece": partial(SentencePieceTokenizer.make, settings=TokenizerSettings(vocab_size=270)),
    }
    tokenizer: Tokenizer = trained[kind](text)
    folder = make_run(tmp_path / "run", tokenizer, tie_embeddings=False)
    weights = load_weights(folder / "model.safetensors")
    likely = torch.zeros(tokenizer.vocab_size)
    likely[list(tokenizer.special_ids)], likely[tokenizer.eos_id] = 9.0, -9.0
    direction = torch.randn(12)
    weights["head.weight"] = direction * likely[:, None]
    weights |= {"decoder.final_norm.weight": torch.zeros(12), "decoder.final_norm.bias": direction}
    save_weights(folder / "model.safetensors", weights)
    command = [
        "generate",
        str(folder),
        "--prompt",
        "a",
        "--max-new-tokens",
        "9",
        "--temperature",
        temperature,
        "--json",
    ]
    unwritten = tokenizer.decode([*tokenizer.encode("a"), *[min(tokenizer.special_ids)] * 9]).removeprefix("a")
    found = []
    for option in ([], ["--write-special"]):
        assert main([*command, "--seed", "1", *option]) == 0
        found.append(json.loads(capsys.readouterr().out)["text"])
    assert found[1] == unwritten
    assert found[0] not in ("", unwritten)
    assert "<unk>" not in found[0]


@pytest.mark.parametrize("words", ["", "--no-draft", "--batch-size 1"])
def test_a_large_model_writes_the_same_with_a_draft(
    endless: Path, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drafts = []

    def draft_of(model: DecoderOnly) -> DecoderOnly:
        drafts.append(model)
        return tz.quantize(model)

    monkeypatch.setattr("transformer_zoo.runs.writing.draft_of", draft_of)
    assert main(f"generate {endless} --prompt ab --max-new-tokens 20 --seed 3 {words}".split()) == 0
    assert capsys.readouterr().out == f"ab{written(endless, 'ab', 3)}\n"
    assert len(drafts) == (words != "--no-draft")


def written(run: Path, prompt: str, seed: int, **options: object) -> str:
    """What Python gives for a prompt."""
    loaded = load_run(run)
    assert isinstance(loaded, TextRun)
    how = {"max_new_tokens": 20, "temperature": 0.8, **options}
    [row] = flat.generate(loaded.model, [loaded.tokenizer.encode(prompt)], seed=seed, **how)
    return loaded.tokenizer.decode(row)


def call(*words: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    code = "import sys; from transformer_zoo.cli import main; sys.exit(main())"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    arguments = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.run(arguments, input=stdin, env=environment, capture_output=True, check=False)


def test_prompts_are_continued_in_order(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    how = ["--max-new-tokens", "20", "--seed", "5"]
    assert main(["generate", str(run), "--prompt", "once", *how]) == 0
    assert capsys.readouterr().out == "once" + written(run, "once", 5) + "\n"
    assert main(["generate", str(run), "--prompt", "once", "b", *how, "--num-samples", "2"]) == 0
    wanted = [p + written(run, p, 5 + i) + "\n" for i, p in enumerate(("once", "once", "b", "b"))]
    assert capsys.readouterr().out == "---\n".join(wanted)
    assert main(["generate", str(run), "--prompt", "once", "b", *how, "--num-samples", "2", "--batch-size", "3"]) == 0
    assert capsys.readouterr().out == "---\n".join(wanted)


def test_options_reach_the_model(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = "--temperature 1.4 --top-k 9 --top-p 0.9 --min-p 0.05 --repetition-penalty 1.3 --stride 2 --seed 1"
    assert main(["generate", str(run), "--prompt", "ab", "--max-new-tokens", "40", *options.split()]) == 0
    how = {"temperature": 1.4, "top_k": 9, "top_p": 0.9, "min_p": 0.05, "repetition_penalty": 1.3, "stride": 2}
    assert capsys.readouterr().out == "ab" + written(run, "ab", 1, max_new_tokens=40, **how) + "\n"
    assert main(["generate", str(run), "--prompt", "ab", "--max-new-tokens", "40", "--temperature", "0"]) == 0
    assert capsys.readouterr().out == "ab" + written(run, "ab", 1, max_new_tokens=40, temperature=0) + "\n"


def test_without_a_seed_answers_differ(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert main(["generate", str(run), "--prompt", "a", "--max-new-tokens", "60", "--temperature", "2"]) == 0
    out = capsys.readouterr().out
    assert out[: len(out) // 2] != out[len(out) // 2 :]


def test_stop_strings_and_json(endless: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = written(endless, "a", 0, max_new_tokens=50, temperature=1.5)
    stop = text[20:22]
    how = ["--max-new-tokens", "50", "--temperature", "1.5", "--seed", "0", "--json"]
    assert main(["generate", str(endless), "--prompt", "a", *how, "--stop", "%", stop]) == 0
    [line] = capsys.readouterr().out.splitlines()
    wanted = text[: text.index(stop)]
    assert json.loads(line) == {"prompt": "a", "sample": 0, "text": wanted, "end": "stop"}
    assert main(["generate", str(endless), "--prompt", "a", *how, "--num-samples", "2"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["sample"] for row in rows] == [0, 1]
    assert rows[0] == {"prompt": "a", "sample": 0, "text": text, "end": "length"}


def test_prompts_from_a_file_a_pipe_and_as_a_whole(run: Path, tmp_path: Path) -> None:
    path, content = tmp_path / "prompts", "one\n\ntwo é\n"
    path.write_text(content, encoding="utf-8")
    how = ["--max-new-tokens", 5, "--seed", 0, "--json"]
    prompts = []
    for words, stdin in (((), content.encode()), (("--input", path), b""), (("--whole",), content.encode())):
        done = call("generate", run, *how, *words, stdin=stdin)
        assert (done.returncode, done.stderr) == (0, b"")
        prompts.append([json.loads(line)["prompt"] for line in done.stdout.splitlines()])
    assert prompts == [["one", "", "two é"], ["one", "", "two é"], ["one\n\ntwo é"]]


def test_text_streams_and_a_closed_pipe_is_quiet(endless: Path) -> None:
    code = "import sys; from transformer_zoo.cli import main; sys.exit(main())"
    options = ["--prompt", "a", "--max-new-tokens", "10000000"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, "generate", str(endless), *options],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout
    assert process.stderr
    try:
        assert select.select([process.stdout], [], [], 60)[0]
        assert os.read(process.stdout.fileno(), 2)[:1] == b"a"  # it would be months before the last token
        process.stdout.close()
        assert process.wait(60) == 141
        assert process.stderr.read() == b""
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_the_first_answer_streams_and_the_others_wait_their_turn() -> None:
    asked = []

    def pieces() -> Iterator[NewText]:
        early = [NewText(1, "x"), NewText(0, "a"), NewText(1, "y", "eos"), NewText(0, "b"), NewText(2, "p", "stop")]
        for piece in early:
            asked.append(piece)
            yield piece
        yield NewText(0, "", "length")

    answers = in_order(pieces(), 3)
    first = next(answers)
    assert next(first).text == "a"
    assert len(asked) == 2
    assert [piece.text for piece in first] == ["b", ""]
    assert [[piece.text for piece in answer] for answer in answers] == [["x", "y"], ["p"]]


def test_the_type_of_the_weights(endless: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for dtype in ("float32", "bfloat16"):
        assert main(["generate", str(endless), "--prompt", "a", "--max-new-tokens", "40", "--dtype", dtype]) == 0
        assert len(capsys.readouterr().out) == 42


def test_bytes_of_a_character_stay_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path, ByteTokenizer())
    assert main(["generate", str(run), "--prompt", "é", "--max-new-tokens", "30", "--seed", "0"]) == 0
    assert capsys.readouterr().out == "é" + written(run, "é", 0, max_new_tokens=30) + "\n"


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    path = tmp_path / "text"
    path.write_text("the cat sat on a café\n" * 5, encoding="utf-8")
    return path


def test_evaluate_a_text(run: Path, text_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--file", str(text_file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["tokens"], found["bytes"]) == (110, 115)
    assert found["perplexity"] == pytest.approx(math.exp(found["nats"] / 110))
    assert found["bits_per_byte"] == pytest.approx(found["nats"] / math.log(2) / 115)
    assert main(["evaluate", str(run), "--file", str(text_file), "--stride", "1"]) == 0
    shown = dict(line.rsplit(None, 1) for line in capsys.readouterr().out.splitlines())
    assert shown["tokens"] == "110"
    assert float(shown["nats per token"]) == pytest.approx(found["nats_per_token"], rel=0.1)
    assert float(shown["nats per token"]) != round(found["nats_per_token"], 4)


def test_documents_are_predicted_apart(
    run: Path, tmp_path: Path, text_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def nats(folder: Path, *options: str) -> float:
        assert main(["evaluate", str(folder), "--file", str(text_file), "--json", *options]) == 0
        return float(json.loads(capsys.readouterr().out)["nats"])

    text_file.write_text("abc\n", encoding="utf-8")
    one = nats(run)
    text_file.write_text("abc\n===\nabc\n===\n", encoding="utf-8")
    assert nats(run, "--separator", "===") == pytest.approx(2 * one)
    trained = tmp_path / "trained"
    shutil.copytree(run, trained)
    recipe = {"run_dir": "x", "data": {"validation": {"path": "y", "separator": "==="}}}
    save_recipe(trained / "config.yaml", recipe)
    assert nats(trained) == pytest.approx(2 * one)


def test_without_an_end_of_text_the_first_token_is_not_counted(
    tmp_path: Path, text_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "run", CharacterTokenizer("é" + LETTERS.replace("é", ""), end_of_text=False))
    text_file.write_text("éab", encoding="utf-8")
    assert main(["evaluate", str(run), "--file", str(text_file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["tokens"], found["bytes"]) == (2, 2)
    assert main(["generate", str(run), "--prompt", ""]) == 1
    assert "the prompt is empty" in capsys.readouterr().err


def test_a_tokenizer_that_loses_text_is_named(
    tmp_path: Path, text_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "run", WordTokenizer(["cat", "sat"]))
    assert main(["evaluate", str(run), "--file", str(text_file)]) == 0
    assert "warning: the tokenizer loses a part of the text" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "packed"),
    [
        ("--prompt a", False),
        ("--prompt a --num-samples 4", True),
        ("--input FILE --whole", False),
        ("--input FILE --whole --num-samples 5", True),
        ("--input FILE --batch-size 3", False),
        ("--input FILE", True),
    ],
)
def test_weights_are_packed_for_several_answers_at_once(
    run: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch, words: str, packed: bool
) -> None:
    calls: list[DecoderOnly] = []
    monkeypatch.setattr("transformer_zoo.runs.writing.pack", lambda model, **how: calls.append(model) or model)
    assert main(["generate", str(run), "--max-new-tokens", "1", *words.replace("FILE", str(text_file)).split()]) == 0
    assert bool(calls) == packed


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ("generate RUN --prompt a --tempreature 1", 2, "did you mean --temperature?"),
        ("generate RUN --prompt a --max-new-tokens 0", 2, "--max-new-tokens"),
        ("generate RUN --prompt a --top-p 1.5", 2, "--top-p"),
        ("generate RUN --prompt a --input b", 2, "--prompt and --input"),
        ("generate RUN --prompt a --whole", 2, "exclude each other"),
        ("generate RUN --prompt a --top-p 0", 2, "--top-p is 0.0, expected more than 0 and at most 1"),
        ("generate RUN --prompt a --stride 17", 1, "stride 17 must be from 1 to the context of 16"),
        ("generate RUN --prompt A", 1, "character 'A'"),
        ("generate RUN --input nofile", 1, "nofile: no such file"),
        ("generate RUN --prompt a --device tpu", 1, "'tpu'"),
        ("generate nowhere --prompt a", 1, "nowhere: no such run folder"),
        ("evaluate RUN", 1, "evaluate --file"),
        ("evaluate OTHER --file x", 1, "is a translation run"),
        ("evaluate RUN --file nofile", 1, "nofile: no such file"),
        ("evaluate RUN --file x --split y", 2, "--file excludes --split"),
        ("evaluate RUN --file x --lowercase", 2, "--file excludes --lowercase"),
        ("evaluate RUN --file x --metrics chrf", 2, "--file excludes --metrics"),
        ("evaluate RUN --file x --beam 3", 2, "--file excludes --beam"),
        ("evaluate RUN --stride 3", 2, "--stride and --separator are for --file"),
    ],
)
def test_mistakes_end_in_one_line(
    run: Path,
    tmp_path_factory: pytest.TempPathFactory,
    words: str,
    status: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = translation_run(tmp_path_factory.mktemp("other")) if "OTHER" in words else Path()
    try:
        ended = main(words.replace("RUN", str(run)).replace("OTHER", str(other)).split())
    except SystemExit as exit_:
        ended = exit_.code
    captured = capsys.readouterr()
    assert ended == status
    assert captured.out == ""
    [line] = captured.err.splitlines()
    assert line.startswith("error: ")
    assert message in line


def translation_run(folder: Path) -> Path:
    from transformer_zoo.tokenizers import TranslationTokenizer, TranslationTokenizerSettings

    lines = ["one two three", "four five six"]
    TranslationTokenizer.train(lines, lines, TranslationTokenizerSettings(vocab_size=30)).save(folder / "tokenizer")
    config = EncoderDecoderConfig.of(
        vocab_size=30, d_model=8, n_heads=2, d_ff=8, n_encoder_layers=1, n_decoder_layers=1
    )
    write_model_json(folder, ModelJson(config))
    save_weights(folder / "model.safetensors", copy_weights(EncoderDecoder(config)))
    save_recipe(folder / "config.yaml", {})
    return folder


def test_a_run_loads_with_its_tokenizer(run: Path) -> None:
    loaded = tz.load_run(run)
    assert isinstance(loaded, TextRun)
    assert not loaded.model.training
    assert loaded.model.config.eos_id == loaded.tokenizer.eos_id == len(LETTERS)


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        (CharacterTokenizer(LETTERS + "!"), "31 tokens for a vocabulary of 30"),
        (CharacterTokenizer(LETTERS[::-1]), "other tokens than the model was trained with"),
        (CharacterTokenizer(LETTERS + "!", end_of_text=False), "end of text None for 29"),
    ],
)
def test_a_tokenizer_that_does_not_fit_is_refused(tmp_path: Path, tokenizer: Tokenizer, message: str) -> None:
    run = make_run(tmp_path, CharacterTokenizer(LETTERS))
    tokenizer.save(run / "tokenizer")
    with pytest.raises(tz.UserError, match=f"tokenizer does not fit model.json: .*{message}") as error:
        load_run(run)
    assert "\n" not in str(error.value)
