"""The tokenizer of a GGUF file, from its keys `tokenizer.*`, as the files that transformers would have."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as FastTokenizer

from transformer_zoo.errors import UserError
from transformer_zoo.tokenizers.files import TokenizerFiles
from transformer_zoo.tokenizers.json_pieces import QWEN2, byte_level, piece_bpe, piece_level
from transformer_zoo.tokenizers.tokenizer import PLAIN

_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4  # types of tokens

_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"  # GPT-2's
_THREES = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+SHORT|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*SHORT|DIGITS"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PATTERNS: dict[str, tuple[str, ...]] = {
    "default": (r"[\p{P}\$\+<=>\^~\|]+", _WORDS, r"\p{N}+", "[0-9][0-9][0-9]"),
    "gpt-2 phi-2 mpt olmo jais exaone4 mellum gigachat trillion granite-docling": (_WORDS,),
    "smollm starcoder refact command-r codeshell exaone minerva-7b": (r"\p{N}", _WORDS),
    "llama-bpe llama3 llama-v3 falcon3 pixtral midm-2.0 lfm2 dbrx smaug-bpe glm4 chatglm-bpe": (_THREES,),
    "qwen2 deepseek-r1-qwen megrez stablelm2 hunyuan kormo": (QWEN2,),
    "tekken": (_CASED.replace("SHORT", "").replace("DIGITS", r"\p{N}"),),
    "gpt-4o llama4": (_CASED.replace("SHORT", "(?i:'s|'t|'re|'ve|'m|'ll|'d)?").replace("DIGITS", r"\p{N}{1,3}"),),
    "falcon": (r"[\p{P}\$\+<=>\^~\|`]+", _WORDS, "[0-9][0-9][0-9]"),
    "deepseek-coder": (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}"),
}
PRE_TOKENIZERS = {name: patterns for names, patterns in _PATTERNS.items() for name in names.split()}
"""How a text is cut before bytes are merged, by llama.cpp's names for it: each pattern is applied in turn."""

# The default: a word that is a token as a whole is not merged, and texts begin with a token.
_WHOLE_WORDS = ("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "midm-2.0", "lfm2", "tekken")
_KEEP_BLANKS = ("<unk>", "<s>", "<|endoftext|>")
_KEYS = (
    "model", "pre", "tokens", "token_type", "token_type_count", "scores", "merges",
    "add_bos_token", "add_eos_token", "add_space_prefix", "eos_token_ids",
)  # fmt: skip
_OFF = ("add_sep_token", "precompiled_charsmap", "remove_extra_whitespaces")  # allowed if they have no effect
_ROLES = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}  # ours -> theirs


def read_gguf_tokenizer(path: Path, metadata: Mapping[str, Any], model: dict[str, Any]) -> TokenizerFiles:
    """The tokenizer of a GGUF file.

    Args:
        path: path of the file.
        metadata: its keys and values.
        model: the fields that config.json would have.

    Raises:
        UserError: there is no tokenizer, or its kind is not known.
    """
    told = {key.removeprefix("tokenizer.ggml."): value for key, value in metadata.items()}
    kind, tokens = told.get("model"), told.get("tokens", [])
    if kind not in _KINDS or not tokens:
        raise UserError(f"{path}: its tokenizer is {kind!r}; only {' and '.join(_KINDS)} are read")
    types = told.get("token_type") or [_NORMAL] * len(tokens)
    if len(types) != len(tokens) or len({*tokens}) != len(tokens):
        raise UserError(f"{path}: its tokens are not each there once and with a type: it is damaged, fetch it again")
    try:
        _check_keys(metadata)
        fast, starts = _KINDS[kind](told, tokens, types)
        # Phi-3's own tokens include the blanks that follow them, which the file does not say.
        strips = metadata.get("general.architecture") == "phi3" and kind == "llama"
        contents = _contents(fast, tokens, types, told, starts=starts, strips=strips)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except Exception as error:  # the library raises nothing narrower
        raise UserError(f"{path}: its tokenizer is damaged ({error})") from None
    if isinstance(template := metadata.get("tokenizer.chat_template"), str):
        contents["chat_template.jinja"] = template.encode()
    return TokenizerFiles(path, contents, model)


