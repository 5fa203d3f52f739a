"""DecoderOnly against Hugging Face's models, with caches and without, and its invariances."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tests.models.helpers import GPT, GPT_VARIANTS, small_gpt
from transformer_zoo import DecoderConfig, DecoderOnly
from transformer_zoo.blocks import forward_flops
from transformer_zoo.config import Llama3Spec

V, D, T = GPT["vocab_size"], GPT["d_model"], 11
variants = pytest.mark.parametrize("changes", GPT_VARIANTS.values(), ids=GPT_VARIANTS.keys())


def tokens(rows: int = 3, n: int = T) -> Tensor:
    return torch.randint(V, (rows, n))


@variants
@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("sizes", [[1] * T, [5, 1, 5], [T]], ids=["tokens", "chunks", "at once"])
@torch.no_grad()
def test_cache_equals_no_cache(changes: dict[str, Any], sizes: list[int], static: bool) -> None:
    model, ids = small_gpt(**changes), tokens()
    cache = model.new_cache(3, capacity=13, static=static)
    pieces = [model(part, cache=cache) for part in ids.split(sizes, dim=1)]
    assert_close(torch.cat(pieces, dim=1), model(ids), rtol=1e-4, atol=1e-4)


@variants
@pytest.mark.parametrize("static", [False, True])
@torch.no_grad()
def test_what_a_cache_drops_was_never_read(changes: dict[str, Any], static: bool) -> None:
    model, ids, others = small_gpt(**changes), tokens(), tokens()
    cache = model.new_cache(3, capacity=13, static=static)
    model(ids[:, :5], cache=cache)
    model(torch.cat([ids[:, 5:7], others[:, 7:10]], dim=1), cache=cache)
    cache.drop(3)
    assert_close(model(ids[:, 7:], cache=cache), model(ids)[:, 7:], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_what_is_dropped_in_two_steps_or_after_a_choice_of_rows() -> None:
    model, ids = small_gpt(ngrams={"n": 3, "rows": 101}), tokens()
    cache = model.new_cache(3, capacity=13)
    model(ids, cache=cache)
    cache.drop(2)
    cache.select(torch.tensor([2, 0]))
    cache.drop(1)
    assert_close(model(ids[[2, 0], T - 3 :], cache=cache), model(ids)[[2, 0], T - 3 :], rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="12 tokens cannot be dropped from a cache of 11"):
        cache.drop(12)


@variants
@torch.no_grad()
def test_a_static_cache_places_tokens_by_a_mask_of_its_capacity(changes: dict[str, Any]) -> None:
    model, ids = small_gpt(**changes), tokens()
    mask = torch.arange(13) >= torch.tensor([[0], [2], [5]])
    caches = [model.new_cache(3, capacity=13, static=static) for static in (True, False)]
    for start, stop in ((0, 6), (6, T)):
        static = model(ids[:, start:stop], mask, cache=caches[0])
        growing = model(ids[:, start:stop], mask[:, :stop], cache=caches[1])
        real = mask[:, start:stop]
        assert_close(static[real], growing[real], rtol=1e-4, atol=1e-4)


@variants
@torch.no_grad()
def test_an_empty_batch_gives_nothing(changes: dict[str, Any]) -> None:
    model = small_gpt(**changes)
    assert model(torch.zeros(0, 5, dtype=torch.int64)).shape == (0, 5, V)


@variants
@torch.no_grad()
def test_left_padding_changes_nothing(changes: dict[str, Any]) -> None:
    """Rows of different length as one batch, then two more tokens of each with the cache: as each alone."""
    model, lengths = small_gpt(**changes), [T, 4, 1]
    ids, more = tokens(), tokens(3, 2)
    mask = torch.arange(T) >= T - torch.tensor(lengths)[:, None]
    cache = model.new_cache(3, capacity=T + 2)
    got = model(ids, mask, cache=cache)
    mask = torch.cat([mask, torch.ones(3, 2, dtype=torch.bool)], dim=1)
    after = model(more, mask, cache=cache)
    for row, n in enumerate(lengths):
        alone = model(torch.cat([ids[row, T - n :], more[row]])[None])[0]
        assert_close(got[row, T - n :], alone[:n], rtol=1e-4, atol=1e-4)
        assert_close(after[row], alone[n:], rtol=1e-4, atol=1e-4)


@variants
@torch.no_grad()
def test_the_future_is_not_seen(changes: dict[str, Any]) -> None:
    model, ids = small_gpt(**changes), tokens()
    changed = ids.clone()
    changed[:, 6:] = (changed[:, 6:] + 1) % V
    before, after = model(ids), model(changed)
    assert_close(before[:, :6], after[:, :6])
    assert not torch.allclose(before[:, 6], after[:, 6])


@variants
@torch.no_grad()
def test_documents_side_by_side_are_as_if_alone(changes: dict[str, Any]) -> None:
    model, ids = small_gpt(**changes), tokens(2)
    documents = torch.tensor([[0] * 4 + [1] * 7, [3] + [5] * 9 + [6]])
    got = model(ids, documents=documents)
    for row, cuts in enumerate([(0, 4, 11), (0, 1, 10, 11)]):
        for start, stop in pairwise(cuts):
            assert_close(got[row, start:stop], model(ids[row : row + 1, start:stop])[0], rtol=1e-4, atol=1e-4)


def test_recomputing_gives_the_same_gradients() -> None:
    model, ids = small_gpt(dropout=0.0, attention_dropout=0.0).train(), tokens()
    gradients = []
    for recompute in (False, True):
        model.decoder.recompute = recompute
        model.zero_grad()
        model(ids).square().mean().backward()
        gradients.append([p.grad for p in model.parameters()])
    assert_close(gradients[0], gradients[1])


def test_recomputing_with_weights_that_were_lent_is_refused() -> None:
    """Outside torch.func the backward pass comes after the call, when the module has its own weights again."""
    model, ids = small_gpt(dropout=0.0, attention_dropout=0.0).train(), tokens()
    model.decoder.recompute = True
    lent = {name: (2 * p).detach().requires_grad_() for name, p in model.named_parameters()}
    loss = torch.func.functional_call(model, lent, (ids,)).square().mean()
    with pytest.raises(RuntimeError, match=r"^recompute: .* for the forward pass only"):
        loss.backward()
    model.decoder.recompute = False
    torch.func.functional_call(model, lent, (ids,)).square().mean().backward()
    assert all(p.grad is not None for p in lent.values())


def test_the_rows_that_pad_the_vocabulary_give_no_logit() -> None:
    model = small_gpt(vocab_multiple=16)
    assert model.head_weight.shape == (64, D)
    assert model(tokens()).shape == (3, T, V)


def test_learned_positions_end_where_they_end() -> None:
    with pytest.raises(ValueError, match="18 tokens are more than max_seq_len 17"):
        small_gpt()(tokens(1, 18))
    assert small_gpt(positions="rotary")(tokens(1, 18)).shape == (1, 18, V)


def test_gpt2s_start() -> None:
    model = DecoderOnly(DecoderConfig.of(vocab_size=997, d_model=192, n_heads=4, d_ff=512, n_layers=8))
    layer: Any = model.decoder.layers[3]
    for weight, std in [
        (model.embedding.weight, 0.02),
        (layer.attn.q_proj.weight, 0.02),
        (layer.ffn.up_proj.weight, 0.02),
        (layer.attn.out_proj.weight, 0.005),
        (layer.ffn.down_proj.weight, 0.005),
    ]:
        assert weight.std().item() == pytest.approx(std, rel=0.05)
    assert not any(p.any() for name, p in model.named_parameters() if name.endswith("bias"))
    assert "head.weight" not in model.state_dict()


def test_a_start_at_zero_predicts_evenly() -> None:
    logits = DecoderOnly(DecoderConfig.of(**GPT, init="zero_out", tie_embeddings=False))(tokens())
    assert not logits.any()


def test_flops_by_hand() -> None:
    """One layer of width 2, one head, inner width 3, 5 tokens of vocabulary, window of 7."""
    config = DecoderConfig.of(vocab_size=5, d_model=2, n_heads=1, d_ff=3, n_layers=1, max_seq_len=7)
    products = 4 * 2 * 2 + 2 * 2 * 3 + 5 * 2
    assert forward_flops(DecoderOnly(config), 7) == 2 * products + 2 * 2 * 7 * 2


# Our weight: theirs, without the prefix of the layer; GPT-2 keeps its matrices transposed, q, k and v in one.
LLAMA = {
    "attn.q_proj": "self_attn.q_proj", "attn.k_proj": "self_attn.k_proj", "attn.v_proj": "self_attn.v_proj",
    "attn.out_proj": "self_attn.o_proj", "attn.q_norm": "self_attn.q_norm", "attn.k_norm": "self_attn.k_norm",
    "ffn.gate_proj": "mlp.gate_proj", "ffn.up_proj": "mlp.up_proj", "ffn.down_proj": "mlp.down_proj",
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
}  # fmt: skip


def renamed(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of Llama and Qwen 3 under our names."""
    outside = {"model.embed_tokens.weight": "embedding.weight", "model.norm.weight": "decoder.final_norm.weight"}
    ours = {outside.get(name, name.replace("lm_head", "head")): w for name, w in theirs.items() if "layers" not in name}
    for name, weight in theirs.items():
        if "layers" in name:
            number, part = name.removeprefix("model.layers.").split(".", 1)
            mine = next(o for o, t in LLAMA.items() if part.rpartition(".")[0] == t)
            ours[f"decoder.layers.{number}.{mine}.{part.rpartition('.')[2]}"] = weight
    return ours


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
@torch.no_grad()
def test_logits_of_llama_3_and_qwen_3(kind: str) -> None:
    transformers = pytest.importorskip("transformers")
    shape: dict[str, Any] = {
        "vocab_size": V, "hidden_size": D, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 10, "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
        "max_position_embeddings": 64,
    }  # fmt: skip
    scaling = Llama3Spec(original_max_seq_len=16)
    config = DecoderConfig.of(
        **GPT, n_kv_heads=2, head_dim=10, norm="rmsnorm", bias=False, positions="rotary", gated=True,
        activation="silu", tie_embeddings=False, **{"positions.base": 500.0},
        **({"attention.qk_norm": "rmsnorm"} if kind == "qwen3" else {"positions.scaling": scaling}),
    )  # fmt: skip
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": 500.0}
    if kind == "llama":
        rope |= {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
        rope["original_max_position_embeddings"] = 16
        theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape, rope_parameters=rope))
    else:
        theirs = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**shape, rope_parameters=rope))
    for weight in theirs.parameters():
        weight += 0.2 * torch.randn_like(weight)
    model = DecoderOnly(config).eval()
    model.load_state_dict(renamed(theirs.state_dict()))
    ids = tokens()
    assert_close(model(ids), theirs.eval()(ids).logits, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_logits_of_gpt2() -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=V, n_positions=17, n_embd=D, n_layer=2, n_head=4, n_inner=37)
    ).eval()
    for weight in theirs.parameters():
        weight += 0.2 * torch.randn_like(weight)
    w = theirs.transformer.state_dict()
    ours = {"embedding.weight": w["wte.weight"], "decoder.positions.weight": w["wpe.weight"]}
    for kind in ("weight", "bias"):
        ours[f"decoder.final_norm.{kind}"] = w[f"ln_f.{kind}"]
        for i in range(2):
            mine, them = f"decoder.layers.{i}", f"h.{i}"
            for name, part in zip("qkv", w[f"{them}.attn.c_attn.{kind}"].chunk(3, dim=-1), strict=True):
                ours[f"{mine}.attn.{name}_proj.{kind}"] = part.mT if kind == "weight" else part
            matrices = {"attn.out_proj": "attn.c_proj", "ffn.up_proj": "mlp.c_fc", "ffn.down_proj": "mlp.c_proj"}
            for a, b in matrices.items():
                value = w[f"{them}.{b}.{kind}"]
                ours[f"{mine}.{a}.{kind}"] = value.mT if kind == "weight" else value
            for a, b in {"attn_norm": "ln_1", "ffn_norm": "ln_2"}.items():
                ours[f"{mine}.{a}.{kind}"] = w[f"{them}.{b}.{kind}"]
    model = small_gpt()
    model.load_state_dict(ours)
    ids = tokens()
    assert_close(model(ids), theirs(ids).logits, rtol=1e-4, atol=1e-4)
