"""What all families' config.json share: fields that change no logit, and names of activations."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

ACTIVATIONS = MappingProxyType({
    "relu": "relu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
    "relu2": "relu_squared",
    **{name: name for name in ("quick_gelu", "mish", "hardswish", "relu6", "leaky_relu", "sigmoid", "tanh")},
})  # fmt: skip
"""Their names -> ours."""

REFUSED = MappingProxyType({
    "auto_map": "the model comes with code of its own, which is never run",
    "custom_code": "the model comes with code of its own, which is never run",
    "quantization_config": "quantized weights are not supported",
    "pruned_heads": "heads were removed from some layers, which is not supported",
    "per_layer_config": "layers of different shapes are not supported",
})  # fmt: skip
"""Fields that no family supports, and why."""

_OTHER_KINDS: dict[str, tuple[str, str]] = {
    "it has a vision tower, and only what reads text alone is supported": (
        "(vision|image|video|visual|mm_vision)_.*", ".*(llava|vision|_vl|pix2struct|ocr|blip).*",
    ),
    "it has a sound front end, and only what reads text alone is supported": (
        "(audio|speech|codec)_.*|num_mel_bins|input_feat_per_channel|enable_audio_output",
        ".*(whisper|speech|audio|_asr|wav2vec|moonshine|music).*",
    ),
    "some of its layers are linear attention with a state that a delta rule or a decay changes: not supported": (
        "linear_(num|key|value|conv|attn).*", "rwkv.*|xlstm",
    ),
    "its layers keep a state (a state space, a recurrence or a convolution) instead of attention: not supported": (
        ".*mamba_.*|ssm_.*|state_size|lru_width|conv_L_cache", ".*(mamba|jamba).*",
    ),
}  # fmt: skip
"""Features that no model here has: the fields of config.json, or the model_type, by which they are recognised."""


def other_kind(theirs: Mapping[str, Any]) -> str | None:
    """The reason why no family has a model with these fields; None: these fields give no reason."""
    kind = str(theirs.get("model_type"))
    for why, (names, kinds) in _OTHER_KINDS.items():
        if re.fullmatch(kinds, kind) or any(re.fullmatch(names, name) for name in theirs):
            return why
    return None


_GENERIC: dict[str, tuple[str, ...]] = {
    "what the file is about, and how it was made": (
        "architectures", "model_type", "torch_dtype", "dtype", "name_or_path",
        "attn_implementation", "tokenizer_class", "prefix", "language", "languages", "transformers.js_config",
        "unsloth_fixed", "author", "custom_pipelines",
    ),
    "how results are returned, and how they are computed": (
        "return_dict", "use_return_dict", "output_hidden_states", "output_attentions", "output_past", "output_scores",
        "output_router_logits", "use_cache", "torchscript", "use_bfloat16", "tf_legacy_loss",
        "chunk_size_feed_forward", "gradient_checkpointing", "pretraining_tp", "tie_last_hidden_states",
    ),
    "other tasks than language modelling": (
        "id2label", "label2id", "num_labels", "problem_type", "finetuning_task",
        "task_specific_params", "classifier_dropout", "classif_dropout",
    ),
    "how weights start": (
        "initializer_range", "initializer_factor", "init_std",
    ),
    "special tokens that say nothing about the model itself": (
        "unk_token_id", "sep_token_id", "cls_token_id", "mask_token_id",
    ),
}  # fmt: skip

DRAWN = MappingProxyType({
    "do_sample": None, "temperature": None, "top_k": 0, "top_p": 1, "min_p": 0, "num_beams": 1, "length_penalty": None,
    "early_stopping": False, "num_return_sequences": 1, "max_new_tokens": None, "max_length": 20,
})  # fmt: skip
"""Settings of transformers' `generate` that options here correspond to, with values that mean nothing, as null does."""

WRITTEN_WITHOUT = MappingProxyType({
    "encoder_no_repeat_ngram_size": 0, "encoder_repetition_penalty": 1, "exponential_decay_length_penalty": None,
    "suppress_tokens": None, "forced_decoder_ids": None, "bad_words_ids": None,
    "force_words_ids": None, "constraints": None, "sequence_bias": None, "guidance_scale": 1, "penalty_alpha": 0,
    "diversity_penalty": 0, "watermarking_config": None, "top_h": None, "typical_p": 1, "epsilon_cutoff": 0,
    "eta_cutoff": 0, "max_time": None, "renormalize_logits": False, "token_healing": False, "dola_layers": None,
    "assistant_ensemble_weight": None,
})  # fmt: skip
"""What transformers' `generate` does and nothing here does by itself, with values that do nothing, as null does."""

FOLLOWED = (
    "repetition_penalty", "no_repeat_ngram_size", "min_length", "min_new_tokens", "stop_strings", "bad_words_ids",
    "suppress_tokens", "begin_suppress_tokens", "forced_bos_token_id", "forced_eos_token_id", "bos_token_id",
    "eos_token_id", "pad_token_id", "decoder_start_token_id",
)  # fmt: skip
"""Rules that a model here follows too."""

TEXT_STAYS = (
    "num_beam_groups", "remove_invalid_values", "output_logits", "return_dict_in_generate", "cache_implementation",
    "cache_config", "max_cache_len", "low_memory", "force_bos_token_to_be_generated", "assistant_confidence_threshold",
    "assistant_early_exit", "assistant_lookbehind", "num_assistant_tokens", "num_assistant_tokens_schedule",
    "target_lookbehind", "is_assistant", "prompt_lookup_num_tokens", "max_matching_ngram_size", "speculation_type",
    "use_mtp", "compile_config", "disable_compile", "continuous_batching_config", "prefill_chunk_size",
)  # fmt: skip
"""Settings of transformers' `generate` that change no text."""

_TOKENS = frozenset(name for name in FOLLOWED if name.endswith("_token_id") and not name.startswith("forced"))
GENERIC_FIELDS = (
    frozenset(name for names in _GENERIC.values() for name in names).union(DRAWN, WRITTEN_WITHOUT, TEXT_STAYS, FOLLOWED)
    - _TOKENS
)
"""These fields change no logit of any family, unless a family reads them. The same holds for fields that begin with _
or are a version; they describe the file."""
