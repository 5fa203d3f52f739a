"""Llama 2 and 3, Mistral, Qwen 2 and Qwen 3."""

from dataclasses import replace

from transformer_zoo.config import DecoderConfig
from transformer_zoo.zoo.huggingface.common import ACTIVATIONS
from transformer_zoo.zoo.huggingface.family import Family, Field, layers
from transformer_zoo.zoo.huggingface.parts import TEXT_ONLY, WINDOW_FROM_A_LAYER, rotation, text_ids

LLAMA = Family(
    model_type="llama",
    architecture="LlamaForCausalLM",
    config=DecoderConfig,
    fields={
        "vocab_size": Field("vocab_size", 32000),
        "d_model": Field("hidden_size", 4096),
        "n_heads": Field("num_attention_heads", 32),
        "n_kv_heads": Field("num_key_value_heads", None),
        "head_dim": Field("head_dim", None),
        "n_layers": Field("num_hidden_layers", 32),
        "d_ff": Field("intermediate_size", 11008),
        "max_seq_len": Field("max_position_embeddings", 2048),
        "activation": Field("hidden_act", "silu", ACTIVATIONS),
        "norm_eps": Field("rms_norm_eps", 1e-6),
        "bias": Field("attention_bias", False),
        "ffn_bias": Field("mlp_bias", False),
        "tie_embeddings": Field("tie_word_embeddings", False),
        "attention_dropout": Field("attention_dropout", 0.0),
    },
    parts=(rotation(), text_ids(bos=1, eos=2)),
    constants={"norm": "rmsnorm", "gated": True, "dropout": 0.0},
    required={**TEXT_ONLY, "rope_interleaved": (False,)},
    ignored=("is_llama_config", "max_sequence_length"),
    weights={
        "embedding": "model.embed_tokens",
        **layers(
            "decoder.layers.{i}",
            "model.layers.{i}",
            {
                "attn_norm": "input_layernorm",
                "attn.q_proj": "self_attn.q_proj",
                "attn.k_proj": "self_attn.k_proj",
                "attn.v_proj": "self_attn.v_proj",
                "attn.out_proj": "self_attn.o_proj",
                "attn.q_norm": "self_attn.q_norm",
                "attn.k_norm": "self_attn.k_norm",
                "ffn_norm": "post_attention_layernorm",
                "ffn.gate_proj": "mlp.gate_proj",
                "ffn.up_proj": "mlp.up_proj",
                "ffn.down_proj": "mlp.down_proj",
            },
        ),
        "decoder.final_norm": "model.norm",
        "head": "lm_head",
    },
    prefix="model.",
    unused=("model.layers.{i}.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq"),
)
"""Touvron et al. 2023; Grattafiori et al. 2024."""

# Their projections of the attention's output and of the feed-forward have no field for a bias, and none.
_SHAPE = {name: entry for name, entry in LLAMA.fields.items() if name not in ("bias", "ffn_bias")}

MISTRAL = replace(
    LLAMA,
    model_type="mistral",
    architecture="MistralForCausalLM",
    fields={
        **_SHAPE,
        "n_kv_heads": Field("num_key_value_heads", 8),
        "d_ff": Field("intermediate_size", 14336),
        "max_seq_len": Field("max_position_embeddings", 131072),
        "sliding_window": Field("sliding_window", 4096),
    },
    constants={**LLAMA.constants, "bias": False},
    required=TEXT_ONLY,
    ignored=(),
)
"""Jiang et al. 2023."""

QWEN2 = replace(
    MISTRAL,
    model_type="qwen2",
    architecture="Qwen2ForCausalLM",
    fields={
        **_SHAPE,
        "vocab_size": Field("vocab_size", 151936),
        "n_kv_heads": Field("num_key_value_heads", 32),
        "d_ff": Field("intermediate_size", 22016),
        "max_seq_len": Field("max_position_embeddings", 32768),
    },
    parts=(rotation(), WINDOW_FROM_A_LAYER, text_ids(bos=None, eos=None)),
    constants={**LLAMA.constants, "bias": False, "qkv_bias": True},
    required={**TEXT_ONLY, "use_mrope": (False,)},
)
"""Yang et al. 2024, "Qwen2 Technical Report"."""

QWEN3 = replace(
    QWEN2,
    model_type="qwen3",
    architecture="Qwen3ForCausalLM",
    fields={**QWEN2.fields, "head_dim": Field("head_dim", 128), "bias": LLAMA.fields["bias"]},
    constants={**LLAMA.constants, "ffn_bias": False, "qk_norm": True},
    required=TEXT_ONLY,
)
"""Yang et al. 2025, "Qwen3 Technical Report"."""

FAMILIES = (LLAMA, MISTRAL, QWEN2, QWEN3)
