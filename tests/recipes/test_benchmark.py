"""The benchmark's peers compute what the model computes, and its two tables come out."""

import json
from argparse import Namespace
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from tests.flat import beam_search
from transformer_zoo.config import EncoderDecoderConfig
from transformer_zoo.data import Batch, batch_indices, collate
from transformer_zoo.models import EncoderDecoder

from .shown import shown

pytest.importorskip("transformers")
OPTIONS = Namespace(device=torch.device("cpu"), compile=False, beam=3, new_tokens=9, batch_sentences=4)


@pytest.fixture(scope="module")
def recipe() -> dict[str, ModuleType]:
    modules = {"peers": "translation_peers", "contestants": "translation_contestants", "benchmark": "translation"}
    return {name: import_module(f"recipes.benchmarks.{module}") for name, module in modules.items()}


def make_model(**overrides: object) -> EncoderDecoder:
    """Every weight random, norms and biases too, so that two exchanged ones cannot pass."""
    fields = {
        "d_model": 24,
        "n_heads": 2,
        "d_ff": 40,
        "n_encoder_layers": 2,
        "n_decoder_layers": 3,
        "dropout": 0.0,
    }
    config = EncoderDecoderConfig.of(
        **{"vocab_size": 53, "positions.layout": "halves", "max_seq_len": 128, **fields, **overrides}
    )
    model = EncoderDecoder(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def make_batch(recipe: dict[str, ModuleType]) -> Batch:
    corpus = recipe["contestants"].make_corpus(10, 9.0, 53, seed=0)
    [indices] = batch_indices(corpus.source_lengths, corpus.target_lengths, batch_tokens=10**4, seed=0, epoch=0)[-1:]
    batch = collate(corpus, indices)
    assert batch.source_mask is not None
    assert batch.target_mask is not None
    return batch


@pytest.mark.parametrize("name", ["Hugging Face MarianMTModel", "torch.nn.Transformer"])
def test_a_peer_has_the_same_loss_and_gradient(name: str, recipe: dict[str, ModuleType]) -> None:
    training_loss, model, batch = recipe["contestants"].training_loss, make_model(), make_batch(recipe)
    losses: list[float] = []
    gradients: list[list[Tensor]] = []
    for who in ("transformer_zoo", name):
        module, loss_of = training_loss(who, model, OPTIONS)
        loss = loss_of(batch) / batch.n_tokens
        loss.backward()
        losses.append(loss.item())
        gradients.append(sorted((p.grad for p in module.parameters() if p.grad is not None), key=lambda g: g.shape))
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    [ours] = [g for g in gradients[0] if g.shape == (53, 24)]
    [theirs] = [g for g in gradients[1] if g.shape == (53, 24)]
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=1e-4)


def test_the_peers_drop_as_the_model_does(recipe: dict[str, ModuleType]) -> None:
    marian = recipe["peers"].to_marian(make_model(dropout=0.3))
    config = marian.config
    assert (config.dropout, config.attention_dropout, config.activation_dropout) == (0.3, 0, 0)
    torch_model = recipe["peers"].to_torch(make_model(dropout=0.3))
    assert {m.p for m in torch_model.modules() if isinstance(m, torch.nn.Dropout)} == {0.3}


def searched(recipe: dict[str, ModuleType]) -> tuple[EncoderDecoder, Batch]:
    """A model that never ends of itself; sharp attention to the source makes it heed the source."""
    model = make_model(d_model=128).eval()
    with torch.no_grad():
        for layer in model.encoder.layers:
            layer.attn.q_proj.weight *= 8
        for layer in model.decoder.layers:
            layer.cross_attn.q_proj.weight *= 8
            layer.cross_attn.out_proj.weight *= 8
    recipe["contestants"].discourage_specials(model)
    return model, make_batch(recipe)


def test_hugging_face_finds_the_same_hypotheses(recipe: dict[str, ModuleType]) -> None:
    model, batch = searched(recipe)
    inputs = (batch.source, batch.source_mask, OPTIONS, OPTIONS.beam)
    ours = recipe["contestants"].search_ours(model, *inputs)
    theirs = recipe["contestants"].search_marian(recipe["peers"].to_marian(model).eval(), *inputs)
    assert theirs == ours
    assert {len(tokens) for beam in ours for tokens in beam} == {OPTIONS.new_tokens}  # equal work
    assert len({tuple(beam[0]) for beam in ours}) >= 4  # and not one answer to everything


def test_ctranslate2_has_the_same_scores_and_hypotheses(recipe: dict[str, ModuleType]) -> None:
    pytest.importorskip("ctranslate2")
    model, batch = searched(recipe)
    translator = recipe["contestants"].load_ctranslate2(model, "float32", OPTIONS.device)
    words = recipe["peers"].made_up_tokens(model.config)
    sources = [[words[i] for i in row if i != 0] for row in batch.source.tolist()]
    found = [best for [best] in beam_search(model, batch.source, batch.source_mask, beam=3, max_length=9)]
    scored = translator.score_batch(sources, [[words[i] for i in best.tokens] for best in found])
    for best, score in zip(found, scored, strict=True):  # with the end, which none of ours has at the limit
        assert sum(score.log_probs[:-1]) == pytest.approx(best.log_prob, abs=1e-3)

    ours = recipe["contestants"].search_ours(model, batch.source, batch.source_mask, OPTIONS)
    hypotheses = recipe["contestants"].search_ctranslate2(translator, sources, OPTIONS)
    assert hypotheses == [[words[i] for i in tokens] for [tokens] in ours]
    assert {len(tokens) for tokens in hypotheses} == {OPTIONS.new_tokens}


def test_both_tables_and_the_file(
    recipe: dict[str, ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "--training-preset transformer-tiny --decoding-preset transformer-tiny --vocab-size 50 --threads 1 "
    words += "--batch-tokens 256 --rounds 1 --steps 1 --sentences 3 --batch-sentences 2 --new-tokens 3 --beam 2 "
    words += "--decoding-rounds 1 --precision float32 --tune-malloc false --device cpu --ctranslate2 --json "
    recipe["benchmark"].main([*words.split(), str(tmp_path / "speed.json")])
    written = json.loads((tmp_path / "speed.json").read_text(encoding="utf-8"))
    training, decoding = written["tables"]
    for part, table in (("translation-training", training), ("translation-decoding", decoding)):
        assert f" {table['unit']} | lowest |" in shown(part, {**written, "tables": [table]}, tmp_path)
    marian = "Hugging Face MarianMTModel"
    assert [row["name"] for row in training["rows"]] == ["transformer_zoo", marian, "torch.nn.Transformer"]
    assert [row["name"] for row in decoding["rows"]] == ["transformer_zoo", marian]
    for table in (training, decoding):
        ours = table["rows"][0]["speed"]
        assert [row["ratio"] for row in table["rows"]] == pytest.approx([ours / row["speed"] for row in table["rows"]])
    assert written["machine"]["malloc"] == "as the system has it, for all"
    printed = capsys.readouterr().out
    assert "target tokens/s" in printed
    assert "sentences/s" in printed
    assert written["machine"]["commit"] in printed


def test_a_wrong_option_is_one_line_and_status_2(
    recipe: dict[str, ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        recipe["benchmark"].main(["--rounds", "0"])
    assert "--rounds must be at least 1" in capsys.readouterr().err
