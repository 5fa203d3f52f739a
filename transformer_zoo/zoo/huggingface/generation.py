"""How a folder's own files would write, if that differs from the way here."""

from pathlib import Path
from typing import Any

from transformer_zoo.config import EncoderDecoderConfig
from transformer_zoo.zoo.huggingface.checkpoint import read_json
from transformer_zoo.zoo.huggingface.common import DRAWN, FOLLOWED, GENERIC_FIELDS, WRITTEN_WITHOUT
from transformer_zoo.zoo.huggingface.gguf_file import is_gguf
from transformer_zoo.zoo.huggingface.parts import listed, suppressed
from transformer_zoo.zoo.huggingface.source import read_fields

_SAMPLING = {"temperature": "--temperature", "top_k": "--top-k", "top_p": "--top-p", "min_p": "--min-p"}
_WRITING = {**_SAMPLING, "num_return_sequences": "--num-samples", "max_new_tokens": "--max-new-tokens"}
_SEARCH = {
    "num_beams": "--beam",
    "length_penalty": "--penalty length --length-penalty",
    "num_return_sequences": "--n-best",
}


def _own(folder: Path) -> dict[str, Any]:
    if is_gguf(folder):  # which says nothing of it
        return {}
    path = folder / "generation_config.json"
    return read_json(path if path.is_file() else folder / "config.json")


def written_without(folder: Path) -> dict[str, Any]:
    """The settings of a folder that transformers' `generate` follows and nothing here does.

    Raises:
        UserError: as for `read_fields`.
    """
    family, fields = read_fields(folder)
    theirs = _own(folder)
    never = suppressed(fields)  # single tokens are not written here either
    if family.config is EncoderDecoderConfig:
        never -= {*listed(fields.get("eos_token_id"))}
    for name in ("bad_words_ids", "suppress_tokens"):
        theirs[name] = [one for one in theirs.get(name) or () if not {*listed(one)} <= never]
    unknown = {name for name in theirs if (folder / "generation_config.json").is_file() and name[0] != "_"}
    unknown -= {*GENERIC_FIELDS, *FOLLOWED, "transformers_version"}
    neutral = {**WRITTEN_WITHOUT, **dict.fromkeys(sorted(unknown))}
    return {name: theirs[name] for name in neutral if theirs.get(name) not in (None, neutral[name], [], {})}


def drawn_by(folder: Path) -> tuple[dict[str, Any], str]:
    """A folder's settings for drawing or searching with transformers' `generate`, and the options that correspond to
    them.

    Raises:
        UserError: as for `read_fields`.
    """
    family, _ = read_fields(folder)
    theirs = _own(folder)
    own = {name: theirs[name] for name, neutral in DRAWN.items() if theirs.get(name) not in (None, neutral)}
    if not own.get("do_sample"):
        own = {name: value for name, value in own.items() if name not in _SAMPLING}
    said = dict(own)
    if family.config is EncoderDecoderConfig:
        options = _SEARCH
        if "num_beams" in own:  # the default is 1, by the length alone
            said.setdefault("length_penalty", 1.0)
    else:
        options = _WRITING
        if own.get("do_sample"):  # what it does by default
            said = {"temperature": 1.0} | ({"top_k": 50} if theirs.get("top_k") is None else {}) | said
        elif "do_sample" in own:
            said["temperature"] = 0
    return own, " ".join(f"{option} {said[name]}" for name, option in options.items() if name in said)
