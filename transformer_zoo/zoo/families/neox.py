"""GPT-NeoX and Pythia."""

from typing import Any

from transformer_zoo.config import DecoderConfig
from transformer_zoo.zoo.huggingface.common import ACTIVATIONS
from transformer_zoo.zoo.huggingface.family import Family, Field, Weight, layers
from transformer_zoo.zoo.huggingface.parts import TEXT_ONLY, text_ids
from transformer_zoo.zoo.huggingface.rope import rotation


def _size(n_layers: int, d_model: int, n_heads: int, vocab_size: int = 50304, **others: Any) -> dict[str, Any]:
    """Black et al. 2022, "GPT-NeoX-20B: An Open-Source Autoregressive Language Model", section 2."""
    shape = {"n_layers": n_layers, "d_model": d_model, "n_heads": n_heads, "d_ff": 4 * d_model}
    still = {"dropout": 0.0, "attention_dropout": 0.0}
    positions = {"positions": "rotary", "positions.dim": d_model // n_heads // 4, "max_seq_len": 2048}
    return {"vocab_size": vocab_size, "eos_id": 0, **shape, **still, **positions, **others}


GPT_NEOX = Family(
    model_type="gpt_neox",
    architecture="GPTNeoXForCausalLM",
    config=DecoderConfig,
    constants={"ffn.bias": True, "activation": "gelu", "norm_position": "parallel", "tie_embeddings": False},
    sizes={
        # Biderman et al. 2023, "Pythia: A Suite for Analyzing Large Language Models", Table 1; the smallest from its
        # model card. Vocabularies are padded, not all to the same multiple.
        "pythia-14m": _size(6, 128, 4, max_seq_len=512),
        "pythia-70m": _size(6, 512, 8),
        "pythia-160m": _size(12, 768, 12),
        "pythia-410m": _size(24, 1024, 16),
        "pythia-1b": _size(16, 2048, 8),
        "pythia-1.4b": _size(24, 2048, 16),
        "pythia-2.8b": _size(32, 2560, 32),
        "pythia-6.9b": _size(32, 4096, 32, vocab_size=50432),
        "pythia-12b": _size(36, 5120, 40, vocab_size=50688),
        "gpt-neox-20b": _size(44, 6144, 64, vocab_size=50432, activation="gelu_tanh"),
    },
    fields={
        "vocab_size": Field("vocab_size", 50432),
        "d_model": Field("hidden_size", 6144),
        "n_heads": Field("num_attention_heads", 64),
        "n_layers": Field("num_hidden_layers", 44),
        "d_ff": Field("intermediate_size", 24576),
        "max_seq_len": Field("max_position_embeddings", 2048),
        "activation": Field("hidden_act", "gelu", ACTIVATIONS),
        "norm.eps": Field("layer_norm_eps", 1e-5),
        "norm_position": Field("use_parallel_residual", True, {True: "parallel", False: "pre"}),
        "attention.bias": Field("attention_bias", True),
        "tie_embeddings": Field("tie_word_embeddings", False),
        "dropout": Field("hidden_dropout", 0.0),
        "attention_dropout": Field("attention_dropout", 0.0),
    },
    parts=(
        rotation(base="rotary_emb_base", fraction="rotary_pct", default_fraction=0.25),
        text_ids(bos=0, eos=2, padded=False),
    ),
    required=TEXT_ONLY,
    # GPT-NeoX-20B's, from before it had a dropout.
    ignored=("attention_probs_dropout_prob", "hidden_dropout_prob"),
    weights={
        "embedding": "gpt_neox.embed_in",
        **layers(
            "decoder.layers.{i}",
            "gpt_neox.layers.{i}",
            {
                "attn_norm": "input_layernorm",
                "attn.q_proj": Weight("attention.query_key_value", part=0, groups=0),
                "attn.k_proj": Weight("attention.query_key_value", part=1, groups=0),
                "attn.v_proj": Weight("attention.query_key_value", part=2, groups=0),
                "attn.out_proj": "attention.dense",
                "ffn_norm": "post_attention_layernorm",
                "ffn.up_proj": "mlp.dense_h_to_4h",
                "ffn.down_proj": "mlp.dense_4h_to_h",
            },
        ),
        "decoder.final_norm": "gpt_neox.final_layer_norm",
        "head": "embed_out",
    },
    prefix="gpt_neox.",
    unused=(
        "gpt_neox.layers.{i}.attention.bias",
        "gpt_neox.layers.{i}.attention.masked_bias",
        "gpt_neox.layers.{i}.attention.rotary_emb.inv_freq",
        "gpt_neox.rotary_emb.inv_freq",
    ),
    renamed={"lm_head.weight": "embed_out.weight"},
)
"""Black et al. 2022; Pythia is Biderman et al. 2023."""

FAMILIES = (GPT_NEOX,)
