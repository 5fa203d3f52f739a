"""GGUF files, as llama.cpp writes them: one file with the content of a transformers folder, quantised or not.

Such a file looks like a folder to other code: its fields have the names of config.json, and its tensors the layout that
they had before llama.cpp changed it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from transformer_zoo.blocks.rotary import Llama3Scaling
from transformer_zoo.errors import UserError, first_line
from transformer_zoo.zoo.families import FAMILIES
from transformer_zoo.zoo.huggingface.family import Family, Weight
from transformer_zoo.zoo.huggingface.gguf_file import read_file


@dataclass(frozen=True)
class Architecture:
    """One value of `general.architecture`.

    model_type: the family.
    fields: its keys -> fields of config.json, in addition to those of `_FIELDS`.
    turned: rows of queries and keys are ordered by rotated pairs, dimension i beside i + Dh / 2.
    offset: number that was added to the weights of its norms.
    widest: number of layers of the one size whose queries are scaled by the width of the stream, not by head_dim.
    """

    model_type: str
    fields: Mapping[str, str] = field(default_factory=dict)
    turned: bool = False
    offset: float = 0.0
    widest: int | None = None


_CAPPED = {
    "attention.sliding_window": "sliding_window",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
}
_MULTIPLIED = {
    "attention.scale": "attention_multiplier", "embedding_scale": "embedding_multiplier",
    "residual_scale": "residual_multiplier", "logit_scale": "logits_scaling",
}  # fmt: skip
ARCHITECTURES = {
    "llama": Architecture("llama", turned=True),
    "qwen2": Architecture("qwen2"),
    "qwen3": Architecture("qwen3"),
    "gemma": Architecture("gemma", offset=1.0),
    "gemma2": Architecture("gemma2", _CAPPED, offset=1.0, widest=46),
    "gemma3": Architecture(
        "gemma3_text", {**_CAPPED, "rope.freq_base_swa": "rope_local_base_freq"}, offset=1.0, widest=62
    ),
    "gpt2": Architecture(
        "gpt2", {"feed_forward_length": "n_inner", "attention.layer_norm_epsilon": "layer_norm_epsilon"}
    ),
    "phi3": Architecture("phi3", {"attention.sliding_window": "sliding_window"}),
    "starcoder2": Architecture("starcoder2", {"attention.layer_norm_epsilon": "norm_epsilon"}),
    "granite": Architecture("granite", _MULTIPLIED, turned=True),
}
"""The architectures that are read, as far as the zoo has the family."""

_FIELDS = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "rope.freq_base": "rope_theta",
}
_SCALING = {
    "rope.scaling.type": "rope_type",
    "rope.scaling.factor": "factor",
    "rope.scale_linear": "factor",
    "rope.scaling.original_context_length": "original_max_position_embeddings",
    "rope.scaling.yarn_beta_fast": "beta_fast",
    "rope.scaling.yarn_beta_slow": "beta_slow",
}
_FIXED = {"attention.causal": True, "expert_count": 0, "expert_used_count": 0, "rope.scaling.yarn_ext_factor": 1}
"""Keys that may have only one value."""
_IGNORED = ("vocab_size", "rope.scaling.finetuned", "tensor_data_layout")
_BIASES = {"attention_bias": "blk.0.attn_q.bias", "mlp_bias": "blk.0.ffn_up.bias"}
_FREQUENCIES = "rope_freqs.weight"
_MORE_ENDS = "tokenizer.ggml.eos_token_ids"  # as Ollama writes them

# Tokens that end a turn or a text if they exist, even if the file does not name them: as in llama.cpp.
_ENDS = (
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|eom_id|>", "<EOT>", "<|end_of_text|>",
)  # fmt: skip


class GGUF:
    """A file, or all files into which one was split.

    metadata: its keys and values.
    tensors: names -> shape, and the type of the decoded numbers.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata, self._places = read_file(path)
        for part in self._other_parts():
            self._places |= read_file(part)[1]
        name, kind = self.metadata.get("general.architecture"), self.metadata.get("general.type", "model")
        known = [name for name, one in ARCHITECTURES.items() if one.model_type in FAMILIES]
        if name not in known or kind != "model":
            raise UserError(f"{path}: a GGUF file of a {kind} of {name!r}; read are models of {', '.join(known)}")
        self.name, self.architecture = str(name), ARCHITECTURES[str(name)]
        self.tensors = {name: (place.shape, getattr(torch, place.dtype)) for name, place in self._places.items()}
        self._check_ids()
        self.fields = self._fields()

    def _other_parts(self) -> list[Path]:
        """The other files into which the first one was split."""
        n = self.metadata.get("split.count", 1)
        found = re.fullmatch(r"(.*-)00001(-of-(\d{5}))", self.path.stem)
        if n == 1:
            return []
        if not found or n != int(found[3]):
            raise UserError(
                f"{self.path} is one of {n} parts: give the first, whose name ends in -00001-of-{n:05}.gguf"
            )
        return [self.path.with_stem(f"{found[1]}{i:05}{found[2]}") for i in range(2, n + 1)]

    @property
    def family(self) -> Family:
        """Its family, with GGUF's names of tensors, none of them transposed."""
        family = FAMILIES[self.architecture.model_type]
        weights: dict[str, str | Weight] = {}
        for ours, theirs in family.weights.items():
            part = theirs.part if isinstance(theirs, Weight) else None
            fused = "blk.{i}.ffn_up" if ".ffn." in ours else "blk.{i}.attn_qkv"
            weights[ours] = _name(ours) if part is None else Weight(fused, part)
        return replace(family, weights=weights, weights_where={}, prefix="", renamed={}, unused=(_FREQUENCIES,))

    def _fields(self) -> dict[str, Any]:
        """The fields that config.json would have."""
        family, spec = FAMILIES[self.architecture.model_type], self.architecture
        theirs = self._told({**_FIELDS, **spec.fields}) | self._ids()
        n_layers, heads = self._number("block_count"), self._number("attention.head_count")
        known = {entry.name for entry in family.fields.values()}
        usual = {"num_key_value_heads": heads, "head_dim": self._number("embedding_length") // heads}
        theirs = {name: value for name, value in usual.items() if name in known} | theirs
        theirs |= {name: tensor in self.tensors for name, tensor in _BIASES.items() if name in known}
        self._check(n_layers, theirs.get("head_dim", usual["head_dim"]))
        if spec.widest is not None:
            theirs["query_pre_attn_scalar"] = (usual if n_layers == spec.widest else theirs)["head_dim"]
        if theirs.get("sliding_window") == 0:
            theirs["sliding_window"] = None
        if scaling := self._scaling(float(theirs.get("rope_theta", 1e4))):
            theirs["rope_scaling"] = scaling
        theirs["vocab_size"] = self.tensors["token_embd.weight"][0][0]
        theirs["tie_word_embeddings"] = "output.weight" not in self.tensors
        return {"model_type": family.model_type, **theirs}

    def _number(self, key: str) -> int:
        value = self.metadata.get(f"{self.name}.{key}")
        if type(value) is not int or value < 1:
            raise UserError(f"{self.path}: {self.name}.{key} is {value!r}, expected a number of one or more")
        return value

    def _told(self, names: Mapping[str, str]) -> dict[str, Any]:
        """The present keys of the architecture, by these other names."""
        keys = {key: f"{self.name}.{key}" for key in names}
        return {names[key]: self.metadata[full] for key, full in keys.items() if full in self.metadata}

    def _check(self, n_layers: int, head_dim: int) -> None:
        """Refuse keys that are not known, and values that are not supported."""
        fixed = {**_FIXED, "rope.dimension_count": head_dim, "attention.value_length": head_dim}
        known = {*_FIELDS, *self.architecture.fields, *_SCALING, *_IGNORED, *fixed}
        for full, value in self.metadata.items():
            start, _, key = full.partition(".")
            if start == self.name and key not in known:
                raise UserError(f"{self.path}: {full} is not known and may change the result")
            if start == self.name and value != fixed.get(key, value):
                raise UserError(f"{self.path}: {full} is {value!r}; only {fixed[key]!r} is supported")
        layers = {name.split(".")[1] for name in self.tensors if name.startswith("blk.")}
        if len(layers) != n_layers:
            raise UserError(f"{self.path}: {self.name}.block_count is {n_layers}, and it has {len(layers)} layers")

    def _check_ids(self) -> None:
        """Refuse special tokens that are not valid. Padding may have none, which is also written as -1."""
        rows = self.tensors["token_embd.weight"][0][0]
        n = min(rows, len(self.metadata.get("tokenizer.ggml.tokens", ())) or rows)
        for name in ("padding", "bos", "eos", "eot", "eom", "unknown"):
            key = f"tokenizer.ggml.{name}_token_id"
            value = self.metadata.get(key, 0)
            if type(value) is int and 0 <= value < n:
                continue
            if name != "padding":
                raise UserError(f"{self.path}: {key} is {value!r}, expected one of its {n} tokens, from 0")
            del self.metadata[key]
        for end in self._more_ends:
            if not 0 <= end < n:
                raise UserError(f"{self.path}: {_MORE_ENDS} has {end!r}, expected some of its {n} tokens, from 0")

    @property
    def _more_ends(self) -> list[int]:
        return [int(end) for end in self.metadata.get(_MORE_ENDS, ())]

    def _ids(self) -> dict[str, Any]:
        """Special tokens; the end of a turn ends a text too."""
        ids = {name: self.metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos", "eot", "eom")}
        by_look = [i for i, token in enumerate(self.metadata.get("tokenizer.ggml.tokens", ())) if token in _ENDS]
        every = [ids["eos"], *self._more_ends, ids["eot"], ids["eom"], *by_look]
        ends = [i for i in dict.fromkeys(every) if i is not None]
        pad = self.metadata.get("tokenizer.ggml.padding_token_id")
        return {"bos_token_id": ids["bos"], "eos_token_id": ends or None, "pad_token_id": pad}

    def _scaling(self, base: float) -> dict[str, Any] | None:
        """How the rotation changes."""
        told = self._told(_SCALING)
        kind = told.get("rope_type", "linear" if "factor" in told else "none")
        if _FREQUENCIES in self.tensors:
            if kind != "none":
                raise UserError(f"{self.path}: a scaling of type {kind!r} besides {_FREQUENCIES} is not supported")
            return self._llama3(base)
        return None if kind == "none" else {**told, "rope_type": kind}

    def _llama3(self, base: float) -> dict[str, Any]:
        """Llama 3.1's scaling; the file has only the divisor of each frequency."""
        divisors = torch.from_numpy(self.rows(_FREQUENCIES)).double()
        frequencies = base ** -(torch.arange(len(divisors)).double() / len(divisors))
        spec = {"factor": round(divisors.max().item(), 4), "low_freq_factor": 1.0, "high_freq_factor": 4.0}
        expected = frequencies / Llama3Scaling(**spec, original_max_seq_len=8192).scale(frequencies)
        if not torch.allclose(expected, divisors, rtol=1e-3):
            raise UserError(f"{self.path}: {_FREQUENCIES} is another scaling than that of Llama 3.1, which is not read")
        return {"rope_type": "llama3", **spec, "original_max_position_embeddings": 8192}

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """Some rows of a tensor, in float32, in the layout before llama.cpp changed them."""
        order = self._order(name)
        values = self._places[name].rows(slice(start, stop) if order is None else order[start:stop])
        offset = self.architecture.offset if name.endswith("norm.weight") else 0.0
        return np.asarray(values - offset if offset else values, np.float32)

    def _order(self, name: str) -> NDArray[np.int64] | None:
        """The index of each row of queries or keys; None: rows are not moved."""
        found = re.fullmatch(r"blk\.\d+\.attn_([qk])\.(weight|bias)", name)
        if not found or not self.architecture.turned:
            return None
        heads, n = (
            self.fields["num_attention_heads" if found[1] == "q" else "num_key_value_heads"],
            self._places[name].shape[0],
        )
        if n % (2 * heads):
            raise UserError(f"{self.path}: {name} has {n} rows, which are not {heads} heads")
        return np.arange(n).reshape(heads, -1, 2).swapaxes(1, 2).reshape(-1)


def read_gguf(path: Path) -> GGUF:
    """The content of a GGUF file except its numbers, which are read when they are asked for.

    Raises:
        UserError: it cannot be read, is damaged, or has an unknown architecture; or the package is missing.
    """
    try:
        about = path.stat()
        return _open(path, (about.st_mtime_ns, about.st_size))
    except OSError as error:
        raise UserError(f"{error.filename or path}: cannot be read ({error.strerror})") from None


@lru_cache(maxsize=1)  # a model's fields, tensors and tokenizer are asked for one after the other
def _open(path: Path, of: tuple[int, int]) -> GGUF:
    try:
        file = GGUF(path)
        try:
            file.family.read(file.fields)
        except UserError as error:  # of fields that it has instead of config.json's
            raise UserError(f"{path}{f': {error}'.removeprefix(': config.json')}") from None
        return file
    except UserError:
        raise
    except (ValueError, LookupError, ArithmeticError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: not a GGUF file, or a damaged one ({first_line(error)}); fetch it again") from None


def _name(ours: str) -> str:
    """GGUF's name of a module of ours: almost the same, without the parts around it."""
    words = {"embedding": "token_embd", "head": "output", "decoder.positions": "position_embd"}
    words |= {"decoder.final_norm": "output_norm"}
    layer, _, module = ours.rpartition("{i}.")
    if not layer:
        return words.get(ours, ours)
    outer = {"attn.out": "attn_output", "attn_out_norm": "post_attention_norm", "ffn_out_norm": "post_ffw_norm"}
    module = module.removesuffix("_proj")
    return f"blk.{{i}}.{outer.get(module, module.replace('.', '_'))}"