def _check_keys(metadata: Mapping[str, Any]) -> None:
    """Check that no unknown key may change the ids. UserError: one may."""
    for full, value in metadata.items():
        start, _, key = full.rpartition("ggml.")
        known = key in _KEYS or key.endswith("_token_id") or (key in _OFF and not value)
        if start == "tokenizer." and not known:
            raise UserError(f"{full} is not supported, and may change the ids of a text")


def _contents(
    fast: FastTokenizer,
    tokens: Sequence[str],
    types: Sequence[int],
    told: Mapping[str, Any],
    *,
    starts: bool,
    strips: bool,
) -> dict[str, bytes]:
    """tokenizer.json and tokenizer_config.json. starts: whether a text begins with a token by default."""

    def added(wanted: int) -> list[AddedToken]:
        found = [token for token, kind in zip(tokens, types, strict=True) if kind == wanted]
        return [AddedToken(token, normalized=False, rstrip=strips and token not in _KEEP_BLANKS) for token in found]

    fast.add_special_tokens(added(_CONTROL))
    fast.add_tokens(added(_USER_DEFINED))
    ids = {role: told.get(f"{name}_token_id") for role, name in _ROLES.items()}
    named = {f"{role}_token": tokens[i] for role, i in ids.items() if i is not None}
    wanted = {"bos": told.get("add_bos_token", starts), "eos": told.get("add_eos_token", False)}
    bos, eos = ([named[f"{role}_token"]] if on and f"{role}_token" in named else [] for role, on in wanted.items())
    if bos or eos:
        once = [*bos, "$A", *eos]
        fast.post_processor = processors.TemplateProcessing(
            single=once, pair=[*once, *bos, "$B", *eos], special_tokens=[(one, tokens.index(one)) for one in bos + eos]
        )
    about = {"tokenizer_class": "PreTrainedTokenizerFast", **named, **PLAIN}
    return {"tokenizer.json": fast.to_str().encode(), "tokenizer_config.json": json.dumps(about, indent=2).encode()}


def _of_bytes(told: Mapping[str, Any], tokens: Sequence[str], types: Sequence[int]) -> tuple[FastTokenizer, bool]:
    """GPT-2's kind: bytes, written as characters, and the pairs of them that are merged."""
    name = told.get("pre", "default")
    if name not in PRE_TOKENIZERS:
        raise UserError(f"its pre-tokenizer is {name!r}, which is not known; {', '.join(PRE_TOKENIZERS)} are")
    merges = [(left, right) for left, _, right in (merge.partition(" ") for merge in told.get("merges", []))]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    fast = byte_level(vocabulary, merges, ignore_merges=name in _WHOLE_WORDS)
    cuts = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in PRE_TOKENIZERS[name]]
    fast.pre_tokenizer = pre_tokenizers.Sequence([*cuts, fast.pre_tokenizer])
    if name == "qwen2":
        fast.normalizer = normalizers.NFC()
    return fast, name in _WHOLE_WORDS


def _of_pieces(told: Mapping[str, Any], tokens: Sequence[str], types: Sequence[int]) -> tuple[FastTokenizer, bool]:
    """SentencePiece's kind: the two neighbours whose piece has the best score are merged; the rest becomes bytes."""
    normal = [i for i, kind in enumerate(types) if kind == _NORMAL]
    best = sorted(normal, key=lambda i: (-told["scores"][i], i))
    ranks = {tokens[i]: rank for rank, i in enumerate(best)}
    model = piece_bpe(tokens, ranks, tokens[told.get("unknown_token_id", 0)])
    return piece_level(model, blank_first=bool(told.get("add_space_prefix", True))), True


_KINDS = {"gpt2": _of_bytes, "llama": _of_pieces}
