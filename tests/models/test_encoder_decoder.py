"""The whole model: against torch's, its invariances, its weights by name."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.testing import assert_close

import transformer_zoo as tz
from tests.blocks.naive import Pairs, assert_same_gradients, copy_from, layer_pairs
from tests.models.helpers import VARIANTS, real, small_model, tokens
from transformer_zoo import EncoderDecoder
from transformer_zoo.blocks import sinusoids
from transformer_zoo.config.changes import value_at

variants = pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())


def torch_transformer(model: EncoderDecoder) -> tuple[nn.Transformer, Pairs]:
    """nn.Transformer of the same shape; its own stacks would add a norm that post-norm has not."""
    c = model.config
    pre = c.encoder.norm_position == "pre"
    n_heads = value_at(c, "n_heads")
    options: dict[str, Any] = {
        "dim_feedforward": value_at(c, "d_ff"),
        "dropout": 0.0,
        "batch_first": True,
        "norm_first": pre,
    }
    norms = [nn.LayerNorm(c.d_model) if pre else None for _ in range(2)]
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(c.d_model, n_heads, **options),
        c.encoder.n_layers,
        norms[0],
        enable_nested_tensor=False,
    )
    decoder = nn.TransformerDecoder(
        nn.TransformerDecoderLayer(c.d_model, n_heads, **options), c.decoder.n_layers, norms[1]
    )
    theirs = nn.Transformer(c.d_model, n_heads, custom_encoder=encoder, custom_decoder=decoder, batch_first=True)
    pairs: Pairs = {}
    for our_stack, their_stack in ((model.encoder, encoder), (model.decoder, decoder)):
        for our_layer, their_layer in zip(our_stack.layers, their_stack.layers, strict=True):
            pairs |= layer_pairs(our_layer, their_layer)
        if pre:
            pairs[our_stack.final_norm.weight] = (their_stack.norm.weight, slice(None))
            pairs[our_stack.final_norm.bias] = (their_stack.norm.bias, slice(None))
    return theirs, pairs


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("norm_position", ["post", "pre"])
def test_the_stack_agrees_with_torch(norm_position: str, masked: bool, dtype: torch.dtype) -> None:
    model = small_model(norm_position=norm_position, dropout=0.0, max_seq_len=16)
    theirs, pairs = torch_transformer(model)
    copy_from(pairs)
    model, theirs = model.train().to(dtype), theirs.train().to(dtype)
    weight = model.embedding.weight.detach().clone().requires_grad_()
    assert set(model.parameters()) == {*pairs, model.embedding.weight}

    def embed(ids: Tensor) -> Tensor:
        return F.embedding(ids, weight, padding_idx=0) * 12**0.5 + sinusoids(torch.arange(ids.size(1)), 12).to(dtype)

    source, target = tokens(3, 7), tokens(3, 5)
    source_mask, target_mask = (real([7, 3, 1]), real([2, 5, 4])) if masked else (None, None)
    got = model(source, target, source_mask, target_mask)
    hidden = theirs(
        embed(source),
        embed(target),
        tgt_mask=~torch.ones(5, 5, dtype=torch.bool).tril(),
        src_key_padding_mask=~source_mask if masked else None,
        tgt_key_padding_mask=~target_mask if masked else None,
        memory_key_padding_mask=~source_mask if masked else None,
    )
    wanted = hidden @ weight.T
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    assert_close(got, wanted, rtol=tolerance, atol=tolerance)
    upstream = F.normalize(torch.randn_like(got).flatten(), dim=0).view_as(got)
    got.backward(upstream)
    wanted.backward(upstream)
    assert_same_gradients(pairs, tolerance)
    assert_close(model.embedding.weight.grad, weight.grad, rtol=tolerance, atol=tolerance)


@variants
def test_later_target_tokens_change_nothing_before_them(changes: dict[str, Any]) -> None:
    model, source, target = small_model(**changes), tokens(2, 5), tokens(2, 8)
    changed = target.clone()
    changed[:, 5:] = tokens(2, 3)
    before, after = model(source, target), model(source, changed)
    assert_close(after[:, :5], before[:, :5], rtol=0, atol=1e-5)
    assert not torch.allclose(after[:, 5:], before[:, 5:], atol=1e-3)
    assert_close(model(source, target[:, :5]), before[:, :5], rtol=0, atol=1e-5)


def test_every_source_token_reaches_every_target_token() -> None:
    model, source, target = small_model(), tokens(1, 5), tokens(1, 4)
    before = model(source, target)
    for i in range(5):
        changed = source.clone()
        changed[0, i] = 4 if source[0, i] != 4 else 5
        assert ((model(changed, target) - before).abs().amax(-1) > 1e-5).all()


@variants
@pytest.mark.parametrize("padding", [1, 4])
def test_padding_on_both_sides_changes_no_real_token(changes: dict[str, Any], padding: int) -> None:
    """Neither the ids of padding nor its length change anything. A pad that is attended would show, whatever its id."""
    model, source, target = small_model(**changes), tokens(2, 5), tokens(2, 6)
    alone = model(source, target)
    for fill in (0, 11):
        tail = torch.full((2, padding), fill)
        source_mask, target_mask = real([5, 5], 5 + padding), real([6, 6], 6 + padding)
        padded = model(torch.cat([source, tail], 1), torch.cat([target, tail], 1), source_mask, target_mask)
        assert_close(padded[:, :6], alone, rtol=1e-5, atol=1e-5)
        assert padded.isfinite().all()


def test_an_unmasked_pad_would_show() -> None:
    model, source, target = small_model(), tokens(1, 5), tokens(1, 6)
    padded = F.pad(source, (0, 2))
    assert not torch.allclose(model(padded, target), model(source, target), atol=1e-3)
    assert_close(model(padded, target, real([5], 7)), model(source, target), rtol=1e-5, atol=1e-5)


@variants
def test_a_row_does_not_depend_on_its_batch(changes: dict[str, Any]) -> None:
    model = small_model(**changes)
    source_lengths, target_lengths = [7, 3, 1, 5], [4, 8, 2, 1]
    source, target = tokens(4, 7), tokens(4, 8)
    source_mask, target_mask = real(source_lengths), real(target_lengths)
    together = model(source, target, source_mask, target_mask)
    for i, (s, t) in enumerate(zip(source_lengths, target_lengths, strict=True)):
        alone = model(source[i : i + 1, :s], target[i : i + 1, :t])
        assert_close(together[i : i + 1, :t], alone, rtol=1e-5, atol=1e-5)
    order = torch.tensor([2, 0, 3, 1])
    permuted = model(source[order], target[order], source_mask[order], target_mask[order])
    assert_close(permuted, together[order], rtol=1e-5, atol=1e-5)


def test_an_empty_source_gives_finite_logits_and_gradients() -> None:
    model = small_model().train()
    logits = model(tokens(2, 3), tokens(2, 4), real([3, 0]))
    logits.square().sum().backward()
    assert logits.isfinite().all()
    assert all(w.grad is not None and w.grad.isfinite().all() for w in model.parameters())


@variants
def test_the_parts_make_the_whole(changes: dict[str, Any]) -> None:
    model, source, target = small_model(**changes), tokens(2, 5), tokens(2, 4)
    source_mask, target_mask = real([5, 3]), real([2, 4])
    whole = model(source, target, source_mask, target_mask)
    hidden = model.hidden(source, target, source_mask, target_mask)
    assert hidden.shape == (2, 4, 12)
    assert torch.equal(model.logits(hidden), whole)
    assert_close(hidden @ model.head_weight.T + (0 if model.logit_bias is None else model.logit_bias), whole)
    memory = model.encode(source, source_mask)
    assert memory.shape == (2, 5, 12)
    assert torch.equal(model.decode(target, memory, source_mask, target_mask), whole)
    assert whole.shape == (2, 4, model.config.target_vocab_size or 19)


def test_a_target_mask_holds_beside_an_attention_mask() -> None:
    model, source, target = small_model(), tokens(2, 5), tokens(2, 6)
    memory, triangle = model.encode(source), torch.ones(6, 6, dtype=torch.bool).tril()[None, None]
    mask = torch.tensor([[False, False, True, True, True, True], [True] * 6])  # padded on the left
    positions = torch.tensor([[0, 0, 0, 1, 2, 3], [0, 1, 2, 3, 4, 5]])
    got = model.decode(target, memory, target_mask=mask, positions=positions, attention_mask=triangle)
    wanted = model.decode(target[:1, 2:], memory[:1])
    assert_close(got[:1, 2:], wanted, rtol=1e-5, atol=1e-5)


def test_dropout_only_in_training_and_by_torchs_seed() -> None:
    model, source, target = small_model(dropout=0.3), tokens(2, 5), tokens(2, 4)
    assert torch.equal(model(source, target), model(source, target))
    model.train()
    torch.manual_seed(4)
    first = model(source, target)
    assert not torch.equal(first, model(source, target))
    torch.manual_seed(4)
    assert torch.equal(first, model(source, target))


def test_learned_positions_end_where_the_config_says() -> None:
    model = small_model(positions="learned", max_seq_len=6)
    model(tokens(1, 6), tokens(1, 6))
    with pytest.raises(ValueError, match="7 tokens are more than max_seq_len 6"):
        model(tokens(1, 7), tokens(1, 6))
    with pytest.raises(ValueError, match="7 tokens are more than max_seq_len 6"):
        model(tokens(1, 6), tokens(1, 7))


def test_masks_that_are_not_boolean_are_refused() -> None:
    with pytest.raises(ValueError, match="booleans"):
        small_model()(tokens(1, 3), tokens(1, 2), torch.ones(1, 3))


# Weights by name: files on people's disks hold these.

ATTENTION = [f"{p}_proj.{w}" for p in "qkv" for w in ("weight", "bias")] + [
    "out_proj.weight",
    "out_proj.bias",
]
FEED_FORWARD = ["up_proj.weight", "up_proj.bias", "down_proj.weight", "down_proj.bias"]
NORM = ["weight", "bias"]


def layer_names(stack: str, layer: int) -> list[str]:
    parts = {"attn": ATTENTION, "attn_norm": NORM}
    parts |= {"cross_attn": ATTENTION, "cross_attn_norm": NORM} if stack == "decoder" else {}
    parts |= {"ffn": FEED_FORWARD, "ffn_norm": NORM}
    return [f"{stack}.layers.{layer}.{part}.{name}" for part, names in parts.items() for name in names]


TINY = [name for i in range(4) for stack in ("encoder", "decoder") for name in layer_names(stack, i)]


@pytest.mark.parametrize(
    ("changes", "others"),
    [
        ({}, ["embedding.weight"]),
        ({"share_embeddings": "decoder"}, ["source_embedding.weight", "target_embedding.weight"]),
        ({"share_embeddings": "none"}, ["source_embedding.weight", "target_embedding.weight", "head.weight"]),
        (
            {"norm_position": "pre"},
            ["embedding.weight"] + [f"{stack}.final_norm.{w}" for stack in ("encoder", "decoder") for w in NORM],
        ),
        (
            {"positions": "learned"},
            ["embedding.weight", "encoder.positions.weight", "decoder.positions.weight"],
        ),
    ],
)
def test_weight_names_are_a_contract(changes: dict[str, Any], others: list[str]) -> None:
    model = tz.create_model("transformer-tiny", vocab_size=10, **changes)
    assert sorted(model.state_dict()) == sorted(TINY + others)
    assert sorted(name for name, _ in model.named_parameters()) == sorted(TINY + others)


def test_weight_names_written_out() -> None:
    """One layer of each stack as plain text, so that a change of the helper above cannot hide one."""
    names = set(tz.create_model("transformer-tiny", vocab_size=10).state_dict())
    for name in [
        "embedding.weight",
        "encoder.layers.0.attn.q_proj.weight",
        "encoder.layers.0.attn.k_proj.bias",
        "encoder.layers.3.attn.v_proj.weight",
        "encoder.layers.3.attn.out_proj.weight",
        "encoder.layers.0.attn_norm.weight",
        "encoder.layers.0.ffn.up_proj.weight",
        "encoder.layers.0.ffn.down_proj.bias",
        "encoder.layers.0.ffn_norm.bias",
        "decoder.layers.0.attn.q_proj.weight",
        "decoder.layers.0.cross_attn.k_proj.weight",
        "decoder.layers.3.cross_attn.out_proj.bias",
        "decoder.layers.3.cross_attn_norm.weight",
        "decoder.layers.3.ffn.up_proj.weight",
        "decoder.layers.3.ffn_norm.weight",
    ]:
        assert name in names
    assert len(names) == 4 * (16 + 26) + 1


def test_weight_shapes_are_a_contract() -> None:
    shapes = {n: tuple(w.shape) for n, w in tz.create_model("transformer-tiny", vocab_size=10).state_dict().items()}
    assert shapes["embedding.weight"] == (10, 128)
    assert shapes["decoder.layers.2.cross_attn.q_proj.weight"] == (128, 128)
    assert shapes["decoder.layers.2.ffn.up_proj.weight"] == (256, 128)
    assert shapes["decoder.layers.2.ffn.down_proj.weight"] == (128, 256)
    assert shapes["decoder.layers.2.ffn.up_proj.bias"] == (256,)


@variants
def test_round_trip_through_safetensors(tmp_path: Path, changes: dict[str, Any]) -> None:
    model, other = small_model(**changes), small_model(**changes)
    source, target = tokens(2, 5), tokens(2, 4)
    assert not torch.equal(other(source, target), model(source, target))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(other(source, target), model(source, target))


@pytest.mark.parametrize("share", ["all", "decoder", "none"])
def test_what_is_shared_is_one_matrix(share: str) -> None:
    model = small_model(share_embeddings=share)
    model(tokens(1, 3), torch.tensor([[2, 5]])).sum().backward()
    matrices = [name for name, w in model.named_parameters() if w.size(0) == 19]
    assert len(matrices) == {"all": 1, "decoder": 2, "none": 3}[share]
    assert (model.head_weight is model.get_parameter(matrices[-1])) or share == "none"
    if share == "none":
        assert model.head_weight is model.get_parameter("head.weight")
    assert all(w.grad is not None for w in model.parameters())


def test_fresh_weights_follow_the_paper() -> None:
    """Embeddings with variance 1 / d_model and a zero pad row; no norm, bias or position of its own value."""
    model = tz.create_model("transformer-tiny", vocab_size=3000)
    embedding = model.get_parameter("embedding.weight").detach()
    assert embedding[0].count_nonzero() == 0
    assert embedding[1:].std().item() == pytest.approx(128**-0.5, rel=0.01)
    for name, weight in model.named_parameters():
        if weight.dim() == 1:
            assert (weight == float("norm.weight" in name)).all(), name


def test_it_compiles_without_a_break() -> None:
    torch.compiler.reset()
    model = small_model(n_encoder_layers=1, n_decoder_layers=1)
    compiled = torch.compile(model, fullgraph=True, backend="eager", dynamic=True)
    for source, target in ((tokens(2, 5), tokens(2, 4)), (tokens(3, 7), tokens(3, 6))):
        masks = real([source.size(1)] * source.size(0)), real([target.size(1)] * target.size(0))
        assert_close(compiled(source, target, *masks), model(source, target), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch's own, on loading its compiler
@pytest.mark.skipif(not (shutil.which("c++") or shutil.which("g++")), reason="needs a C++ compiler")
def test_a_compiled_step_of_training_has_the_same_gradients() -> None:
    torch.compiler.reset()
    model = small_model(dropout=0.0, n_encoder_layers=1, n_decoder_layers=1).train()
    compiled = torch.compile(model, fullgraph=True)
    source, target = tokens(2, 5), tokens(2, 4)
    gradients = []
    for run in (model, compiled):
        model.zero_grad()
        run(source, target, real([5, 3]), real([2, 4])).square().mean().backward()
        gradients.append([w.grad.clone() for w in model.parameters() if w.grad is not None])
    assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-5)
