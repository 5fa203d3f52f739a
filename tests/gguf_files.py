"""GGUF files of models of transformers, laid out as llama.cpp lays them out, by the writer of the package gguf."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

ARCHITECTURES = {"gemma3_text": "gemma3"}  # the others are called as in transformers
KEYS = {
    "context_length": ("max_position_embeddings", "n_positions"),
    "embedding_length": ("hidden_size", "n_embd"),
    "block_count": ("num_hidden_layers", "n_layer"),
    "feed_forward_length": ("intermediate_size",),
    "attention.head_count": ("num_attention_heads", "n_head"),
    "attention.head_count_kv": ("num_key_value_heads",),
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps",),
    "attention.layer_norm_epsilon": ("layer_norm_epsilon", "norm_epsilon"),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
    "attention.sliding_window": ("sliding_window",),
    "attention.scale": ("attention_multiplier",),
    "embedding_scale": ("embedding_multiplier",),
    "residual_scale": ("residual_multiplier",),
    "logit_scale": ("logits_scaling",),
    "vocab_size": ("vocab_size",),
}


def keys_of(config: Any) -> dict[str, Any]:
    """The keys that llama.cpp writes for a configuration, without those of the tokenizer."""
    kind = config.model_type
    found = {key: next((getattr(config, n) for n in names if hasattr(config, n)), None) for key, names in KEYS.items()}
    if kind == "gpt2":
        found |= {"feed_forward_length": config.n_inner or 4 * config.n_embd, "attention.head_count_kv": None}
    if kind not in ("gemma2", "gemma3_text"):
        found["attention.sliding_window"] = None
    if kind == "phi3":
        found |= {"attention.sliding_window": config.sliding_window or 0, "rope.scaling.original_context_length": 128}
    if "gemma" in kind or kind == "qwen3":
        found |= {"attention.key_length": config.head_dim, "attention.value_length": config.head_dim}
    rope = getattr(config, "rope_parameters", None) or {}
    rope = rope.get("full_attention", rope)
    if "rope_theta" in rope:
        found["rope.freq_base"] = float(rope["rope_theta"])
    if rope.get("rope_type") in ("linear", "yarn"):
        found |= {"rope.scaling.type": rope["rope_type"], "rope.scaling.factor": rope["factor"]}
        found["rope.scaling.original_context_length"] = rope.get("original_max_position_embeddings")
    return {key: value for key, value in found.items() if value is not None}


def llama3_divisors(rope: Mapping[str, float], head_dim: int) -> Tensor:
    """What each frequency is divided by: (Dh / 2,), equation by equation as Meta has it."""
    wave = 2 * torch.pi * rope["rope_theta"] ** (torch.arange(0, head_dim, 2).double() / head_dim)
    turns = rope["original_max_position_embeddings"] / wave
    ramp = (turns - rope["low_freq_factor"]) / (rope["high_freq_factor"] - rope["low_freq_factor"])
    between = 1 / ((1 - ramp) / rope["factor"] + ramp)
    low, high = turns < rope["low_freq_factor"], turns > rope["high_freq_factor"]
    return torch.where(low, rope["factor"], torch.where(high, 1.0, between)).float()


def laid_out(name: str, tensor: Tensor, config: Any) -> NDArray[np.float32]:
    """A tensor of transformers as llama.cpp has it."""
    kind, x = config.model_type, tensor.float().numpy()
    if kind == "gpt2" and tensor.dim() == 2 and ".h." in name:
        return np.ascontiguousarray(x.T)
    if "gemma" in kind and "norm" in name:
        return np.asarray(x + 1, np.float32)
    if kind in ("llama", "granite") and (".q_proj." in name or ".k_proj." in name):
        heads = config.num_attention_heads if ".q_proj." in name else config.num_key_value_heads
        return x.reshape(heads, 2, -1, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)
    return x


@torch.no_grad()
def write(path: Path, model: Any, kind: str = "F32", /, **more: Any) -> Path:
    """The file of a model, whose matrices lose what this type of numbers does not hold; vectors stay as they are.

    more: further keys with values that replace others; None removes the key. A key without a dot belongs to the
        tokenizer.
    """
    config = model.config
    architecture = ARCHITECTURES.get(config.model_type, config.model_type)
    writer = gguf.GGUFWriter(path, architecture)
    keys = {f"{architecture}.{key}": value for key, value in keys_of(config).items()}
    keys |= {key if "." in key else f"tokenizer.ggml.{key}": value for key, value in more.items()}
    for key, value in keys.items():
        if value is not None:
            add(writer, key, value)
    for name, tensor in tensors_of(model).items():
        wanted = gguf.GGMLQuantizationType[kind] if tensor.ndim > 1 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quantize(tensor, wanted), raw_dtype=wanted)
    for name, parameter in model.state_dict().items():
        if parameter.dim() > 1:
            turned = config.model_type == "gpt2" and ".h." in name
            x = np.ascontiguousarray(parameter.T if turned else parameter)
            held = torch.from_numpy(gguf.dequantize(gguf.quantize(x, wanted_of(kind)), wanted_of(kind)))
            parameter.copy_(held.T if turned else held)
    close(writer)
    return path


def close(writer: gguf.GGUFWriter) -> None:
    """Writes all that was added."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def byte_level_keys(folder: Path) -> dict[str, Any]:
    """The tokenizer of a folder with a byte-level BPE whose only special token is the first."""
    model = json.loads(transformers.AutoTokenizer.from_pretrained(folder).backend_tokenizer.to_str())["model"]
    tokens, merges = list(model["vocab"]), [*map(" ".join, model["merges"])]
    types = [3] + [1] * (len(tokens) - 1)
    about = {"model": "gpt2", "pre": "gpt-2", "eos_token_id": 0, "bos_token_id": 0}
    return {**about, "tokens": tokens, "token_type": types, "merges": merges}


def wanted_of(kind: str) -> gguf.GGMLQuantizationType:
    return gguf.GGMLQuantizationType[kind]


def tensors_of(model: Any) -> dict[str, NDArray[np.float32]]:
    """All tensors under llama.cpp's names."""
    config = model.config
    architecture = ARCHITECTURES.get(config.model_type, config.model_type)
    which = next(number for number, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(which, config.num_hidden_layers)
    found = {}
    for name, tensor in model.state_dict().items():
        if name != "lm_head.weight" or not config.tie_word_embeddings:
            theirs = names.get_name(name, try_suffixes=(".weight", ".bias"))
            assert theirs is not None, name
            found[theirs] = laid_out(name, tensor, config)
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") == "llama3":
        found["rope_freqs.weight"] = llama3_divisors(rope, config.head_dim).numpy()
    return found


def their_model(path: Path, config: Any = None) -> Any:
    """What transformers' own reader makes of a file. (`from_pretrained` asks for accelerate.)

    config: where it does not read all of that either.
    """
    config = config or transformers.AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    model.load_state_dict(load_gguf_checkpoint(path, return_tensors=True, model_to_load=model)["tensors"], strict=False)
    model.tie_weights()
    return model


def add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    """A key with its value, of the type that llama.cpp has for such a value."""
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case _:
            writer.add_array(key, value)
