"""What a run looks at: attention of whole runs, words near each other, and places as tables."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

import transformer_zoo as tz
from transformer_zoo.config import LayerSpec
from transformer_zoo.config.attention import AttentionSpec
from transformer_zoo.inference import explain, translate
from transformer_zoo.inference.codec import codec_of
from transformer_zoo.models import build_model
from transformer_zoo.runs import (
    EncoderRun,
    Run,
    TextRun,
    attention_maps,
    looking,
    neighbours,
    positions_table,
    word_pieces,
)
from transformer_zoo.runs.huggingface import read_huggingface
from transformer_zoo.tokenizers import (
    ByteTokenizer,
    CharacterTokenizer,
    TranslationTokenizer,
    TranslationTokenizerSettings,
    WordTokenizer,
)

from .. import hub

SIZES: dict[str, Any] = {"d_model": 16, "n_heads": 2, "d_ff": 24, "max_seq_len": 40}
ENDING = ["</s>"]


@pytest.fixture(scope="module")
def translator() -> Run:
    """One that translates between vocabularies of its own, which are not the same."""
    settings = TranslationTokenizerSettings(vocab_size=30, target_vocab_size=34, joint=False)
    lines, more = ["the train leaves", "a train"] * 4, ["der Zug fährt ab", "ein Zug"] * 4
    pair = TranslationTokenizer.train(lines, more, settings)
    sizes = {
        "n_encoder_layers": 2,
        "n_decoder_layers": 3,
        "share_embeddings": "none",
        "decoder.layer.attention.n_heads": 4,
    }
    torch.manual_seed(1)
    config = tz.get_config(
        "transformer-tiny",
        vocab_size=pair.source.vocab_size,
        target_vocab_size=pair.target.vocab_size,
        **SIZES,
        **sizes,
    )
    return Run(build_model(config).eval(), pair, recipe={"test": {"beam": 2}}, max_source_tokens=40)


@pytest.fixture(scope="module")
def writer() -> TextRun:
    torch.manual_seed(1)
    model = tz.create_model("gpt-nano", vocab_size=257, eos_id=256, positions="rotary", **SIZES)
    return TextRun(model.eval(), ByteTokenizer(), recipe={})


def words_run(words: str, rows: list[list[float]]) -> TextRun:
    """A run of whole words, whose embedding says where they lie."""
    tokenizer = WordTokenizer(words.split(), end_of_text=False)
    model = tz.create_model("gpt-nano", vocab_size=tokenizer.vocab_size, **{**SIZES, "d_model": 4}).eval()
    with torch.no_grad():
        model.embedding.weight.zero_()
        for i, row in enumerate(rows):
            model.embedding.weight[2 + i] = torch.tensor(row)
    return TextRun(model, tokenizer, recipe={})


def test_a_translation_is_looked_at(translator: Run) -> None:
    maps = attention_maps(translator, "the train", "der Zug")
    assert "".join(maps.source[:-1]) == "the train"
    assert "".join(maps.written[:-1]) == "der Zug"
    assert maps.source[-1:] == maps.written[-1:] == ENDING
    assert maps.target == ["<s>", *(piece.strip() if i == 0 else piece for i, piece in enumerate(maps.written[:-1]))]
    shapes = {kind: [tuple(layer.shape) for layer in layers] for kind, layers in maps.weights.items()}
    n_source, n_target = len(maps.source), len(maps.target)
    assert shapes == {
        "encoder": [(2, n_source, n_source)] * 2,
        "decoder": [(4, n_target, n_target)] * 3,
        "cross": [(4, n_target, n_source)] * 3,
    }
    for kind, layers in maps.weights.items():
        rows, columns = maps.pieces(kind)
        for layer in layers:
            assert layer.shape[1:] == (len(rows), len(columns))
            assert_close(layer.sum(-1), torch.ones(layer.shape[:2]))
    assert not any(layer.triu(1).any() for layer in maps.weights["decoder"])
    assert_close(maps.alignment, maps.weights["cross"][1].mean(0))
    codec = codec_of(translator.model, translator.tokenizer)
    [(given, answer)] = codec.encode_pairs(["the train"], ["der Zug"])
    explained = explain(translator.model, translator.tokenizer, given, answer).alignment
    assert_close(maps.alignment, explained, rtol=1e-4, atol=1e-5)


def test_the_weights_are_those_of_the_first_layer(translator: Run) -> None:
    model, maps = translator.model, attention_maps(translator, "a train", "ein Zug")
    ids = torch.tensor([[*translator.tokenizer.source.encode("a train"), model.config.source_end]])
    layer: Any = model.encoder.layers[0]
    with torch.no_grad():
        x = model.encoder.positions.add(model.source_embedding(ids), 0, None)  # type: ignore[misc]
        queries, keys = (
            getattr(layer.attn, name)(x).unflatten(-1, (2, 8)).transpose(1, 2) for name in ("q_proj", "k_proj")
        )
        wanted = (queries @ keys.transpose(-1, -2) / 8**0.5).softmax(-1)
    assert_close(maps.weights["encoder"][0], wanted[0], rtol=1e-4, atol=1e-5)


def test_without_a_target_it_is_that_of_the_run(translator: Run) -> None:
    maps = attention_maps(translator, "the train leaves")
    how = tz.BeamSearch(beam=2)
    [text] = translate(translator.model, translator.tokenizer, ["the train leaves"], how, max_source_tokens=40)
    written = maps.written[:-1] if maps.written[-1:] == ENDING else maps.written
    assert " ".join("".join(written).split()) == " ".join(text.split())


def test_other_runs_look_at_themselves(writer: TextRun) -> None:
    maps = attention_maps(writer, "für $x$")
    assert maps.target == ["f", "\\xc3", "\\xbc", "r", " ", "$", "x", "$"]
    assert (maps.source, maps.written, [*maps.weights]) == ([], [], ["decoder"])
    model = tz.create_model("bert-tiny", vocab_size=257, **SIZES).eval()
    maps = attention_maps(EncoderRun(model, ByteTokenizer(), recipe={}), "ab")
    assert (maps.source, maps.target, [*maps.weights]) == (["a", "b"], [], ["encoder"])
    assert maps.weights["encoder"][0].triu(1).any()  # both ways


def test_layers_with_other_numbers_of_heads() -> None:
    layers = tuple(LayerSpec(attention=AttentionSpec(n_heads=n)) for n in (2, 4))
    config = tz.get_config("gpt-nano", vocab_size=257, eos_id=256, d_model=16, n_layers=2, layer=layers)
    maps = attention_maps(TextRun(build_model(config).eval(), ByteTokenizer(), recipe={}), "abc")
    assert [len(layer) for layer in maps.weights["decoder"]] == [2, 4]


def test_a_model_stays_as_it_was(writer: TextRun) -> None:
    writer.model.train()
    before = writer.model(torch.tensor([[1, 2]]))
    attention_maps(writer, "a")
    assert writer.model.training
    assert_close(writer.model(torch.tensor([[1, 2]])), before)
    writer.model.eval()


@pytest.mark.parametrize("name", ["marian", "nllb", "bart", "gpt2", "sentences"])
def test_downloaded_models(name: str, tmp_path: Path) -> None:
    getattr(hub, name)(tmp_path)
    run: Any = read_huggingface(str(tmp_path))
    if name == "nllb":
        run = tz.runs.huggingface.translating(run, "eng_Latn", "deu_Latn", of="nllb")
    text = "the cafe or" if name == "sentences" else "a red cat"
    maps = attention_maps(run, text)
    read = "".join(maps.source or maps.target)
    assert text in read
    assert {"nllb": read.startswith("eng_Latn"), "sentences": read.startswith("[CLS]")}.get(name, True)
    word = "train" if name == "sentences" else "cat"
    found = neighbours(run, word, n=3)
    assert word not in [one.word for one in found]
    assert len(word_pieces(run, word)) >= 1
    assert positions_table(run.model)


@pytest.mark.parametrize(("text", "target", "message"), [
    ("a" * 90, None, "90 tokens, and the model takes 40"),
    ("a", "b", "a target is for a translation"),
    ("", None, None),
])  # fmt: skip
def test_what_cannot_be_looked_at(writer: TextRun, text: str, target: str | None, message: str | None) -> None:
    if message is None:  # an empty prompt begins a text
        assert attention_maps(writer, text).target == ["<|endoftext|>"]
        return
    with pytest.raises(tz.UserError, match=message):
        attention_maps(writer, text, target)


def test_no_more_is_computed_than_can_be_looked_at(
    translator: Run, writer: TextRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "_weights", None)  # it is not even begun
    monkeypatch.setattr(looking, "beam_search", None)
    for run, words in ((writer, ("a" * 9,)), (translator, ("the train leaves",)), (translator, ("a", "ein Zug" * 2))):
        with pytest.raises(tz.UserError, match=r"\d+ are more than 3 pieces, the most to look at"):
            attention_maps(run, *words, max_pieces=3)


def test_an_empty_sentence(translator: Run) -> None:
    assert attention_maps(translator, "", "").written == ENDING
    with pytest.raises(tz.UserError, match="takes 40"):
        attention_maps(translator, "the train " * 20)


def test_king_and_queen() -> None:
    rows = [[1.0, 0, 0, 1], [1.0, 0, 1, 0], [0, 0, 0, 2.0], [0, 0, 3.0, 0], [0, 1.0, 0, -0.1], [0, 0, 0, 0]]
    run = words_run("king queen man woman tree nothing", rows)
    assert [one.word for one in neighbours(run, "king", ["woman"], ["man"], n=2)] == ["queen", "tree"]
    [first, second, *_] = neighbours(run, "king")
    assert first.word == "man"
    assert first.similarity == pytest.approx(0.5**0.5, abs=1e-6)
    assert second.word == "queen"
    assert second.similarity == pytest.approx(0.5, abs=1e-6)
    assert len(neighbours(run, "king", n=100)) == 5
    assert word_pieces(run, "king man") == ["king", " man"]
    mean = torch.tensor(rows[0]) + torch.tensor(rows[2])
    wanted = torch.cosine_similarity(mean, torch.tensor(rows[1]), dim=0)
    assert {one.word: one.similarity for one in neighbours(run, "king man")}["queen"] == pytest.approx(float(wanted))
    assert {one.word for one in neighbours(run, "king man")} == {"queen", "woman", "tree", "nothing"}


@pytest.mark.parametrize(
    ("word", "plus", "minus", "n", "message"),
    [
        ("emperor", [], [], 1, "'emperor' is not in the vocabulary"),
        ("king emperor", [], [], 1, "not all of it"),
        ("king", [], ["king"], 1, "cancel each other out"),
        (" ", [], [], 1, "a word is empty"),
        ("king", [""], [], 1, "a word is empty"),
        ("king", [], [], 0, "n 0 must be at least 1"),
    ],
)
def test_words_that_have_no_neighbours(word: str, plus: list[str], minus: list[str], n: int, message: str) -> None:
    with pytest.raises(tz.UserError, match=message):
        neighbours(words_run("king man", [[1.0, 0, 0, 0], [0, 1.0, 0, 0]]), word, plus, minus, n)


def test_pieces_that_are_no_words_are_no_answers(translator: Run) -> None:
    found = [one.word for one in neighbours(translator, "train", n=100)]
    pieces = translator.tokenizer.source.pieces
    assert found
    assert all(f"▁{word}" in pieces for word in found)
    letters = TextRun(tz.create_model("gpt-nano", vocab_size=4, **SIZES).eval(), CharacterTokenizer("ab!"), recipe={})
    assert [one.word for one in neighbours(letters, "a")] == ["b"]
    with pytest.raises(tz.UserError, match="not among"):
        neighbours(letters, "c")


@pytest.mark.parametrize(("positions", "title", "shape", "first"), [
    ("learned", "decoder: added to embeddings", (5, 16), 0),
    ("sinusoidal", "decoder: added to embeddings", (5, 16), 0),
    ("rotary", "decoder: rotation of queries and keys", (5, 8), 0),
    ("alibi", "decoder: added to scores, by distance", (5, 2), 0),
    ("relative", "decoder: added to scores, by distance", (5, 2), 0),
])  # fmt: skip
def test_places_are_told_apart(positions: str, title: str, shape: tuple[int, int], first: int) -> None:
    model = tz.create_model("gpt-nano", positions=positions, **SIZES)
    [table] = positions_table(model, n=5)
    assert (table.title, tuple(table.values.shape), table.places) == (title, shape, [first + i for i in range(5)])
    part: Any = model.decoder.positions
    match positions:
        case "learned":
            assert_close(table.values, part.weight[:5].detach())
        case "sinusoidal":
            assert_close(table.values, tz.blocks.sinusoids(torch.arange(5), 16))
        case "rotary":
            angles = torch.arange(5)[:, None] * 10000.0 ** (-torch.arange(4) / 4)
            assert_close(table.values, torch.cat([angles.cos(), angles.sin()], -1), rtol=1e-4, atol=1e-5)
        case "alibi":
            assert_close(table.values, -torch.arange(5)[:, None] * torch.tensor([2.0**-4, 2.0**-8]))
        case "relative":
            assert_close(table.values, part.weight[part.bucket(-torch.arange(5))].detach())


def test_an_encoder_looks_both_ways() -> None:
    tables = positions_table(tz.create_model("transformer-tiny", positions="relative", vocab_size=9, **SIZES), n=3)
    assert [(table.title.split(":")[0], table.places) for table in tables] == [
        ("encoder", [-2, -1, 0, 1, 2]), ("decoder", [0, 1, 2])
    ]  # fmt: skip


def test_models_that_tell_places_apart_in_several_ways() -> None:
    sizes = {**SIZES, "head_dim": 8, "n_kv_heads": 1, "vocab_size": 99, "n_layers": 6}
    titles = [table.title for table in positions_table(tz.create_model("gemma-3-270m", **sizes), n=4)]
    assert titles == [
        "decoder, layers 1 to 5: rotation of queries and keys",
        "decoder, layer 6: rotation of queries and keys",
    ]
    assert positions_table(tz.create_model("gpt-nano", positions="none", **SIZES)) == []
    with pytest.raises(tz.UserError, match="not a Linear"):
        positions_table(torch.nn.Linear(2, 2))
    with pytest.raises(tz.UserError, match="at least 1"):
        positions_table(tz.create_model("gpt-nano", **SIZES), n=0)
