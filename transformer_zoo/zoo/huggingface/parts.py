"""Fields of config.json that a table cannot express: special tokens, shared embeddings, rotation, sliding windows."""

from collections.abc import Sequence
from typing import Any

from transformer_zoo.config import (
    DecoderConfig,
    EncoderDecoderConfig,
    RulesSpec,
)
from transformer_zoo.errors import UserError
from transformer_zoo.zoo.huggingface.family import Field, Fields, Part

TEXT_ONLY: dict[str, tuple[Any, ...]] = {
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False, None),
    "cross_attention_hidden_size": (None,),
    "tie_encoder_decoder": (False,),
}
"""The values that a decoder-only model requires of theirs."""

ENCODER_DECODER: dict[str, tuple[Any, ...]] = {
    "is_encoder_decoder": (True,),
    "is_decoder": (False,),
    "add_cross_attention": (False, None),
    "cross_attention_hidden_size": (None,),
    "tie_encoder_decoder": (False,),
}
"""The values that an encoder-decoder requires of theirs."""


def listed(ids: Any) -> list[Any]:
    """Several ids, or the one."""
    return ids or [None] if isinstance(ids, list) else [ids]


def text_ids(*, bos: int | None, eos: int | list[int] | None, pad: int | None = None, padded: bool = True) -> Part:
    """Special tokens of a decoder-only model, with their defaults; an id outside the vocabulary counts as missing.

    padded: the family gives pad's embedding no gradient.
    """
    defaults = {"bos_token_id": bos, "eos_token_id": eos, "pad_token_id": pad}

    def read(theirs: Fields, ours: Fields) -> dict[str, Any]:
        vocab_size = ours["vocab_size"]
        ids = {}
        for name, default in defaults.items():
            token = listed(theirs.get(name, default))[0]
            if name == "pad_token_id" and token is not None and token < 0:
                token += vocab_size  # with negative numbers counted from the end, as in torch
            ids[name] = token if token is not None and 0 <= token < vocab_size else None
        pad_id = ids["pad_token_id"] if padded else None
        stops = tuple(token for token in listed(theirs.get("eos_token_id", eos))[1:] if 0 <= token < vocab_size)
        return {
            "bos_id": ids["bos_token_id"],
            "eos_id": ids["eos_token_id"],
            "stop_ids": stops or None,
            "pad_id": pad_id,
            "never_ids": tuple(sorted(token for token in suppressed(theirs) if token < vocab_size)) or None,
            "rules": _read_rules(theirs, vocab_size),
        }

    def write(config: DecoderConfig) -> dict[str, Any]:
        never = [[token] for token in config.never_ids or ()]
        ids = {"bos_token_id": config.bos_id, "eos_token_id": end_ids(config), "pad_token_id": config.pad_id}
        return ids | ({"bad_words_ids": never} if never else {})

    types = {**dict.fromkeys(defaults, int | list), "decoder_start_token_id": int, "is_decoder": bool, **_OF_RULES}
    return Part(types, read, write)


def end_ids(config: DecoderConfig) -> int | list[int] | None:
    """The eos_token_id of a decoder-only model; there may be several."""
    return [config.eos_id, *config.stop_ids] if config.stop_ids and config.eos_id is not None else config.eos_id


