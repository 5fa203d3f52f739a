"""The encoder alone, against transformers' BERT, and what its padding, its pooling and its head promise."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import transformer_zoo as tz
from transformer_zoo import EncoderConfig, EncoderOnly, kernels
from transformer_zoo.blocks import forward_flops, matrices, record_weights
from transformer_zoo.blocks.answers import residual_axes
from transformer_zoo.models import check_decoder_only
from transformer_zoo.zoo.describe import describe

V, D, T = 53, 24, 11
SIZES: dict[str, Any] = {"vocab_size": V, "d_model": D, "n_heads": 4, "d_ff": 37, "n_layers": 2, "max_seq_len": 17}
VARIANTS: dict[str, dict[str, Any]] = {
    "bert": {},
    "untied": {"tie_embeddings": False},
    "rotary": {"positions": "rotary", "norm": "rmsnorm", "norm_position": "pre", "embedding_norm": False},
    "sinusoidal": {"positions": "sinusoidal", "norm_position": "pre"},
    "relative": {"positions": "relative", "positions.buckets": 8, "positions.max_distance": 6},
}
REAL = torch.arange(T) < torch.tensor([[T], [4], [7]])
variants = pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())


def small_encoder(**changes: Any) -> EncoderOnly:
    """In evaluation mode; every weight is moved, so that none is at a special value."""
    model = EncoderOnly(EncoderConfig.of(**SIZES | changes)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.2 * torch.randn_like(weight)
    return model


def tokens() -> Tensor:
    return torch.randint(2, V, (3, T))


# Ours: theirs, within a layer.
LAYER = {
    "attn.q_proj": "attention.self.query", "attn.k_proj": "attention.self.key", "attn.v_proj": "attention.self.value",
    "attn.out_proj": "attention.output.dense", "attn_norm": "attention.output.LayerNorm",
    "ffn.up_proj": "intermediate.dense", "ffn.down_proj": "output.dense", "ffn_norm": "output.LayerNorm",
}  # fmt: skip


@torch.no_grad()
def test_logits_of_bert() -> None:
    from transformers import BertConfig, BertForMaskedLM

    theirs = BertForMaskedLM(
        BertConfig(
            vocab_size=V, hidden_size=D, num_hidden_layers=2, num_attention_heads=4, intermediate_size=37,
            max_position_embeddings=17, layer_norm_eps=1e-5,
        )
    ).eval()  # fmt: skip
    for weight in theirs.parameters():
        weight += 0.2 * torch.randn_like(weight)
    w = theirs.state_dict()
    embeddings, head = "bert.embeddings", "cls.predictions"
    places = w[f"{embeddings}.position_embeddings.weight"] + w[f"{embeddings}.token_type_embeddings.weight"][0]
    ours = {
        "embedding.weight": w[f"{embeddings}.word_embeddings.weight"],
        "encoder.positions.weight": places,
        "logit_bias": w[f"{head}.bias"],
    }
    for kind in ("weight", "bias"):
        ours[f"encoder.embedding_norm.{kind}"] = w[f"{embeddings}.LayerNorm.{kind}"]
        ours[f"word_head.proj.{kind}"] = w[f"{head}.transform.dense.{kind}"]
        ours[f"word_head.norm.{kind}"] = w[f"{head}.transform.LayerNorm.{kind}"]
        for i in range(2):
            for mine, their in LAYER.items():
                ours[f"encoder.layers.{i}.{mine}.{kind}"] = w[f"bert.encoder.layer.{i}.{their}.{kind}"]
    model = small_encoder()
    model.load_state_dict(ours)
    ids = tokens()
    wanted = theirs(ids, attention_mask=REAL.long())
    assert_close(model(ids, REAL)[REAL], wanted.logits[REAL], rtol=1e-4, atol=1e-4)
    hidden = theirs.bert(ids, attention_mask=REAL.long()).last_hidden_state
    assert_close(model.hidden(ids, REAL)[REAL], hidden[REAL], rtol=1e-4, atol=1e-4)


@variants
@torch.no_grad()
def test_padding_on_either_side_changes_nothing(changes: dict[str, Any]) -> None:
    model, ids = small_encoder(**changes), tokens()
    for real, batch in ((REAL, ids), (REAL.flip(1), ids.flip(1))):
        got = model(batch, real)
        for row in range(3):
            assert_close(got[row][real[row]], model(batch[row][real[row]][None])[0], rtol=1e-4, atol=1e-4)


@variants
@torch.no_grad()
def test_every_token_sees_every_other(changes: dict[str, Any]) -> None:
    model, ids = small_encoder(**changes), tokens()
    with record_weights(model) as weights:
        model(ids, REAL)
    assert len(weights) == 2
    for found in weights.values():
        seen = found[1, :, :, :4]
        assert (seen > 0).all()
        assert not found[1, :, :, 4:].any()


@torch.no_grad()
def test_a_window_is_on_both_sides() -> None:
    model = small_encoder(**{"attention.window": 3})
    with record_weights(model) as weights:
        model(tokens(), REAL)
    near = (torch.arange(T)[:, None] - torch.arange(T)).abs() < 3
    for found in weights.values():
        for row, real in enumerate(REAL):
            queries = real & (near & real).any(1)
            assert torch.equal(found[row, 0, queries] > 0, (near & real)[queries])


@torch.no_grad()
def test_one_vector_of_a_text() -> None:
    model, ids = small_encoder(), tokens()
    hidden = model.hidden(ids, REAL)
    by_hand = torch.stack([hidden[row, :n].mean(0) for row, n in enumerate((T, 4, 7))])
    assert_close(model.pool(hidden, REAL), by_hand)
    assert_close(model.pool(hidden), hidden.mean(1))
    assert_close(model.pool(hidden, REAL, "first"), hidden[:, 0])
    assert_close(model.pool(hidden, REAL.flip(1), "first"), hidden[torch.arange(3), torch.tensor([0, 7, 4])])
    with pytest.raises(ValueError, match="how is 'last', expected one of mean, first"):
        model.pool(hidden, how="last")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="boolean"):
        model.pool(hidden, REAL.float())


def test_how_it_starts() -> None:
    model = EncoderOnly(EncoderConfig.of(**SIZES | {"d_model": 192, "d_ff": 256, "vocab_size": 499}))
    for name, weight in model.named_parameters():
        if weight.dim() == 2:
            assert weight.std().item() == pytest.approx(0.02, rel=0.1), name
        else:
            assert set(weight.tolist()) == {1.0 if name.endswith("norm.weight") else 0.0}, name


@variants
def test_what_it_says_of_itself(changes: dict[str, Any]) -> None:
    model = small_encoder(**changes)
    gated_or_not = 4 * D * D + 2 * 37 * D
    assert forward_flops(model, T) == 2 * (2 * gated_or_not + D * D + V * D) + 2 * 4 * D * T
    assert {id(m) for m in matrices(model)} == {
        id(part.weight) for part in model.encoder.modules() if isinstance(part, nn.Linear)
    }
    found = describe(model)
    assert sum(count for name, count in found.parameters if not name.startswith(" ")) == found.total
    assert dict(found.parameters)["head's projection"] == D * D + D + (D if "norm" in changes else 2 * D)
    assert found.cache_bytes == 0
    for part in model.modules():
        if hasattr(part, "table"):  # sinusoids are not weights
            part.table.zero_()
    ids, order = tokens(), torch.randperm(D)
    wanted = model(ids)
    with torch.no_grad():
        for name, axes in residual_axes(model).items():
            for axis in axes:
                weight = model.get_parameter(name)
                weight.copy_(weight.index_select(axis, order))
    assert_close(model(ids), wanted, rtol=1e-4, atol=1e-4)


def test_masked_words_can_be_learned() -> None:
    """Tokens count up by one: what is hidden follows from what is not."""
    torch.manual_seed(0)
    config = EncoderConfig.of(
        **SIZES | {"dropout": 0.0, "attention.dropout": 0.0, "norm_position": "pre", "embedding_norm": False}
    )
    model = EncoderOnly(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(150):
        texts = torch.arange(T) + torch.randint(2, V - T, (32, 1))
        hidden = torch.rand(texts.shape) < 0.2
        logits = model(texts.masked_fill(hidden, 1))
        loss = nn.functional.cross_entropy(logits[hidden], texts[hidden])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 2.0  # who knows of no other token has 3.4 at best


def test_it_is_built_from_its_configuration() -> None:
    config = EncoderConfig.of(**SIZES)
    assert isinstance(tz.zoo.build(config), EncoderOnly)
    for use in (lambda: tz.generate(small_encoder(), [[1]]), lambda: tz.pack(small_encoder())):  # type: ignore
        with pytest.raises(tz.UserError, match="takes a DecoderOnly or an EncoderDecoder, not a EncoderOnly"):
            use()
    with pytest.raises(tz.UserError, match="takes a decoder-only model, and this is an encoder"):
        check_decoder_only(small_encoder(), "text_score")


@variants
def test_kernels_compute_their_formulas(changes: dict[str, Any]) -> None:
    model, ids = small_encoder(**changes), tokens()
    outs = []
    for how in (kernels.plain, nullcontext):
        with how():
            logits = model(ids, REAL)
            outs.append([logits[REAL], *torch.autograd.grad(logits[REAL].square().mean(), [*model.parameters()])])
    assert_close(outs[0], outs[1], rtol=1e-4, atol=1e-5)


@variants
def test_layers_that_are_computed_again(changes: dict[str, Any]) -> None:
    model, ids = small_encoder(**changes | {"dropout": 0.0, "attention.dropout": 0.0}).train(), tokens()
    found = []
    for recompute in (False, True):
        model.encoder.recompute = recompute
        found.append(torch.autograd.grad(model(ids, REAL)[REAL].square().mean(), [*model.parameters()]))
    assert_close(found[0], found[1])
