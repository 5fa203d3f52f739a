"""Presets by name, those of the paper against its table, and what overrides may do."""

import dataclasses

import pytest
import torch

import transformer_zoo as tz
from transformer_zoo import EncoderDecoder, UserError
from transformer_zoo.config import EncoderDecoderConfig, FeedForwardSpec


def n_parameters(name: str, **overrides: object) -> int:
    with torch.device("meta"):
        return sum(weight.numel() for weight in tz.create_model(name, **overrides).parameters())


def test_names_by_pattern() -> None:
    assert tz.list_models("transformer-b*") == ["transformer-base", "transformer-big"]
    assert tz.list_models("albert*") == []


@pytest.mark.parametrize(
    ("name", "d_model", "d_ff"), [("transformer-base", 512, 2048), ("transformer-big", 1024, 4096)]
)
def test_table_3_of_the_paper_by_hand(name: str, d_model: int, d_ff: int) -> None:
    attention = 4 * (d_model * d_model + d_model)  # W^Q, W^K, W^V, W^O, each with a bias
    feed_forward = d_model * d_ff + d_ff + d_ff * d_model + d_model
    norm = 2 * d_model
    encoder = 6 * (attention + feed_forward + 2 * norm)
    decoder = 6 * (2 * attention + feed_forward + 3 * norm)
    assert n_parameters(name) == 37000 * d_model + encoder + decoder  # one matrix is both embeddings and the output
    assert n_parameters(name, vocab_size=100) == 100 * d_model + encoder + decoder


ROWS = {  # encoder and decoder layers, d_model, d_ff, heads, dropout
    "transformer-tiny": (4, 4, 128, 256, 4, 0.1),
    "transformer-small": (3, 3, 256, 1024, 4, 0.1),
    "transformer-iwslt": (6, 6, 512, 1024, 4, 0.1),
    "transformer-base": (6, 6, 512, 2048, 8, 0.1),
    "transformer-big": (6, 6, 1024, 4096, 16, 0.3),
}


@pytest.mark.parametrize("name", ROWS)
def test_presets(name: str) -> None:
    c = tz.get_config(name)
    assert isinstance(c, EncoderDecoderConfig)
    attention, ffn = c.encoder.layers[0].attention, c.encoder.layers[0].ffn
    assert isinstance(ffn, FeedForwardSpec)
    n_layers = c.encoder.n_layers, c.decoder.n_layers
    assert (*n_layers, c.d_model, ffn.d_ff, attention.n_heads, c.dropout) == ROWS[name]
    assert (c.encoder.norm_position, c.share_embeddings, ffn.activation) == ("post", "all", "relu")


def test_overrides_change_what_they_name_and_nothing_else() -> None:
    before = tz.get_config("transformer-tiny")
    config = tz.get_config("transformer-tiny", vocab_size=77, norm_position="pre")
    stacks = {name: dataclasses.replace(stack, norm_position="pre") for name, stack in before.stacks()}
    assert config == dataclasses.replace(before, vocab_size=77, **stacks)
    assert tz.get_config("transformer-tiny") == before


def test_what_scales_logits_follows_the_width() -> None:
    assert tz.get_config("t5-small").logit_factor == 512**-0.5
    assert tz.get_config("t5-small", d_model=64).logit_factor == 64**-0.5
    assert tz.get_config("t5-small", logit_scale=0.5, d_model=64).logit_factor == 0.5
    assert tz.get_config("flan-t5-small", d_model=64).logit_factor == tz.get_config("mt5-small").logit_factor == 1


IDS = ("pad_id", "bos_id", "eos_id", "source_end_id", "forced_last_id", "never_ids", "stop_ids", "mask_id")


def ids_of(given: int | list[int] | None) -> list[int]:
    """A field of one token, of several, or of none."""
    return [given] if isinstance(given, int) else given or []


@pytest.mark.parametrize("vocab_size", [4, 5, 65, 300, 60_000])
@pytest.mark.parametrize("name", tz.list_models())
def test_special_tokens_follow_the_vocabulary(name: str, vocab_size: int) -> None:
    before = tz.get_config(name).to_dict()
    after = tz.get_config(name, vocab_size=vocab_size).to_dict()
    assert {k: v for k, v in after.items() if k not in IDS} == {k: v for k, v in before.items() if k not in IDS} | {
        "vocab_size": vocab_size
    }
    pairs = {pair for k in IDS for pair in zip(ids_of(before.get(k)), ids_of(after.get(k)), strict=True)}
    assert (
        len(pairs) == len({old for old, _ in pairs}) == len({new for _, new in pairs})
    )  # as many tokens as there were
    for old, new in pairs:
        assert new == old if old < vocab_size else vocab_size - len(pairs) <= new < vocab_size


def test_where_special_tokens_go_by_hand() -> None:
    assert tz.get_config("gpt2", vocab_size=65).eos_id == 64
    assert tz.get_config("gpt2", vocab_size=65, eos_id=None).eos_id is None
    assert tz.get_config("llama-3-8b", vocab_size=65).to_dict().items() >= {"bos_id": 63, "eos_id": 64}.items()
    marian = tz.get_config("opus-mt-big", vocab_size=65)
    assert (marian.pad_id, marian.bos_id, marian.eos_id, marian.forced_last_id) == (64, 64, 63, 0)
    assert tz.get_config("opus-mt-big", vocab_size=65, pad_id=63).eos_id == 62
    assert tz.get_config("opus-mt", vocab_size=65, target_vocab_size=20, share_embeddings="none").pad_id == 19


def test_create_model_of_a_small_vocabulary() -> None:
    model = tz.create_model("gpt2", vocab_size=65, n_layers=1, d_model=24, d_ff=32)
    assert model(torch.tensor([[1, 64]])).shape == (1, 2, 65)
    assert all(token < 65 for token in tz.generate(model, [[1]], max_new_tokens=5)[0])


def test_create_model() -> None:
    model = tz.create_model("transformer-tiny", vocab_size=20, n_encoder_layers=1, n_decoder_layers=2)
    assert isinstance(model, EncoderDecoder)
    assert isinstance(model.config, EncoderDecoderConfig)
    assert model(torch.tensor([[4, 5, 3]]), torch.tensor([[2, 7]])).shape == (1, 2, 20)


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("gpt5", {}, "no architecture is called 'gpt5'; like it are gpt2, "),
        ("nothing like it", {}, f"'nothing like it'; `transformer-zoo list` names all {len(tz.list_models())}$"),
        ("transformer-tiny", {"depth": 3}, "EncoderDecoderConfig has no field 'depth'"),
        ("transformer-tiny", {"n_heads": 3}, "d_model 128 is not a multiple of n_heads 3"),
        ("gpt2", {"vocab_size": 65, "eos_id": 65}, "eos_id 65 is outside the vocabulary of 65"),
        ("gpt2", {"vocab_size": 65, "eos_id": "65"}, "eos_id is '65'"),
        ("gpt2", {"vocab_size": "65"}, "vocab_size is '65'"),
        ("opus-mt-big", {"vocab_size": 2}, "a vocabulary of 2 has no room for the special tokens"),
        ("transformer-tiny", {"target_vocab_size": 5}, "set share_embeddings to 'decoder' or 'none'"),
    ],
)
def test_what_is_refused(name: str, overrides: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tz.get_config(name, **overrides)
    with pytest.raises(UserError, match=message):
        tz.create_model(name, **overrides)