def translation_ids(*, start: int | None, bos: int | None, eos: int, pad: int) -> Part:
    """Special tokens of an encoder-decoder, with their defaults.

    A target starts with decoder_start_token_id; without it `generate` takes bos, and T5 takes pad.
    """

    def read(theirs: Fields, ours: Fields) -> dict[str, Any]:
        ends = list(dict.fromkeys(listed(theirs.get("eos_token_id", eos))))
        if len(ends) > 1:
            raise UserError(
                f"config.json or generation_config.json: eos_token_id is {ends}; a target has one end here: keep the "
                "one that the model was trained with"
            )
        forced = [token for token in listed(theirs.get("forced_eos_token_id")) if token is not None]
        if len(forced) > 1:
            raise UserError(
                f"config.json or generation_config.json: forced_eos_token_id is {forced}; at the length limit one "
                "token can be forced here: keep one, or set it to null"
            )
        pad_id = theirs.get("pad_token_id", pad)
        starts = theirs.get("decoder_start_token_id", start), theirs.get("bos_token_id", bos)
        bos_id = next((token for token in starts if token is not None and token < ours["vocab_size"]), pad_id)
        never = {token for token in suppressed(theirs) if token < ours["vocab_size"]} - {ends[0]}
        return {
            "pad_id": pad_id,
            "bos_id": bos_id,
            "eos_id": ends[0],
            "forced_last_id": forced[0] if forced else None,
            "never_ids": None if never == {pad_id, bos_id} - {ends[0]} else tuple(sorted(never)),
            "rules": _read_rules(theirs, ours["vocab_size"], has_source=True),
        }

    def write(config: EncoderDecoderConfig) -> dict[str, Any]:
        return {
            "pad_token_id": config.pad_id,
            "bos_token_id": config.bos_id,
            "eos_token_id": config.eos_id,
            "decoder_start_token_id": config.bos_id,
            "forced_eos_token_id": config.forced_last_id,
            "bad_words_ids": [[token] for token in sorted(config.never)] or None,
        }

    ids = dict.fromkeys(("pad_token_id", "bos_token_id", "decoder_start_token_id"), int)
    ends = dict.fromkeys(("eos_token_id", "forced_eos_token_id"), int | list)
    return Part({**ids, **ends, **_OF_RULES}, read, write, limits=tuple(ends))


RULES: dict[str, tuple[str, Any]] = {
    "repetition_penalty": ("repetition_penalty", float),
    "no_repeat_ngram_size": ("no_repeat_ngram_size", int),
    "min_length": ("min_length", int),
    "min_new_tokens": ("min_new_tokens", int),
    "begin_suppress_tokens": ("never_first_ids", list),
    "forced_bos_token_id": ("forced_first_id", int),
    "stop_strings": ("stop_strings", list | str),
}
"""Their rules for `generate` -> our fields, and their types."""
_OF_RULES = {**{name: kind for name, (_, kind) in RULES.items()}, "bad_words_ids": list, "suppress_tokens": list}


def _read_rules(theirs: Fields, vocab_size: int, *, has_source: bool = False) -> RulesSpec:
    """A rule that is null, 0 or empty, or for tokens that do not exist, has no effect; neither has a penalty of 1."""
    rules: dict[str, Any] = {ours: theirs.get(name) or None for name, (ours, _) in RULES.items()}
    rules["forced_first_id"] = (
        theirs.get("forced_bos_token_id") if has_source else None
    )  # in other models a prompt comes first
    if rules["repetition_penalty"] == 1:
        rules["repetition_penalty"] = None
    if rules["stop_strings"] is not None:
        strings = rules["stop_strings"]
        rules["stop_strings"] = (strings,) if isinstance(strings, str) else tuple(filter(None, strings))
    tokens = rules["never_first_ids"] or ()
    never = tuple(token for token in tokens if type(token) is int and 0 <= token < vocab_size)
    rules["never_first_ids"] = never or None
    return RulesSpec(**rules)


def write_rules(rules: RulesSpec) -> dict[str, Any]:
    """The fields of generation_config.json for the rules that exist."""
    fields = {name: getattr(rules, ours) for name, (ours, _) in RULES.items()}
    return {name: value for name, value in fields.items() if value is not None}


def suppressed(theirs: Fields) -> set[int]:
    """The single tokens that `generate` never writes."""
    words = [words for words in theirs.get("bad_words_ids") or () if isinstance(words, list)]
    tokens = [token for word in words if len(word) == 1 for token in word] + list(theirs.get("suppress_tokens") or ())
    return {token for token in tokens if type(token) is int and token >= 0}


def _share_read(theirs: Fields, ours: Fields) -> dict[str, Any]:
    return {"share_embeddings": "all" if theirs.get("tie_word_embeddings", True) else "none"}


def _share_write(config: EncoderDecoderConfig) -> dict[str, Any]:
    return {"tie_word_embeddings": config.share_embeddings == "all"}


SHARED_OR_NOT = Part({"tie_word_embeddings": bool}, _share_read, _share_write)
"""Both embeddings and the head are one matrix, or three; the weights may say otherwise, see `Source`."""


