"""StarCoder and SantaCoder: GPT-2 whose heads share one key and one value."""

from dataclasses import replace
from typing import Any

from transformer_zoo.config import DecoderConfig
from transformer_zoo.config.changes import value_at
from transformer_zoo.zoo.families.gpt import GPT2, INNER
from transformer_zoo.zoo.huggingface.common import ACTIVATIONS
from transformer_zoo.zoo.huggingface.family import Field, Fields, Part, Weight, layers
from transformer_zoo.zoo.huggingface.parts import text_ids


def _read_heads(theirs: Fields, ours: Fields) -> dict[str, Any]:
    return {"n_kv_heads": 1 if theirs.get("multi_query", True) else None}


def _write_heads(config: DecoderConfig) -> dict[str, Any]:
    return {"multi_query": value_at(config, "n_kv_heads") == 1}


def _size(n_layers: int, d_model: int, n_heads: int, **others: Any) -> dict[str, Any]:
    """Li et al. 2023, "StarCoder: may the source be with you!", Table 9."""
    shape = {"n_layers": n_layers, "d_model": d_model, "n_heads": n_heads, "n_kv_heads": 1, "d_ff": 4 * d_model}
    return {**shape, "vocab_size": 49152, "max_seq_len": 8192, "bos_id": 0, "eos_id": 0, **others}


GPT_BIGCODE = replace(
    GPT2,
    model_type="gpt_bigcode",
    architecture="GPTBigCodeForCausalLM",
    # bigcode/tiny_starcoder_py and bigcode/starcoder.
    sizes={"tiny-starcoder": _size(20, 768, 12), "starcoder": _size(40, 6144, 48, activation="gelu")},
    fields={
        **GPT2.fields,
        "activation": Field("activation_function", "gelu_pytorch_tanh", ACTIVATIONS),
        "attention.scale": Field("scale_attn_weights", True, {True: None, False: 1.0}),
    },
    parts=(
        INNER,
        Part({"multi_query": bool}, _read_heads, _write_heads),
        text_ids(bos=50256, eos=50256, padded=False),
    ),
    ignored=(
        *GPT2.ignored, "attention_softmax_in_fp32", "scale_attention_softmax_in_fp32", "inference_runner",
        "max_batch_size", "max_sequence_length", "num_key_value_heads", "pad_key_length", "pre_allocate_kv_cache",
        "validate_runner_input",
    ),
    weights={
        **GPT2.weights,
        **layers(
            "decoder.layers.{i}",
            "transformer.h.{i}",
            {
                "attn.q_proj": Weight("attn.c_attn", part=0, groups=0),
                "attn.k_proj": Weight("attn.c_attn", part=1, groups=0),
                "attn.v_proj": Weight("attn.c_attn", part=2, groups=0),
                "attn.out_proj": "attn.c_proj",
                "ffn.up_proj": "mlp.c_fc",
                "ffn.down_proj": "mlp.c_proj",
            },
        ),
    },
)  # fmt: skip
"""Li et al. 2023."""

FAMILIES = (GPT_BIGCODE,)
