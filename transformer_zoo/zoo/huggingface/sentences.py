"""What the folder of a sentence-transformers model says about vectors of texts: pooling, norm and limit."""

import json
from pathlib import Path
from typing import Any

from transformer_zoo.config import EncoderConfig
from transformer_zoo.errors import UserError
from transformer_zoo.files import make_folder, read_bytes, write_json
from transformer_zoo.zoo.huggingface.checkpoint import read_json

_POOLING = "1_Pooling"
_MODES = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "first"}
_NO_LIMIT = 1_000_000
_WORDS = {"mean": "mean", "cls": "first"}


def read_sentences(folder: Path) -> dict[str, Any]:
    """Our fields for modules.json and the files it names; none if there is no such file.

    Raises:
        UserError: nothing here computes a module, or its way; the message names it.
    """
    path = folder / "modules.json"
    if not path.is_file():
        return {}
    modules = {str(module["type"]).rpartition(".")[2]: folder / str(module["path"]) for module in _listed(path)}
    if others := modules.keys() - {"Transformer", "Pooling", "Normalize"}:
        raise UserError(f"{path}: the module {sorted(others)[0]} is not supported")
    about = folder / "config_sentence_transformers.json"
    if about.is_file() and (prompt := read_json(about).get("default_prompt_name")) is not None:
        raise UserError(f"{about}: default_prompt_name is {prompt!r}, and no prompt is put before texts here")
    found: dict[str, Any] = {"normalize": "Normalize" in modules}
    if "Pooling" in modules:
        found["pooling"] = _pooling(modules["Pooling"] / "config.json")
    limits: dict[str, Any] = {}
    for path in sorted(folder.glob("sentence_*_config.json"))[:1]:
        limits = read_json(path)
        if limits.get("do_lower_case"):
            raise UserError(f"{path}: do_lower_case is true; only what the tokenizer does is done here")
    found["cut_at"] = limits.get("max_seq_length") or _limit(folder / "tokenizer_config.json")
    return found


def _limit(path: Path) -> int | None:
    """The limit in newer folders; a number above all lengths means none."""
    limit = read_json(path).get("model_max_length") if path.is_file() else None
    return limit if type(limit) is int and 0 < limit < _NO_LIMIT else None


def _listed(path: Path) -> list[dict[str, Any]]:
    try:
        modules = json.loads(read_bytes(path))
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error})") from None
    if not isinstance(modules, list) or not all(isinstance(m, dict) and {"type", "path"} <= m.keys() for m in modules):
        raise UserError(f"{path} is not a list of modules, each with its type and path")
    return modules


def _pooling(path: Path) -> str:
    fields = read_json(path)
    word = fields.get("pooling_mode")
    modes = [str(word)] if word is not None else [name for name, on in fields.items() if "mode" in name and on]
    found = [{**_MODES, **_WORDS}.get(mode) for mode in modes]
    if len(found) != 1 or found[0] is None:
        raise UserError(f"{path}: pooling by {' and '.join(modes) or 'nothing'} is not supported; mean or cls is")
    return found[0]


def write_sentences(folder: Path, config: EncoderConfig) -> None:
    """The same files, if an encoder gives vectors of texts, or makes them in another way than by default."""
    said = {name: getattr(config, name) for name in ("pooling", "normalize", "cut_at")}
    if config.head is not None and said == {name: getattr(EncoderConfig, name) for name in said}:
        return
    paths = {"Transformer": "", "Pooling": _POOLING, **({"Normalize": "2_Normalize"} if config.normalize else {})}
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(paths.items())
    ]
    write_json(folder / "modules.json", modules)
    limit = config.cut_at or min(config.max_seq_len, config.longest_input)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": limit, "do_lower_case": False})
    modes = {name: ours == config.pooling for name, ours in _MODES.items()}
    about = {"word_embedding_dimension": config.d_model, **modes}
    write_json(make_folder(folder, _POOLING) / "config.json", about)