def read_windows(types: Sequence[str], window: int | None, n_layers: int) -> dict[str, Any]:
    """The layers that have the window, by their types."""
    kinds = {"sliding_attention", "full_attention"}
    if len(types) != n_layers or not set(types) <= kinds:
        raise UserError(
            f"config.json: layer_types must name {n_layers} layers as {' or '.join(sorted(kinds))}, and has "
            f"{len(types)}: {', '.join(sorted(set(map(str, types))))}"
        )
    if "sliding_attention" in types and window is None:
        raise UserError("config.json: layer_types has sliding_attention, but there is no sliding_window")
    return {"layer": [{"attention": {"window": window if kind == "sliding_attention" else None}} for kind in types]}


def layer_types(config: DecoderConfig) -> list[str]:
    """What layer_types says about each layer."""
    windows = [layer.attention.window for layer in config.decoder.layers]
    return ["full_attention" if window is None else "sliding_attention" for window in windows]


def window_of(config: DecoderConfig) -> int | None:
    """The sliding window of the first layer that has one."""
    return next((layer.attention.window for layer in config.decoder.layers if layer.attention.window), None)


def _read_window_from(theirs: Fields, ours: Fields) -> dict[str, Any]:
    window = theirs.get("sliding_window", 4096) if theirs.get("use_sliding_window", False) else None
    first = theirs.get("max_window_layers", 28) if window is not None else ours["n_layers"]
    types = theirs.get("layer_types") or [
        "sliding_attention" if i >= first else "full_attention" for i in range(ours["n_layers"])
    ]
    return read_windows(types, window, ours["n_layers"])


def _write_window_from(config: DecoderConfig) -> dict[str, Any]:
    types, window = layer_types(config), window_of(config)
    first = types.index("sliding_attention") if window is not None else len(types)
    return {
        "use_sliding_window": window is not None,
        "sliding_window": window,
        "max_window_layers": first,
        "layer_types": types,
    }


WINDOW_FROM_A_LAYER = Part(
    {"use_sliding_window": bool, "sliding_window": int, "max_window_layers": int, "layer_types": list},
    _read_window_from,
    _write_window_from,
)
"""Layers from one on have a sliding window, or those that layer_types gives; as in Qwen."""


def alternating_window(each: int, *, pattern: bool = False) -> Part:
    """One in every few layers sees all and the others have a sliding window, or as layer_types says; as in Gemma 2.

    pattern: whether sliding_window_pattern may say how many layers there are to one that sees all.
    """

    def read(theirs: Fields, ours: Fields) -> dict[str, Any]:
        every = theirs.get("sliding_window_pattern", each) if pattern else each
        if isinstance(every, str) and (set(every) - set("LG") or not theirs.get("layer_types")):
            raise UserError(
                f"config.json: sliding_window_pattern is {every!r}, expected int, or L and G beside layer_types"
            )
        types = theirs.get("layer_types") or [
            "sliding_attention" if (i + 1) % every else "full_attention" for i in range(ours["n_layers"])
        ]
        return read_windows(types, theirs.get("sliding_window", 4096), ours["n_layers"])

    def write(config: DecoderConfig) -> dict[str, Any]:
        return {"sliding_window": window_of(config) or 4096, "layer_types": layer_types(config)}

    said: dict[str, Any] = {"sliding_window_pattern": int | str} if pattern else {}
    return Part({"sliding_window": int, "layer_types": list, **said}, read, write)


def far_unturned(found: dict[str, Any]) -> dict[str, Any]:
    """The same layers, without positions where a layer sees all."""
    near = [layer["attention"]["window"] is not None for layer in found["layer"]]
    turned = ["stack" if sees_little else None for sees_little in near]
    return {"layer": [{**layer, "positions": how} for layer, how in zip(found["layer"], turned, strict=True)]}


def encoder_and_decoder(attention_heads: int, d_ff: int, layers: int) -> dict[str, Field]:
    """The fields that BART's relatives have twice, with their defaults."""
    return {
        "encoder.layer.attention.n_heads": Field("encoder_attention_heads", attention_heads),
        "decoder.layer.attention.n_heads": Field("decoder_attention_heads", attention_heads),
        "encoder.layer.ffn.d_ff": Field("encoder_ffn_dim", d_ff),
        "decoder.layer.ffn.d_ff": Field("decoder_ffn_dim", d_ff),
        "encoder.n_layers": Field("encoder_layers", layers),
        "decoder.n_layers": Field("decoder_layers", layers),
    }
