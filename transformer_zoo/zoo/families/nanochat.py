"""nanochat's model, whose norms learn nothing: squared ReLU, and norms over the embedding, queries and keys."""

from dataclasses import replace

from transformer_zoo.config import RMSNormSpec
from transformer_zoo.zoo.families.llama import LLAMA
from transformer_zoo.zoo.huggingface.common import ACTIVATIONS
from transformer_zoo.zoo.huggingface.family import Field, Weight, layers
from transformer_zoo.zoo.huggingface.parts import TEXT_ONLY, text_ids
from transformer_zoo.zoo.huggingface.rope import rotation

_STILL = RMSNormSpec(learned="nothing")
# In transformers the norm of queries and keys comes after the rotation. That changes nothing if the norm has no weight
# and the rotation does not change lengths, as yarn does.
_LAYER: dict[str, str | Weight] = {
    "attn.q_proj": Weight("self_attn.q_proj", mirrored=True),
    "attn.k_proj": Weight("self_attn.k_proj", mirrored=True),
    "attn.v_proj": "self_attn.v_proj",
    "attn.out_proj": "self_attn.o_proj",
    "ffn.up_proj": "mlp.fc1",
    "ffn.down_proj": "mlp.fc2",
}

NANOCHAT = replace(
    LLAMA,
    model_type="nanochat",
    architecture="NanoChatForCausalLM",
    constants={
        **{name: value for name, value in LLAMA.constants.items() if name != "gated"},
        "norm": _STILL,
        "embedding_norm": True,
        "attention.qk_norm": _STILL,
        "activation": "relu_squared",
        "logit_softcap": 15.0,
    },
    sizes={},
    fields={
        **{name: entry for name, entry in LLAMA.fields.items() if name != "ffn.bias"},
        "vocab_size": Field("vocab_size", 50304),
        "d_model": Field("hidden_size", 768),
        "n_heads": Field("num_attention_heads", 6),
        "n_layers": Field("num_hidden_layers", 12),
        "d_ff": Field("intermediate_size", 8192),
        "activation": Field("hidden_act", "relu2", ACTIVATIONS),
        "attention.qk_norm.eps": Field("rms_norm_eps", 1e-6),
        "logit_softcap": Field("final_logit_softcapping", 15.0),
    },
    parts=(rotation(scalings=("linear", "llama3")), text_ids(bos=0, eos=1, pad=1)),
    required=TEXT_ONLY,
    ignored=(),
    weights={
        "embedding": "model.embed_tokens",
        **layers("decoder.layers.{i}", "model.layers.{i}", _LAYER),
        "head": "lm_head",
    },
)
"""Karpathy 2025, "nanochat"."""

FAMILIES = (NANOCHAT,)
