"""What CTranslate2 is given computes the same there, or is refused by the name of the field."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import pytest
import torch

from tests.flat import beam_search
from transformer_zoo.config import (
    DecoderConfig,
    EncoderConfig,
    EncoderDecoderConfig,
    LayerNormSpec,
    LearnedSpec,
    LinearSpec,
    Llama3Spec,
    NgramSpec,
    RMSNormSpec,
    RotarySpec,
    SinusoidalSpec,
    YarnSpec,
)
from transformer_zoo.config.latent_attention import LatentSpec
from transformer_zoo.config.mixture import MixtureSpec
from transformer_zoo.errors import UserError
from transformer_zoo.models import DecoderOnly, EncoderDecoder, EncoderOnly
from transformer_zoo.zoo import build, get_config, list_models
from transformer_zoo.zoo.ctranslate2 import check_ctranslate2
from transformer_zoo.zoo.ctranslate2.write import _unlike, to_ctranslate2

VOCAB = 53
SIZE = {"vocab_size": VOCAB, "d_model": 24, "n_heads": 4, "d_ff": 29, "n_layers": 2, "max_seq_len": 64}
TRANSLATOR = EncoderDecoderConfig.of(**SIZE)
WRITER = DecoderConfig.of(**SIZE, eos_id=3)
MODERN = WRITER.changed(norm="rmsnorm", gated=True, activation="silu", bias=False, positions="rotary")
READER = EncoderConfig.of(**SIZE)
T5 = get_config("t5-small", **{**SIZE, "head_dim": 6})


def fresh(config: Any) -> Any:
    """A model with noise on every weight, whose sentences end now and then."""
    torch.manual_seed(0)
    model = build(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.2 * torch.randn_like(weight)
        if getattr(config, "eos_id", None) is not None:
            model.head_weight[config.eos_id] *= 1.3
    return model


def written(model: Any, folder: Path, **how: Any) -> tuple[Any, list[list[str]]]:
    """The model as CTranslate2 loads it, and what it calls the ids of both sides."""
    check_ctranslate2(model.config)
    folder.mkdir(parents=True, exist_ok=True)
    sizes = [model.config.vocab_size, *([model.config.target_size] if hasattr(model.config, "target_size") else [])]
    names = to_ctranslate2(model, folder, [[f"token{i}" for i in range(size)] for size in sizes], **how)
    return LOADED_BY[type(model)](str(folder)), names


LOADED_BY: dict[type, Any] = {
    EncoderDecoder: ctranslate2.Translator, DecoderOnly: ctranslate2.Generator, EncoderOnly: ctranslate2.Encoder,
}  # fmt: skip


def sources(config: Any) -> list[list[int]]:
    """Prompts of several lengths, each with its end."""
    draw = np.random.default_rng(0)
    return [[*draw.integers(4, config.vocab_size, n).tolist(), config.source_end] for n in (3, 9, 1, 6)]


def assert_same(model: Any, folder: Path) -> None:
    """Logits and what is written, translations, or hidden states."""
    kinds = {EncoderDecoder: assert_same_translations, DecoderOnly: assert_same_text, EncoderOnly: assert_same_hidden}
    kinds[type(model)](model, folder)


@torch.no_grad()
def assert_same_text(model: Any, folder: Path) -> None:
    """Logits, and what is written after a prompt that is read token by token, or at once."""
    generator, [names] = written(model, folder)
    ids = np.random.default_rng(0).integers(4, VOCAB, (2, 40))
    ours, real = model(torch.tensor(ids)), torch.arange(40) < torch.tensor([[40], [13]])
    theirs = torch.tensor(np.array(generator.forward_batch([ids[0].tolist(), ids[1, :13].tolist()])))
    assert ours.std() > 0.01
    torch.testing.assert_close(theirs[real][:, : ours.size(-1)], ours[real], atol=1e-4, rtol=0)
    prompt = ids[0, :20].tolist()
    for again, n in ((True, 31), (False, 12)):  # the first token does not count
        how = {"beam_size": 1, "max_length": n, "include_prompt_in_result": again}
        [found] = generator.generate_batch([[names[i] for i in prompt]], **how)
        text = found.sequences_ids[0] if again else [*prompt, *found.sequences_ids[0]]
        assert text == continued(model, prompt, 12)


def continued(model: Any, ids: list[int], n: int) -> list[int]:
    """The ids and up to n tokens that are most likely after them."""
    for _ in range(n):
        logits = model(torch.tensor([ids]))[0, -1]
        logits[list(model.facts.never)] = -torch.inf
        if (newest := int(logits.argmax())) in model.facts.ends:
            break
        ids = [*ids, newest]
    return ids


@torch.no_grad()
def assert_same_hidden(model: Any, folder: Path) -> None:
    """Hidden states of rows of several lengths, and of two segments."""
    encoder, _ = written(model, folder)
    draw = np.random.default_rng(0)
    rows = [draw.integers(4, model.config.vocab_size, n).tolist() for n in (30, 9, 1)]
    last = (model.config.n_segments or 1) - 1
    parts = [[0] * (len(row) // 2) + [last] * (30 - len(row) // 2) for row in rows] if model.segments else None
    found = np.array(encoder.forward_batch(rows, token_type_ids=parts).last_hidden_state)
    for row, theirs, part in zip(rows, found, parts or [None] * 3, strict=True):
        segments = None if part is None else torch.tensor([part[: len(row)]])
        ours = model.hidden(torch.tensor([row]), segments=segments)[0]
        assert ours.std() > 0.01
        torch.testing.assert_close(torch.tensor(theirs[: len(row)]), ours, atol=1e-4, rtol=0)


def assert_same_translations(model: Any, folder: Path, *, beams: tuple[int, ...] = (1, 4)) -> None:
    translator, names = written(model, folder)
    model.config = replace(model.config, forced_last_id=None)  # at the limit, where theirs cuts
    for beam, row in itertools.product(beams, sources(model.config)):
        rule: dict[str, Any] = {"beam": beam, "length_penalty": 1.0, "penalty": "length", "max_extra": 12}
        how: dict[str, Any] = {"beam_size": beam, "length_penalty": 1.0, "max_decoding_length": len(row) + 12}
        how |= {"min_decoding_length": 0, "patience": 9.0}  # by itself it writes one token at least
        [theirs] = translator.translate_batch([[names[0][i] for i in row]], **how)
        [[ours]] = beam_search(model, [row], **rule)
        assert theirs.hypotheses[0] == [names[1][i] for i in ours.tokens]


NORMED = {"attention.qk_norm": "rmsnorm"}
LAYERS = [{"attention": {"scale": 0.5}, "ffn": {"d_ff": 31}}, {"attention": {"n_kv_heads": 2, "head_dim": 10}}]
TEXTS: dict[str, DecoderConfig] = {
    "gpt-2": WRITER,
    "post-norm": WRITER.changed(norm_position="post"),
    "post-norm with a norm at the end": WRITER.changed(norm_position="post", final_norm=True, embedding_norm=True),
    "pre-norm without": WRITER.changed(final_norm=False, norm=LayerNormSpec(learned="weight"), bias=False),
    "norms without weights": WRITER.changed(norm=LayerNormSpec(learned="nothing", eps=1e-2)),
    "llama": MODERN,
    "grouped heads": MODERN.changed(n_kv_heads=2, head_dim=10, tie_embeddings=False, vocab_multiple=64, **NORMED),
    "one head of keys": MODERN.changed(n_kv_heads=1, **NORMED),
    "interleaved": MODERN.changed(positions=RotarySpec(layout="interleaved", base=50.0, dim=4)),
    "linear": MODERN.changed(positions=RotarySpec(scaling=LinearSpec(factor=3.0))),
    "llama 3": MODERN.changed(
        positions=RotarySpec(scaling=Llama3Spec(factor=4.0, original_max_seq_len=37, high_freq_factor=3.0))
    ),
    "yarn": MODERN.changed(positions=RotarySpec(scaling=YarnSpec(factor=4.0, original_max_seq_len=37))),
    "no positions": WRITER.changed(positions="none"),
    "some layers turn": MODERN.changed(layer=[{"positions": None}, {}]),
    "sinusoids": WRITER.changed(positions="sinusoidal", scale_embeddings=True),
    "alibi": WRITER.changed(positions="alibi"),
    "parallel": MODERN.changed(norm_position="parallel", positions=RotarySpec(dim=2)),
    "one norm for both": WRITER.changed(norm_position="parallel_shared", norm=LayerNormSpec(learned="weight")),
    "gemma 2": MODERN.changed(
        norm=RMSNormSpec(unit_offset=True), norm_position="both", scale_embeddings=True, logit_softcap=5.0,
        logit_scale=0.7,
    ),
    "squared": WRITER.changed(activation="relu_squared", norm="rmsnorm", embedding_norm=True, **NORMED),
    "opt 350m": WRITER.changed(d_embedding=16, norm_position="post", positions=LearnedSpec(offset=2)),
    "layers that differ": MODERN.changed(layer=LAYERS),
    "without an end": WRITER.changed(eos_id=None),
    "a bias of logits": WRITER.changed(logit_bias=True, vocab_multiple=8, norm=LayerNormSpec(unit_offset=True)),
    "windows": WRITER.changed(
        n_layers=3, layer=[{}, {"attention": {"window": 5, "scale": 1.0, "qkv_bias": False}}, {}],
    ),
    "a window everywhere": MODERN.changed(sliding_window=6, n_kv_heads=2, positions=RotarySpec(dim=4)),
    "windows of one head of keys": MODERN.changed(n_kv_heads=1, head_dim=10, layer=[{"attention": {"window": 1}}, {}]),
    "windows and falling scores": WRITER.changed(sliding_window=7, positions="alibi"),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_texts(name: str, tmp_path: Path) -> None:
    assert_same_text(fresh(TEXTS[name]), tmp_path)


READERS: dict[str, EncoderConfig] = {
    "bert": READER.changed(n_segments=2),
    "roberta": READER.changed(
        n_segments=1, positions=LearnedSpec(offset=2), activation="gelu_tanh", tie_embeddings=False,
    ),
    "distilbert": READER.changed(positions="sinusoidal", head="none"),
    "pre-norm": READER.changed(
        norm_position="pre", norm="rmsnorm", positions="rotary", n_segments=2, scale_embeddings=True,
    ),
    "windows on both sides": READER.changed(
        embedding_norm=False, positions="rotary", layer=[{"attention": {"window": 4}}, {}],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", READERS)
def test_hidden_states(name: str, tmp_path: Path) -> None:
    assert_same_hidden(fresh(READERS[name]), tmp_path)


TRANSLATIONS: dict[str, EncoderDecoderConfig] = {
    "post-norm": TRANSLATOR,
    "pre-norm": TRANSLATOR.changed(norm_position="pre", n_decoder_layers=1),
    "sides that differ": TRANSLATOR.changed(
        **{
            "encoder.norm_position": "pre",
            "decoder.layer.ffn.activation": "gelu",
            "decoder.positions": LearnedSpec(),
            "decoder.layer.attention.n_heads": 3,
            "encoder.embedding_norm": True,
        },
    ),
    "rmsnorm": TRANSLATOR.changed(norm="rmsnorm", norm_position="pre", bias=False, gated=True, activation="silu"),
    "norms of heads": TRANSLATOR.changed(norm="rmsnorm", n_kv_heads=2, positions="rotary", **NORMED),
    "two vocabularies": TRANSLATOR.changed(target_vocab_size=47, share_embeddings="decoder"),
    "nothing shared": TRANSLATOR.changed(share_embeddings="none", positions=SinusoidalSpec(layout="halves")),
    "inputs shared": TRANSLATOR.changed(share_embeddings="inputs", logit_bias=True, scale_embeddings=False),
    "other ids": TRANSLATOR.changed(pad_id=52, bos_id=52, eos_id=0, positions=SinusoidalSpec(offset=2)),
    "t5": T5,
}


@pytest.mark.parametrize("name", TRANSLATIONS)
def test_translations(name: str, tmp_path: Path) -> None:
    assert_same_translations(fresh(TRANSLATIONS[name]), tmp_path)


@pytest.mark.parametrize("config", [MODERN, TRANSLATOR.changed(positions="rotary")], ids=["text", "translation"])
def test_turning_takes_no_table_of_positions(config: Any, tmp_path: Path) -> None:
    model = fresh(replace(config, max_seq_len=5000))
    written(model, tmp_path)
    weights = sum(weight.nbytes for weight in model.parameters())
    assert (tmp_path / "model.bin").stat().st_size < 1.5 * weights


@pytest.mark.parametrize("tokens", [["<1>", ""], ["a", "<3>", "b", "a"], ["", "", "<0>", "<1>"], ["a", "b"]])
def test_each_id_has_a_name_of_its_own(tokens: list[str]) -> None:
    names = _unlike(tokens)
    assert len({*names} - {""}) == len(names) == len(tokens)
    assert {*tokens} - {""} <= {*names}
    assert all(name == token for name, token in zip(names, tokens, strict=True) if token and tokens.count(token) == 1)


@pytest.mark.parametrize("name", [*READERS, "windows of one head of keys"])
def test_quantised_to_bytes(name: str, tmp_path: Path) -> None:
    """Hidden states, or logits, are nearly the same."""
    model = fresh((READERS | TEXTS)[name])
    loaded, _ = written(model, tmp_path, quantization="int8")
    ids = [[5, 9, 4, 17, 22, 8]]
    found = loaded.forward_batch(ids)
    with torch.no_grad():
        ours = (model.hidden if name in READERS else model)(torch.tensor(ids))
    theirs = torch.tensor(np.array(found.last_hidden_state if name in READERS else found))
    assert (theirs - ours).abs().mean() < 0.1 * ours.std()


@pytest.mark.parametrize("quantization", ["int8", "int16", "bfloat16"])
def test_quantised(quantization: str, tmp_path: Path) -> None:
    model = fresh(TRANSLATOR.changed(norm_position="pre"))
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    translator, names = written(model, tmp_path, quantization=quantization)
    [found] = translator.translate_batch([[names[0][i] for i in sources(model.config)[0]]], max_decoding_length=9)
    assert found.hypotheses[0]
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
    written(model, tmp_path / "whole")
    small, whole = ((folder / "model.bin").stat().st_size for folder in (tmp_path, tmp_path / "whole"))
    assert small < 0.8 * whole


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (WRITER.changed(activation="mish"), "ffn.activation 'mish'"),
        (MODERN.changed(activation="relu_squared"), "ffn.gated True"),
        (WRITER.changed(sliding_window=4), "attention.window '4 beside learned positions in the first layer'"),
        (MODERN.changed(sliding_window=4, **NORMED), "attention.window '4 beside qk_norm'"),
        (WRITER.changed(positions="relative"), "positions 'relative'"),
        (READER.changed(norm_position="both"), "norm_position 'both'"),
        (READER.changed(d_embedding=8), "d_embedding 8"),
        (get_config("modernbert-base"), "attention_norm False"),
        (WRITER.changed(**{"attention.softcap": 3.0}), "attention.softcap 3.0"),
        (WRITER.changed(ngrams=NgramSpec(n=3)), r"ngrams NgramSpec\(n=3, rows=16384\)"),
        (WRITER.changed(norm_position="pre_carried"), "norm_position 'pre_carried'"),
        (WRITER.changed(attention=LatentSpec(n_heads=4, head_dim=6, rotary_dim=4)), "attention 'latent'"),
        (WRITER.changed(ffn=MixtureSpec(n_experts=2)), "ffn 'mixture'"),
        (WRITER.changed(logit_softcap=3.0, never_ids=(4,)), "never_ids 'beside logit_softcap'"),
        (WRITER.changed(layer=[{}, {"attention": {"n_heads": 3}}]), "attention.n_heads 3"),
        (WRITER.changed(layer=[{}, {"ffn": {"activation": "relu"}}]), "ffn.activation 'relu'"),
        (WRITER.changed(**{"attention.qk_norm": RMSNormSpec(eps=1e-3)}), "attention.qk_norm.eps 0.001"),
        (MODERN.changed(positions=RotarySpec(dim=4, scaling=YarnSpec())), "positions.dim 4"),
        (TRANSLATOR.changed(**{"decoder.norm.eps": 1e-3}), "norm.eps 0.001"),
        (TRANSLATOR.changed(norm_position="both"), "norm_position 'both'"),
        (TRANSLATOR.changed(**{"encoder.positions": "alibi"}), "positions 'alibi'"),
        (get_config("umt5-small"), "positions 'relative'"),
        (TRANSLATOR.changed(activation="mish", positions="alibi"), "ffn.activation 'mish', positions 'alibi'"),
    ],
)
def test_what_it_does_not_have_is_named(config: Any, named: str) -> None:
    with pytest.raises(UserError, match=f"^ctranslate2 has no counterpart of {named}$"):
        check_ctranslate2(config)


def test_presets() -> None:
    """Those that it does not have lack one of these."""
    refused = {}
    for name in list_models():
        try:
            check_ctranslate2(get_config(name))
        except UserError as error:
            refused[name] = str(error).partition(" of ")[2]
    lacks = (
        "beside qk_norm",
        "after_rotation",
        "softcap",
        "mixture",
        "relative",
        "_over",
        "d_embedding",
        "attention_norm",
        "xielu",
    )
    assert all(any(word in said for word in lacks) for said in refused.values()), refused
    assert not [name for name in refused if name.startswith(("transformer-", "gpt", "opus"))]
