"""Small models of transformers with random weights: each field of a family is off its default in one of them."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel

from transformer_zoo.models import DecoderOnly, EncoderDecoder
from transformer_zoo.zoo.huggingface import from_huggingface

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

VOCAB = 97
Make = Callable[[], PreTrainedModel]
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 100.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 3.0,
    "original_max_position_embeddings": 37,
}  # fmt: skip
LINEAR = {"rope_type": "linear", "rope_theta": 1000.0, "factor": 3.0}
YARN = {
    "rope_type": "yarn", "rope_theta": 100.0, "factor": 4.0, "original_max_position_embeddings": 37, "beta_fast": 5.0,
    "beta_slow": 0.5, "truncate": False, "attention_factor": 0.7,
}  # fmt: skip
NEAR = {"rope_type": "default", "rope_theta": 77.0}
WINDOWS = ["full_attention", "sliding_attention", "full_attention"]

_GPT2 = {"vocab_size": VOCAB, "n_embd": 21, "n_layer": 3, "n_head": 3, "n_positions": 31, "resid_pdrop": 0.0}
_GPT2 |= {"embd_pdrop": 0.0, "attn_pdrop": 0.0}
_NEOX = {"vocab_size": VOCAB, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3}
_NEOX |= {"intermediate_size": 29, "max_position_embeddings": 41}
_OPT = {"vocab_size": VOCAB, "hidden_size": 21, "num_hidden_layers": 3, "num_attention_heads": 3, "ffn_dim": 29}
_OPT |= {"max_position_embeddings": 31, "dropout": 0.0}
_NEO = {"vocab_size": VOCAB, "hidden_size": 21, "num_layers": 3, "num_heads": 3, "max_position_embeddings": 31}
_NEO |= {"attention_types": [[["global", "local"], 1], [["local"], 1]], "window_size": 4}
_GPT1 = {"vocab_size": VOCAB, "n_embd": 21, "n_layer": 3, "n_head": 3, "n_positions": 31, "resid_pdrop": 0.0}
_GPT1 |= {"embd_pdrop": 0.0, "attn_pdrop": 0.0}
_MPT = {"vocab_size": VOCAB, "d_model": 21, "n_heads": 3, "n_layers": 3, "max_seq_len": 31}
_BLOOM = {"vocab_size": VOCAB, "hidden_size": 21, "n_layer": 3, "n_head": 3}
_XGLM = {"vocab_size": VOCAB, "d_model": 24, "num_layers": 3, "attention_heads": 3, "ffn_dim": 29, "dropout": 0.0}
_XGLM |= {"attention_dropout": 0.0, "max_position_embeddings": 31}
_LLAMA = {"vocab_size": VOCAB, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4}
_LLAMA |= {"num_key_value_heads": 2, "intermediate_size": 29, "max_position_embeddings": 41}
_GPTJ = {**_GPT2, "n_embd": 24, "n_head": 4}
_FALCON = {"vocab_size": VOCAB, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4}
_FALCON |= {"max_position_embeddings": 41}
_BIOGPT = {"vocab_size": VOCAB, "hidden_size": 21, "num_hidden_layers": 3, "num_attention_heads": 3}
_BIOGPT |= {"intermediate_size": 29, "max_position_embeddings": 31, "hidden_dropout_prob": 0.0}
_BIOGPT |= {"attention_probs_dropout_prob": 0.0}

TEXT_CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2", _GPT2),
    "gpt2-untied": (
        "GPT2",
        {**_GPT2, "n_inner": 29, "activation_function": "relu", "scale_attn_weights": False, "layer_norm_epsilon": 1e-2,
         "tie_word_embeddings": False},
    ),
    "gpt2-by-layer": (
        "GPT2",
        {**_GPT2, "scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True,
         "activation_function": "silu"},
    ),
    "gpt_neox": ("GPTNeoX", _NEOX),
    "gpt_neox-one-after-the-other": (
        "GPTNeoX",
        {**_NEOX, "use_parallel_residual": False, "attention_bias": False, "hidden_act": "gelu_new",
         "tie_word_embeddings": True, "layer_norm_eps": 1e-2,
         "rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 0.5}},
    ),
    "gpt_neox-linear": (
        "GPTNeoX", {**_NEOX, "rope_parameters": {**LINEAR, "partial_rotary_factor": 1.0}, "hidden_act": "relu"},
    ),
    "gpt_neox-odd": ("GPTNeoX", {**_NEOX, "rotary_pct": 0.4, "hidden_act": "mish"}),  # 3 of 8 dimensions
    "opt": ("OPT", _OPT),
    "opt-350m": ("OPT", {**_OPT, "do_layer_norm_before": False, "word_embed_proj_dim": 11}),
    "opt-bare": (
        "OPT",
        {**_OPT, "_remove_final_layer_norm": True, "enable_bias": False, "layer_norm_elementwise_affine": False,
         "activation_function": "gelu", "tie_word_embeddings": False, "pad_token_id": None},
    ),
    "bloom": ("Bloom", _BLOOM),
    "bloom-carried": (
        "Bloom",
        {**_BLOOM, "hidden_size": 35, "n_head": 5, "apply_residual_connection_post_layernorm": True,
         "layer_norm_epsilon": 1e-2, "tie_word_embeddings": False, "pretraining_tp": 5, "slow_but_exact": False},
    ),
    "xglm": ("XGLM", _XGLM),
    "xglm-odd": (
        "XGLM",
        {**_XGLM, "d_model": 21, "activation_function": "relu", "scale_embedding": False, "pad_token_id": 5,
         "tie_word_embeddings": False},
    ),
    "llama": ("Llama", {**_LLAMA, "num_key_value_heads": None}),
    "llama-3": (
        "Llama",
        {**_LLAMA, "num_key_value_heads": 1, "head_dim": 14, "attention_bias": True, "mlp_bias": True,
         "hidden_act": "gelu", "rms_norm_eps": 1e-2, "tie_word_embeddings": True, "rope_parameters": LLAMA3,
         "pad_token_id": 0},
    ),
    "llama-linear": ("Llama", {**_LLAMA, "rope_parameters": LINEAR}),
    "gpt_neo": ("GPTNeo", _NEO),
    "gpt_neo-untied": (
        "GPTNeo",
        {**_NEO, "attention_types": [[["global"], 3]], "intermediate_size": 29, "activation_function": "relu",
         "layer_norm_epsilon": 1e-2, "tie_word_embeddings": False},
    ),
    "openai-gpt": ("OpenAIGPT", _GPT1),
    "openai-gpt-silu": (
        "OpenAIGPT", {**_GPT1, "n_head": 7, "afn": "swish", "layer_norm_epsilon": 1e-2, "tie_word_embeddings": False},
    ),
    "mpt": ("Mpt", _MPT),
    "mpt-bounded": (
        "Mpt",
        {**_MPT, "d_model": 35, "n_heads": 5, "layer_norm_epsilon": 1e-2, "tie_word_embeddings": False,
         "attn_config": {"clip_qkv": 0.7, "softmax_scale": 0.3}},
    ),
    "olmo": ("Olmo", _LLAMA),
    "olmo-bounded": (
        "Olmo",
        {**_LLAMA, "num_key_value_heads": 1, "attention_bias": True, "clip_qkv": 0.7, "hidden_act": "gelu",
         "tie_word_embeddings": True, "rope_parameters": LLAMA3},
    ),
    "arcee": ("Arcee", _LLAMA),
    "arcee-biased": (
        "Arcee",
        {**_LLAMA, "head_dim": 10, "attention_bias": True, "mlp_bias": True, "hidden_act": "relu",
         "rms_norm_eps": 1e-2, "tie_word_embeddings": True, "rope_parameters": YARN},
    ),
    "seed_oss": ("SeedOss", {**_LLAMA, "head_dim": 10, "attention_dropout": 0.0, "residual_dropout": 0.0}),
    "seed_oss-biased": (
        "SeedOss",
        {**_LLAMA, "head_dim": None, "attention_dropout": 0.0, "residual_dropout": 0.0, "attention_bias": False,
         "attention_out_bias": True, "mlp_bias": True, "hidden_act": "gelu", "rms_norm_eps": 1e-2,
         "tie_word_embeddings": True, "rope_parameters": LINEAR},
    ),
    "stablelm": ("StableLm", {**_LLAMA, "hidden_size": 40, "num_attention_heads": 4}),
    "stablelm-biased": (
        "StableLm",
        {**_LLAMA, "hidden_size": 40, "num_attention_heads": 5, "num_key_value_heads": 1, "use_qkv_bias": True,
         "layer_norm_eps": 1e-2, "tie_word_embeddings": True, "hidden_act": "relu",
         "rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 0.5}},
    ),
    "stablelm-parallel": (
        "StableLm",
        {**_LLAMA, "hidden_size": 40, "use_parallel_residual": True, "qk_layernorm": True, "layer_norm_eps": 1e-2},
    ),
    "stablelm-normed": ("StableLm", {**_LLAMA, "hidden_size": 40, "num_key_value_heads": 1, "qk_layernorm": True}),
    "olmo2": ("Olmo2", _LLAMA),
    "olmo2-biased": (
        "Olmo2",
        {**_LLAMA, "num_key_value_heads": 1, "head_dim": 10, "attention_bias": True, "hidden_act": "gelu",
         "rms_norm_eps": 1e-2, "tie_word_embeddings": True, "rope_parameters": LLAMA3},
    ),
    "smollm3": ("SmolLM3", {**_LLAMA, "num_hidden_layers": 5, "pad_token_id": 1}),
    "smollm3-windows": (
        "SmolLM3",
        {**_LLAMA, "num_key_value_heads": 1, "no_rope_layers": [0, 1, 0], "use_sliding_window": True,
         "sliding_window": 4, "attention_bias": True, "mlp_bias": True, "hidden_act": "gelu", "rms_norm_eps": 1e-2,
         "tie_word_embeddings": False, "rope_parameters": YARN, "pad_token_id": None},
    ),
    "smollm3-layers": (
        "SmolLM3",
        {**_LLAMA, "no_rope_layer_interval": 2, "use_sliding_window": True, "sliding_window": 3, "pad_token_id": None,
         "layer_types": WINDOWS},
    ),
    "olmo3": ("Olmo3", {**_LLAMA, "num_hidden_layers": 5, "sliding_window": 3}),
    "olmo3-layers": (
        "Olmo3",
        {**_LLAMA, "num_key_value_heads": 1, "head_dim": 10, "attention_bias": True, "hidden_act": "gelu",
         "rms_norm_eps": 1e-2, "tie_word_embeddings": True, "sliding_window": 3, "layer_types": WINDOWS,
         "rope_parameters": {"full_attention": YARN, "sliding_attention": NEAR}},
    ),
    "cohere2": ("Cohere2", {**_LLAMA, "num_hidden_layers": 5, "sliding_window": 3, "logit_scale": 0.5}),
    "cohere2-layers": (
        "Cohere2",
        {**_LLAMA, "num_key_value_heads": None, "attention_bias": True, "hidden_act": "relu", "layer_norm_eps": 1e-2,
         "logit_scale": 0.7, "tie_word_embeddings": False, "sliding_window": 4, "layer_types": WINDOWS,
         "rope_parameters": YARN},
    ),
    "exaone4": ("Exaone4", {**_LLAMA, "num_hidden_layers": 5, "sliding_window": 3}),
    "exaone4-everywhere": (
        "Exaone4",
        {**_LLAMA, "num_key_value_heads": 1, "head_dim": 10, "sliding_window": None, "hidden_act": "gelu",
         "layer_types": ["full_attention"] * 3, "rms_norm_eps": 1e-2, "tie_word_embeddings": True,
         "rope_parameters": LLAMA3},
    ),
    "glm": ("Glm", {**_LLAMA, "head_dim": 12, "pad_token_id": 1}),
    "glm-unbiased": (  # of 5 of 10 dimensions one more turns
        "Glm",
        {**_LLAMA, "num_key_value_heads": 1, "head_dim": 10, "attention_bias": False, "hidden_act": "relu",
         "rms_norm_eps": 1e-2, "tie_word_embeddings": True, "pad_token_id": None},
    ),
    "glm4": ("Glm4", {**_LLAMA, "head_dim": 12, "pad_token_id": 1}),
    "glm4-linear": (
        "Glm4",
        {**_LLAMA, "num_key_value_heads": 4, "head_dim": 6, "attention_bias": False, "hidden_act": "relu",
         "rms_norm_eps": 1e-2, "tie_word_embeddings": True, "pad_token_id": None,
         "rope_parameters": {**LINEAR, "partial_rotary_factor": 1.0}},
    ),
    "phi": ("Phi", {**_LLAMA, "hidden_size": 32}),
    "phi-normed": (
        "Phi",
        {**_LLAMA, "num_key_value_heads": 1, "hidden_size": 40, "qk_layernorm": True, "hidden_act": "relu",
         "layer_norm_eps": 1e-2, "tie_word_embeddings": True, "pad_token_id": 1,
         "rope_parameters": {**YARN, "partial_rotary_factor": 0.41}},
    ),
    "gptj": ("GPTJ", {**_GPTJ, "rotary_dim": 4}),
    "gptj-tied": (
        "GPTJ",
        {**_GPTJ, "rotary_dim": 6, "n_inner": 29, "activation_function": "relu", "layer_norm_epsilon": 1e-2,
         "tie_word_embeddings": True},
    ),
    "codegen": ("CodeGen", {**_GPTJ, "n_embd": 48, "n_head": 8, "rotary_dim": 2}),
    "codegen-tied": (
        "CodeGen",
        {**_GPTJ, "rotary_dim": 6, "n_inner": 29, "activation_function": "relu", "layer_norm_epsilon": 1e-2,
         "tie_word_embeddings": True},
    ),
    "gpt_bigcode": ("GPTBigCode", _GPT2),
    "gpt_bigcode-many": (
        "GPTBigCode",
        {**_GPT2, "multi_query": False, "n_inner": 29, "activation_function": "relu", "scale_attn_weights": False,
         "layer_norm_epsilon": 1e-2, "tie_word_embeddings": False},
    ),
    "falcon": ("Falcon", _FALCON),
    "falcon-new": ("Falcon", {**_FALCON, "new_decoder_architecture": True, "num_kv_heads": 2, "bias": True}),
    "falcon-new-one-norm": (
        "Falcon",
        {**_FALCON, "new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 1,
         "ffn_hidden_size": 29, "activation": "relu", "layer_norm_epsilon": 1e-2, "tie_word_embeddings": False,
         "rope_parameters": LINEAR},
    ),
    "falcon-one-after-the-other": (
        "Falcon", {**_FALCON, "multi_query": False, "parallel_attn": False, "bias": True, "rope_parameters": LLAMA3},
    ),
    "nemotron": ("Nemotron", {**_LLAMA, "hidden_size": 32}),
    "nemotron-biased": (
        "Nemotron",
        {**_LLAMA, "num_key_value_heads": 1, "head_dim": 10, "attention_bias": True, "mlp_bias": True,
         "hidden_act": "gelu", "norm_eps": 1e-2, "tie_word_embeddings": True,
         "rope_parameters": {**LLAMA3, "partial_rotary_factor": 0.6}},
    ),
    "hunyuan_v1_dense": (
        "HunYuanDenseV1",
        {**_LLAMA, "head_dim": 10,
         "rope_parameters": {"rope_type": "dynamic", "rope_theta": 100.0, "alpha": 50.0, "factor": 1.0}},
    ),
    "hunyuan_v1_dense-yarn": (
        "HunYuanDenseV1",
        {**_LLAMA, "num_key_value_heads": 1, "head_dim": 6, "attention_bias": True, "hidden_act": "gelu",
         "rms_norm_eps": 1e-2, "tie_word_embeddings": True, "rope_parameters": YARN},
    ),
    "biogpt": ("BioGpt", _BIOGPT),
    "biogpt-unscaled": (
        "BioGpt",
        {**_BIOGPT, "scale_embedding": False, "hidden_act": "relu", "tie_word_embeddings": False, "pad_token_id": 5},
    ),
    "phi3": ("Phi3", {**_LLAMA, "pad_token_id": 1}),
    "phi3-window": (
        "Phi3",
        {**_LLAMA, "num_key_value_heads": None, "pad_token_id": None, "sliding_window": 4, "hidden_act": "gelu",
         "rms_norm_eps": 1e-2, "tie_word_embeddings": True, "hidden_size": 32,
         "rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 0.5}},
    ),
    "cohere": ("Cohere", {**_LLAMA, "head_dim": 10, "logit_scale": 0.5}),
    "cohere-biased": (
        "Cohere",
        {**_LLAMA, "num_key_value_heads": None, "attention_bias": True, "hidden_act": "relu", "layer_norm_eps": 1e-2,
         "logit_scale": 0.7, "tie_word_embeddings": False, "rope_parameters": YARN},
    ),
    "ernie4_5": ("Ernie4_5", {**_LLAMA, "head_dim": 10}),
    "ernie4_5-biased": (
        "Ernie4_5",
        {**_LLAMA, "head_dim": None, "use_bias": True, "hidden_act": "gelu", "rms_norm_eps": 1e-2,
         "tie_word_embeddings": False, "rope_parameters": YARN},
    ),
    "helium": ("Helium", {**_LLAMA, "head_dim": 6}),
    "helium-biased": (
        "Helium",
        {**_LLAMA, "head_dim": 6, "num_key_value_heads": 1, "attention_bias": True, "mlp_bias": True,
         "hidden_act": "gelu", "rms_norm_eps": 1e-2, "tie_word_embeddings": True, "rope_parameters": LLAMA3},
    ),
    "starcoder2": ("Starcoder2", _LLAMA),
    "starcoder2-window": (
        "Starcoder2",
        {**_LLAMA, "num_key_value_heads": 1, "sliding_window": 4, "use_bias": False, "hidden_act": "relu",
         "norm_epsilon": 1e-2, "tie_word_embeddings": False, "rope_parameters": LINEAR},
    ),
    "mistral": ("Mistral", _LLAMA),
    "mistral-window": (
        "Mistral",
        {**_LLAMA, "sliding_window": 4, "head_dim": 10, "tie_word_embeddings": True, "hidden_act": "relu"},
    ),
    "mistral-everything": ("Mistral", {**_LLAMA, "sliding_window": None, "rope_parameters": LLAMA3}),
    "mixtral": ("Mixtral", {**_LLAMA, "intermediate_size": 28, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "mixtral-few": (
        "Mixtral",
        {**_LLAMA, "intermediate_size": 20, "num_local_experts": 3, "num_experts_per_tok": 1, "sliding_window": 4,
         "hidden_act": "relu", "rms_norm_eps": 1e-2, "tie_word_embeddings": True, "rope_parameters": LLAMA3},
    ),
    "deepseek_v3": (
        "DeepseekV3",
        {**_LLAMA, "num_key_value_heads": None, "first_k_dense_replace": 9, "q_lora_rank": 19, "kv_lora_rank": 11,
         "qk_nope_head_dim": 7, "qk_rope_head_dim": 6, "v_head_dim": 5},
    ),
    "deepseek_v3-one-step": (
        "DeepseekV3",
        {**_LLAMA, "num_key_value_heads": None, "first_k_dense_replace": 9, "q_lora_rank": None, "kv_lora_rank": 3,
         "qk_nope_head_dim": 6, "qk_rope_head_dim": 2, "v_head_dim": 9, "rope_interleave": False,
         "attention_bias": True, "tie_word_embeddings": True, "rms_norm_eps": 1e-2, "hidden_act": "relu"},
    ),
    "gemma3": ("Gemma3", {**_LLAMA, "head_dim": 10, "num_hidden_layers": 7, "sliding_window": 3}),
    "gemma3-layers": (
        "Gemma3",
        {**_LLAMA, "head_dim": 10, "sliding_window": 3, "layer_types": WINDOWS, "query_pre_attn_scalar": 17,
         "final_logit_softcapping": 3.0, "attention_bias": True,
         "rope_parameters": {"full_attention": LINEAR, "sliding_attention": NEAR}},
    ),
    "gemma3-yarn": (
        "Gemma3",
        {**_LLAMA, "head_dim": 10, "sliding_window": 3, "layer_types": WINDOWS,
         "rope_parameters": {"full_attention": NEAR, "sliding_attention": YARN}},
    ),
    "qwen2": ("Qwen2", _LLAMA),
    "qwen2-yarn": ("Qwen2", {**_LLAMA, "rope_parameters": YARN}),
    "qwen3-yarn": (
        "Qwen3",
        {**_LLAMA, "rope_parameters": {"rope_type": "yarn", "rope_theta": 300.0, "factor": 3.0,
                                       "original_max_position_embeddings": 29, "truncate": None}},
    ),
    "neox-yarn": (
        "GPTNeoX",
        {**_NEOX, "rope_parameters": {**YARN, "attention_factor": None, "mscale": 0.7, "mscale_all_dim": 0.3,
                                      "partial_rotary_factor": 0.5}},
    ),
    "qwen2-window": (
        "Qwen2",
        {**_LLAMA, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1, "head_dim": 10,
         "tie_word_embeddings": True},
    ),
    "qwen3": ("Qwen3", _LLAMA),
    "qwen3-window": (
        "Qwen3",
        {**_LLAMA, "use_sliding_window": True, "sliding_window": 3, "layer_types": WINDOWS, "head_dim": 10,
         "attention_bias": True, "rms_norm_eps": 1e-2, "tie_word_embeddings": True},
    ),
    "apertus": ("Apertus", _LLAMA),
    "apertus-squared": ("Apertus", {**_LLAMA, "hidden_act": "relu2"}),
    "apertus-everything": (
        "Apertus",
        {**_LLAMA, "num_key_value_heads": 1, "attention_bias": True, "hidden_act": "silu", "rms_norm_eps": 1e-2,
         "tie_word_embeddings": True, "rope_parameters": LINEAR},
    ),
    "nanochat": ("NanoChat", {**_LLAMA, "pad_token_id": 5}),
    "nanochat-everything": (
        "NanoChat",
        {**_LLAMA, "num_key_value_heads": 1, "attention_bias": True, "hidden_act": "gelu", "rms_norm_eps": 1e-2,
         "final_logit_softcapping": None, "tie_word_embeddings": True, "rope_parameters": LLAMA3},
    ),
    "granite": (
        "Granite",
        {**_LLAMA, "embedding_multiplier": 3.0, "attention_multiplier": 0.3, "residual_multiplier": 0.22,
         "logits_scaling": 0.7},
    ),
    "granite-everything": (
        "Granite",
        {**_LLAMA, "num_key_value_heads": 1, "attention_bias": True, "mlp_bias": True, "hidden_act": "gelu",
         "rms_norm_eps": 1e-2, "tie_word_embeddings": True, "rope_parameters": LINEAR, "residual_multiplier": 1.5},
    ),
    "gemma": ("Gemma", {**_LLAMA, "head_dim": 10}),
    "gemma-untied": (
        "Gemma",
        {**_LLAMA, "head_dim": 6, "num_key_value_heads": 4, "attention_bias": True, "hidden_act": "relu",
         "tie_word_embeddings": False, "rms_norm_eps": 1e-2},
    ),
    "gemma2": ("Gemma2", {**_LLAMA, "head_dim": 10}),
    "gemma2-windows": (
        "Gemma2",
        {**_LLAMA, "head_dim": 10, "sliding_window": 3, "layer_types": WINDOWS, "query_pre_attn_scalar": 17,
         "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0, "attention_bias": True,
         "hidden_activation": "silu", "rope_parameters": LINEAR},
    ),
    "gemma2-uncapped": (
        "Gemma2",
        {**_LLAMA, "head_dim": 10, "sliding_window": 4, "attn_logit_softcapping": None,
         "final_logit_softcapping": None, "tie_word_embeddings": False},
    ),
}  # fmt: skip

_BART = {"vocab_size": VOCAB, "d_model": 24, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4}
_BART |= {"decoder_attention_heads": 3, "encoder_ffn_dim": 29, "decoder_ffn_dim": 31, "max_position_embeddings": 61}
_BART |= {"dropout": 0.0, "attention_dropout": 0.0, "encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0}
_FSMT = {"src_vocab_size": VOCAB, "tgt_vocab_size": VOCAB, **{k: v for k, v in _BART.items() if k != "vocab_size"}}
_MARIAN = {**_BART, "pad_token_id": 96, "decoder_start_token_id": 96, "eos_token_id": 0}
_T5 = {"vocab_size": VOCAB, "d_model": 24, "d_kv": 7, "d_ff": 29, "num_layers": 2, "num_decoder_layers": 3}
_T5 |= {"num_heads": 3, "dropout_rate": 0.0, "decoder_start_token_id": 0, "initializer_factor": 0.5}
_OTHER_IDS = {"pad_token_id": 5, "eos_token_id": 7, "decoder_start_token_id": 11, "forced_eos_token_id": 7}

TRANSLATION_CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "marian": ("Marian", _MARIAN),
    "marian-opus": ("Marian", {**_MARIAN, "activation_function": "swish", "scale_embedding": True}),
    "marian-two-vocabularies": (
        "Marian",
        {**_MARIAN, **_OTHER_IDS, "share_encoder_decoder_embeddings": False, "decoder_vocab_size": 89,
         "activation_function": "relu"},
    ),
    "marian-unshared": (
        "Marian", {**_MARIAN, "share_encoder_decoder_embeddings": False, "tie_word_embeddings": False},
    ),
    "marian-untied": ("Marian", {**_MARIAN, "tie_word_embeddings": False}),
    "bart": ("Bart", _BART),
    "marian-odd": (
        "Marian",
        {**_MARIAN, "d_model": 21, "encoder_attention_heads": 3, "eos_token_id": 4,
         "activation_function": "tanh"},
    ),
    "bart-another-end": ("Bart", {**_BART, "eos_token_id": 5, "activation_function": "quick_gelu"}),
    "bart-untied": (
        "Bart",
        {**_BART, **_OTHER_IDS, "tie_word_embeddings": False, "scale_embedding": True, "activation_function": "relu"},
    ),
    "mbart": ("MBart", _BART),
    "mbart-scaled": (
        "MBart",
        {**_BART, **_OTHER_IDS, "scale_embedding": True, "activation_function": "silu", "tie_word_embeddings": False},
    ),
    "m2m_100": ("M2M100", _BART),
    "m2m_100-unscaled": (
        "M2M100",
        {**_BART, **_OTHER_IDS, "scale_embedding": False, "activation_function": "gelu", "tie_word_embeddings": False},
    ),
    "m2m_100-odd": ("M2M100", {**_BART, "d_model": 21, "encoder_attention_heads": 7, "decoder_attention_heads": 3}),
    "t5": ("T5", _T5),
    "t5-v1.1": (
        "T5",
        {**_T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "num_decoder_layers": None,
         "relative_attention_num_buckets": 12, "relative_attention_max_distance": 17, "layer_norm_epsilon": 1e-2},
    ),
    "t5-silu": ("T5", {**_T5, "feed_forward_proj": "gated-silu", "d_kv": 8, "decoder_start_token_id": 3}),
    "flan-t5": ("T5", {**_T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "pegasus": ("Pegasus", _BART),
    "pegasus-odd": (
        "Pegasus",
        {**_BART, **_OTHER_IDS, "d_model": 21, "encoder_attention_heads": 7, "scale_embedding": True,
         "activation_function": "relu", "tie_word_embeddings": False},
    ),
    "fsmt": ("FSMT", {**_FSMT, "tgt_vocab_size": 89}),
    "fsmt-tied": (
        "FSMT",
        {**_FSMT, **_OTHER_IDS, "d_model": 21, "encoder_attention_heads": 7, "scale_embedding": False,
         "activation_function": "gelu", "tie_word_embeddings": True},
    ),
    "mt5": ("MT5", {**_T5, "layer_norm_epsilon": 1e-2, "pad_token_id": 2, "eos_token_id": 5}),
    "mt5-relu": (
        "MT5",
        {**_T5, "feed_forward_proj": "relu", "relative_attention_num_buckets": 12, "decoder_start_token_id": 3,
         "relative_attention_max_distance": 17, "num_decoder_layers": None},
    ),
    "umt5": ("UMT5", _T5),
    "umt5-relu": (
        "UMT5",
        {**_T5, "feed_forward_proj": "relu", "relative_attention_num_buckets": 12, "layer_norm_epsilon": 1e-2,
         "relative_attention_max_distance": 17, "pad_token_id": 2, "eos_token_id": 5, "decoder_start_token_id": 3},
    ),
}  # fmt: skip

_CLASSES = {"Marian": "MarianMTModel"}
_CONFIGS = {"Gemma3": "Gemma3TextConfig"}


def their_config(name: str, **fields: Any) -> Any:
    """The configuration of a kind of model."""
    return getattr(transformers, _CONFIGS.get(name, f"{name}Config"))(**fields)


def make(case: str, **changes: Any) -> PreTrainedModel:
    """The model of a case, with random weights and eager attention, in evaluation mode."""
    name, fields = {**TEXT_CASES, **TRANSLATION_CASES}[case]
    head = "ForCausalLM" if case in TEXT_CASES else "ForConditionalGeneration"
    default = {"GPT2": "GPT2LMHeadModel", "OpenAIGPT": "OpenAIGPTLMHeadModel"}.get(name, name + head)
    config = their_config(name, **{**fields, **changes}, attn_implementation="eager")
    model = getattr(transformers, _CLASSES.get(name, default))(config)
    if case == "flan-t5":  # whose head transformers ties until its weights are found to differ
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    randomize(model)
    return model.eval()


def is_wave(model: PreTrainedModel, name: str) -> bool:
    """Whether a weight of theirs is a sinusoid, which FSMT does not say to be fixed."""
    return model.config.model_type == "fsmt" and "embed_positions" in name


@torch.no_grad()
def randomize(model: PreTrainedModel) -> None:
    """Noise on every weight that is learned, and on the bias of logits."""
    noise = 0.1 if "t5" in model.config.model_type else 0.3  # T5 does not scale its attention, which soon is one-sided
    for name, weight in model.named_parameters():
        if weight.requires_grad and not is_wave(model, name):
            weight += noise * torch.randn_like(weight)
    if hasattr(model, "final_logits_bias"):
        model.final_logits_bias.normal_()


def imported(model: PreTrainedModel, folder: Path) -> DecoderOnly | EncoderDecoder:
    """The same model, through the files that transformers writes."""
    model.save_pretrained(folder)
    return from_huggingface(folder)


def padded(rows: int, width: int, *, pad: int, avoid: tuple[int, ...] = (), left: bool = True) -> tuple[Tensor, Tensor]:
    """Random tokens, the first row padded on the left (or not), the second on the right, and the mask, 1 for a real
    token."""
    allowed = torch.tensor([token for token in range(12, 80) if token not in (pad, *avoid)])
    ids = allowed[torch.randint(len(allowed), (rows, width))]
    mask = torch.ones(rows, width, dtype=torch.long)
    mask[0, :4] = 0 if left else 1
    mask[1, -3:] = 0
    return torch.where(mask.bool(), ids, pad), mask


def places(mask: Tensor) -> Tensor:
    """Positions that do not count padding."""
    return (mask.cumsum(1) - 1).clamp_min(0)


WITHOUT_POSITIONS = ("bloom", "opt", "mpt")
"""Most models must be given them, these work them out."""


def text_logits(model: DecoderOnly, read: PreTrainedModel) -> tuple[Tensor, Tensor]:
    """Ours and theirs of rows padded left and right, (N, V) each."""
    ids, mask = padded(3, 13, pad=1)
    given = {} if read.config.model_type in WITHOUT_POSITIONS else {"position_ids": places(mask)}
    with torch.no_grad():
        expected = read(ids, attention_mask=mask, **given).logits
        got = model(ids, mask.bool())
    return got[mask.bool()], expected[mask.bool()]


def translation_logits(model: EncoderDecoder, read: PreTrainedModel) -> tuple[Tensor, Tensor]:
    """Ours and theirs of sources and targets padded left and right, (N, V) each."""
    config = model.config
    source, source_mask = padded(3, 11, pad=config.pad_id)
    target, mask = padded(3, 9, pad=config.pad_id, avoid=(config.bos_id,))
    with torch.no_grad():
        expected = read(
            input_ids=source, attention_mask=source_mask, decoder_input_ids=target, decoder_attention_mask=mask,
            use_cache=False,
        ).logits  # fmt: skip
        got = model(source, target, source_mask.bool(), mask.bool())
    return got[mask.bool()], expected[mask.bool()]
