"""Labels of texts and of tokens: those of transformers' pipelines, alone and in batches, in Python and as a command."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import transformer_zoo as tz
from tests import hub
from tests.inference.test_vectors import TEXTS, letters
from transformer_zoo import UserError
from transformer_zoo.cli import main
from transformer_zoo.config import TextsSpec, TokensSpec
from transformer_zoo.inference import check_labels, classify, classify_tokens
from transformer_zoo.runs import EncoderRun, load_encoder_run, save_run
from transformer_zoo.tokenizers import ByteTokenizer

NAMES = ("bad", "so so", "good")
LINES = ["The train leaves at nine.", "to be", "", "Cafes, unaffable cafes, or unaffable trains", "to be or to be"]
PROBLEMS = {"one": "single_label_classification", "several": "multi_label_classification", "values": "regression"}


def imported(folder: Path, head: str, **fields: Any) -> EncoderRun:
    """A BERT as transformers saves it, with a head for labels, as a run."""
    hub.sentences(folder / "theirs")
    for path in ("modules.json", "sentence_bert_config.json"):
        (folder / "theirs" / path).unlink()
    config = transformers.BertConfig.from_pretrained(folder / "theirs", id2label=dict(enumerate(NAMES)), **fields)
    hub.save(getattr(transformers, f"Bert{head}")(config), folder / "theirs")
    assert main(["import", str(folder / "theirs"), str(folder / "run")]) == 0
    return load_encoder_run(folder / "run")


@pytest.mark.parametrize("problem", PROBLEMS)
def test_texts_as_by_the_pipeline_of_transformers(
    problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = imported(tmp_path, "ForSequenceClassification", problem_type=PROBLEMS[problem])
    assert f"use it with: transformer-zoo classify {tmp_path / 'run'}" in capsys.readouterr().out
    judge = transformers.pipeline("text-classification", str(tmp_path / "theirs"), top_k=None)
    found = classify(run.model, run.tokenizer, LINES, batch_size=2)
    for line, labels in zip(LINES, found, strict=True):
        wanted = judge([line])[0]
        assert [label.label for label in labels] == [one["label"] for one in wanted]
        assert [label.score for label in labels] == pytest.approx([one["score"] for one in wanted], abs=1e-5)
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "out")]) == 0
    assert "ForSequenceClassification" in (tmp_path / "out" / "config.json").read_text()
    again = transformers.pipeline("text-classification", str(tmp_path / "out"), top_k=None)
    assert again([LINES[0]])[0] == [{"label": found, "score": pytest.approx(p, abs=1e-5)} for found, p in found[0]]


def test_tokens_as_by_the_pipeline_of_transformers(tmp_path: Path) -> None:
    run = imported(tmp_path, "ForTokenClassification")
    tagger = transformers.pipeline("token-classification", str(tmp_path / "theirs"), ignore_labels=[])
    for line, tokens in zip(LINES, classify_tokens(run.model, run.tokenizer, LINES, batch_size=2), strict=True):
        wanted = tagger(line)
        assert [found.label for found in tokens] == [one["entity"] for one in wanted]
        assert [found.score for found in tokens] == pytest.approx([one["score"] for one in wanted], abs=1e-5)
        assert [found.token.strip() for found in tokens] == [one["word"].removeprefix("##") for one in wanted]
        assert "".join(found.token for found in tokens) == run.tokenizer.decode(run.tokenizer.encode(line))


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_each_text_by_itself(problem: Any, pooling: Any) -> None:
    model = letters(head=TextsSpec(labels=NAMES, problem=problem, pooling=pooling), cut_at=11).eval()
    for text, labels in zip(TEXTS, classify(model, ByteTokenizer(), TEXTS, batch_size=3), strict=True):
        ids = list(text.encode())[:11]
        given = (torch.tensor([ids or [0]]), torch.tensor([[bool(ids)] * max(len(ids), 1)]))
        logits = model(*given)[0]
        scores = {"one": logits.softmax(0), "several": logits.sigmoid(), "values": logits}[problem]
        assert dict(labels) == pytest.approx(dict(zip(NAMES, scores.tolist(), strict=True)), abs=1e-5)
        assert [label.score for label in labels] == sorted((label.score for label in labels), reverse=True)
    assert classify(model, ByteTokenizer(), []) == []


def test_tokens_by_themselves() -> None:
    model = letters(head=TokensSpec(labels=NAMES)).eval()
    found = classify_tokens(model, ByteTokenizer(), TEXTS, batch_size=2)
    assert [len(tokens) for tokens in found] == [min(len(text.encode()), 40) for text in TEXTS]
    scores, best = model(torch.tensor([list(b"to be")]))[0].softmax(-1).max(-1)
    assert [(one.token, one.label) for one in found[0]] == [
        (letter, NAMES[i]) for letter, i in zip("to be", best.tolist(), strict=True)
    ]
    assert [one.score for one in found[0]] == pytest.approx(scores.tolist(), abs=1e-5)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("none", "takes an encoder with a head for labels, and this one has no head"),
        ("words", "takes an encoder with a head for labels, and this one has a head for words"),
        (TextsSpec(labels=NAMES), "takes an encoder with a head for tokens, and this one is for texts: classify"),
        (TokensSpec(labels=NAMES), "takes an encoder with a head for texts, and this one is for tokens: classify_tok"),
    ],
)
def test_models_without_such_a_head(head: Any, said: str) -> None:
    model, refused = letters(head=head), 0
    for use in (classify, classify_tokens):
        try:
            use(model, ByteTokenizer(), ["a"])  # type: ignore[operator]
        except UserError as error:
            refused += said in str(error)
    assert refused == (2 if isinstance(head, str) else 1)
    with pytest.raises(UserError, match="classify takes an encoder, and this is a decoder-only model"):
        check_labels(tz.create_model("gpt-nano"), "classify")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="batch_size 0 must be at least 1"):
        classify(letters(head=TextsSpec(labels=NAMES)), ByteTokenizer(), ["a"], batch_size=0)


@pytest.fixture(params=["texts", "tokens"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    head = {"texts": TextsSpec, "tokens": TokensSpec}[request.param](labels=NAMES)
    save_run(EncoderRun(letters(head=head).eval(), ByteTokenizer(), {}), tmp_path / "run", recipe={})
    return tmp_path / "run"


def test_the_command(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lines.txt").write_text("".join(f"{text}\n" for text in TEXTS), "utf-8")
    given = ["classify", str(run), "--input", str(tmp_path / "lines.txt")]
    assert main(given) == 0
    printed = capsys.readouterr().out
    assert main([*given, "--output", str(tmp_path / "out.jsonl"), "--batch-size", "2"]) == 0
    loaded = load_encoder_run(run)
    use: Any = classify if isinstance(loaded.model.config.head, TextsSpec) else classify_tokens
    wanted = use(loaded.model, loaded.tokenizer, TEXTS)
    for lines in (printed, (tmp_path / "out.jsonl").read_text("utf-8")):
        found = [json.loads(line) for line in lines.splitlines()]
        assert [[list(one.values())[:-1] for one in line] for line in found] == [
            [list(one)[:-1] for one in line] for line in wanted
        ]
        scores = [one["score"] for line in found for one in line]
        assert scores == pytest.approx([one.score for line in wanted for one in line], abs=1e-5)


def test_wrong_uses_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_run(EncoderRun(letters().eval(), ByteTokenizer(), {}), tmp_path / "words", recipe={})
    assert main(["classify", str(tmp_path / "words")]) == 1
    said = f"classify {tmp_path / 'words'} takes an encoder with a head for labels, and this one has a head for words"
    assert said in capsys.readouterr().err
    assert main(["classify", str(tmp_path / "none")]) == 1
    assert "no such run folder" in capsys.readouterr().err
