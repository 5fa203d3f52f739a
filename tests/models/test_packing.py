"""A packed model gives what it gave before."""

import copy

import pytest
import torch

import transformer_zoo as tz
from transformer_zoo import DecoderOnly, EncoderDecoder
from transformer_zoo.generation import beam_search, generate


def writer(**changes: object) -> DecoderOnly:
    fields = {"vocab_size": 97, "d_model": 64, "n_heads": 4, "d_ff": 131, "n_layers": 2, "max_seq_len": 64}
    model = DecoderOnly(tz.DecoderConfig(**{**fields, **changes}))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.3)
    return model.eval()


def translator(**changes: object) -> EncoderDecoder:
    fields = {"vocab_size": 97, "d_model": 64, "n_heads": 4, "d_ff": 131, "n_encoder_layers": 1, "n_decoder_layers": 2}
    model = EncoderDecoder(tz.EncoderDecoderConfig(**{**fields, **changes}))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.1)
        if model.logit_bias is not None:
            model.logit_bias.normal_()
    return model.eval()


WRITERS = [{}, {"tie_embeddings": False, "logit_softcap": 5.0}, {"d_embedding": 64, "vocab_multiple": 64}]
TRANSLATORS = [{}, {"share_embeddings": "none", "target_vocab_size": 89}, {"logit_bias": True}]


@pytest.mark.parametrize("changes", WRITERS)
@pytest.mark.parametrize("rows", [1, 4, 16])
def test_a_packed_writer_is_the_same(changes: dict[str, object], rows: int) -> None:
    model = writer(**changes)
    ids = torch.randint(97, (rows, 11))
    packed = tz.pack(copy.deepcopy(model))
    torch.testing.assert_close(packed(ids), model(ids), atol=1e-4, rtol=1e-4)
    how = {"max_new_tokens": 23, "temperature": 0.0}
    assert generate(packed, ids, **how) == generate(model, ids, **how)
    sampled = {"max_new_tokens": 23, "top_k": 7, "seed": 5}
    assert generate(packed, ids, **sampled) == generate(model, ids, **sampled)


@pytest.mark.parametrize("changes", TRANSLATORS)
@pytest.mark.parametrize(("rows", "beam"), [(1, 1), (3, 1), (13, 1), (1, 4), (3, 4)])
def test_a_packed_translator_is_the_same(
    changes: dict[str, object], rows: int, beam: int
) -> None:
    model = translator(**changes)
    source = torch.randint(4, 89, (rows, 7))
    packed = tz.pack(copy.deepcopy(model))
    for mine, theirs in zip(beam_search(packed, source, beam=beam), beam_search(model, source, beam=beam), strict=True):
        assert mine[0].tokens == theirs[0].tokens
        assert mine[0].log_prob == pytest.approx(theirs[0].log_prob, abs=1e-4)


def test_what_a_packed_model_cannot_do() -> None:
    packed = tz.pack(writer())
    assert not any(weight.requires_grad for weight in packed.parameters())
    with pytest.raises(RuntimeError, match="q_proj"):
        packed.load_state_dict(writer().state_dict())


def test_packing_again_changes_nothing() -> None:
    ids = torch.randint(97, (4, 11))
    packed = tz.pack(writer())
    before = packed(ids)
    assert torch.equal(tz.pack(packed)(ids), before)


def test_what_cannot_be_packed_stays_as_it_is() -> None:
    model = writer().bfloat16()
    assert set(tz.pack(model).state_dict()) == set(writer().state_dict())
