"""Tokenizers as the files that `transformers.AutoTokenizer.from_pretrained` reads, with the same ids.

What was trained here becomes Marian's files (translation) or a tokenizer.json (text); what was imported is written as
it came, with the languages that are chosen now. Two things cannot be said in these files: `transformers` takes a
special token that is written in a text, such as `</s>`, for the token, where ours take it for text; and a Marian
takes `>>...<<` at the start of a line for a tag.
"""

import json
import re
from collections.abc import Mapping
from functools import singledispatch
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from transformer_zoo.data.huggingface_tokenizers import ImportedTextTokenizer
from transformer_zoo.data.imported_translation import ImportedTranslationTokenizer
from transformer_zoo.data.pieces import BYTE_ALPHABET
from transformer_zoo.data.subword_tokenizers import SentencePieceTextTokenizer, TiktokenTokenizer
from transformer_zoo.data.text_tokenizers import (
    END_OF_TEXT,
    ByteTokenizer,
    CharacterTokenizer,
    TextTokenizer,
    WordTokenizer,
)
from transformer_zoo.data.tokenizers import SentencePieceTokenizer, TranslationTokenizer
from transformer_zoo.errors import UserError
from transformer_zoo.files import write_bytes

# `transformers` builds the tokenizer of such a model by itself, whatever tokenizer.json says.
_OWN_PRE_TOKENIZER = ("qwen2",)


def export_tokenizer(
    tokenizer: TextTokenizer | TranslationTokenizer | ImportedTranslationTokenizer,
    folder: str | Path,
    *,
    model_type: str,
) -> None:
    """Write the tokenizer's files into `folder`, beside the config.json of a model of `model_type`.

    Raises:
        UserError: `transformers` has no counterpart of the tokenizer, or none in a model of this type.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(tokenizer, ImportedTextTokenizer | ImportedTranslationTokenizer):
        tokenizer.files.save(folder)
        if isinstance(tokenizer, ImportedTranslationTokenizer) and tokenizer.takes_source:
            _write_languages(tokenizer, folder)
    elif isinstance(tokenizer, TranslationTokenizer):
        _write_marian(tokenizer, folder)
    else:
        if model_type in _OWN_PRE_TOKENIZER:
            raise UserError(
                f"model_type {model_type}: transformers takes its own tokenizer for such a model and would ignore this "
                f"one ({tokenizer.name})"
            )
        eos = None if tokenizer.eos_id is None else _eos_token(tokenizer)
        _write(folder, "tokenizer.json", json.loads(_fast(tokenizer).to_str()))
        special = {} if eos is None else {"eos_token": eos, "bos_token": eos}
        _write(folder, "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **special, **_PLAIN})


def _write_languages(tokenizer: ImportedTranslationTokenizer, folder: Path) -> None:
    """src_lang and tgt_lang of tokenizer_config.json, as far as they are chosen."""
    name = "tokenizer_config.json"
    languages = {"src_lang": tokenizer.source_language, "tgt_lang": tokenizer.target_language}
    chosen = {field: code for field, code in languages.items() if code is not None}
    settings = tokenizer.files.json(name)
    if settings | chosen != settings:
        _write(folder, name, settings | chosen)


# Blanks before punctuation stay, and nothing is cut.
_PLAIN = {"clean_up_tokenization_spaces": False, "model_max_length": int(1e30)}


def _write(folder: Path, name: str, fields: Mapping[str, Any]) -> None:
    write_bytes(folder / name, json.dumps(fields, ensure_ascii=False, indent=1).encode() + b"\n")


def _write_marian(tokenizer: TranslationTokenizer, folder: Path) -> None:
    """source.spm, target.spm, vocab.json (and target_vocab.json): piece to id, as they are."""
    sides = {"source": tokenizer.source, "target": tokenizer.target}
    for name, side in sides.items():
        write_bytes(folder / f"{name}.spm", side.model)
    _write(folder, "vocab.json", _vocabulary(tokenizer.source))
    if not tokenizer.joint:
        _write(folder, "target_vocab.json", _vocabulary(tokenizer.target))
    source = tokenizer.source
    ids = {"pad": source.pad_id, "unk": source.unk_id, "bos": source.bos_id, "eos": source.eos_id}
    special = {f"{role}_token": source._pieces.id_to_piece(i) for role, i in ids.items()}
    settings = {"tokenizer_class": "MarianTokenizer", "separate_vocabs": not tokenizer.joint, **special, **_PLAIN}
    _write(folder, "tokenizer_config.json", settings)
    _write(folder, "special_tokens_map.json", special)


def _vocabulary(tokenizer: SentencePieceTokenizer) -> dict[str, int]:
    return {tokenizer._pieces.id_to_piece(i): i for i in range(tokenizer.vocab_size)}


def _eos_token(tokenizer: TextTokenizer) -> str:
    return "</s>" if isinstance(tokenizer, SentencePieceTextTokenizer) else END_OF_TEXT


@singledispatch
def _fast(tokenizer: TextTokenizer) -> Tokenizer:
    """The same in the `tokenizers` library."""
    raise UserError(f"{tokenizer.name}: transformers has no counterpart of this tokenizer")


@_fast.register
def _(tokenizer: ByteTokenizer) -> Tokenizer:
    vocabulary = {character: byte for byte, character in enumerate(BYTE_ALPHABET)}
    fast = Tokenizer(models.BPE(vocab={**vocabulary, END_OF_TEXT: 256}, merges=[]))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    fast.decoder = decoders.ByteLevel()
    fast.add_special_tokens([END_OF_TEXT])
    return fast


@_fast.register
def _(tokenizer: TiktokenTokenizer) -> Tokenizer:
    ranks = tokenizer.encoding._mergeable_ranks
    special = tokenizer.encoding._special_tokens
    vocabulary = {_spelled(piece): rank for piece, rank in ranks.items()}
    fast = Tokenizer(models.BPE(vocab={**vocabulary, **special}, merges=_byte_merges(ranks), ignore_merges=True))
    split = pre_tokenizers.Split(Regex(_pattern(tokenizer.encoding._pat_str)), "isolated")
    fast.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    fast.decoder = decoders.ByteLevel()
    fast.add_special_tokens(sorted(special, key=special.__getitem__))
    return fast


def _spelled(piece: bytes) -> str:
    return "".join(BYTE_ALPHABET[byte] for byte in piece)


def _byte_merges(ranks: Mapping[bytes, int]) -> list[tuple[str, str]]:
    """Every way to make a piece of two others, the piece of the lowest rank first."""
    merges: list[tuple[int, int, int, bytes, bytes]] = []
    for piece, rank in ranks.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in ranks and right in ranks:
                merges.append((rank, ranks[left], ranks[right], left, right))
    return [(_spelled(left), _spelled(right)) for *_, left, right in sorted(merges)]


def _pattern(pattern: str) -> str:
    r"""tiktoken's pattern for Oniguruma, where `$` is any line's end, and `{1,3}+` repeats what it repeats."""
    return re.sub(r"(\{\d*,\d*\})\+", r"\1", re.sub(r"(?<!\\)\$", r"\\z", pattern))


@_fast.register
def _(tokenizer: CharacterTokenizer) -> Tokenizer:
    words = dict(zip(tokenizer.characters, range(len(tokenizer.characters)), strict=True))
    if tokenizer.eos_id is not None:
        words[END_OF_TEXT] = tokenizer.eos_id
    fast = Tokenizer(models.WordLevel(words))
    fast.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    fast.decoder = decoders.Fuse()
    if tokenizer.eos_id is not None:
        fast.add_special_tokens([END_OF_TEXT])
    return fast


@_fast.register
def _(tokenizer: WordTokenizer) -> Tokenizer:
    words = {piece: i for i, piece in enumerate(tokenizer._pieces)}
    fast = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    blanks = "".join(map(chr, filter(lambda i: chr(i).isspace() and chr(i) != "\n", range(0x3001))))
    fast.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(f"[{blanks}]+"), "removed"), pre_tokenizers.Split("\n", "isolated")]
    )
    fast.decoder = decoders.Sequence(  # a blank before each word, but for the first of a line
        [
            decoders.Replace(Regex("^"), " "),
            decoders.Fuse(),
            decoders.Replace(Regex(" ?\n ?"), "\n"),
            decoders.Strip(" ", 1, 0),
        ]
    )
    if tokenizer.eos_id is not None:
        fast.add_special_tokens([END_OF_TEXT])
    return fast


@_fast.register
def _(tokenizer: SentencePieceTextTokenizer) -> Tokenizer:
    pieces = tokenizer._tokenizer._pieces
    scores = [(pieces.id_to_piece(i), pieces.get_score(i)) for i in range(len(pieces))]
    if _is_unigram(tokenizer._tokenizer):
        model: Any = models.Unigram(scores, unk_id=tokenizer._tokenizer.unk_id, byte_fallback=True)
    else:
        unused = {i for i in range(len(pieces)) if pieces.is_control(i) or pieces.is_byte(i) or pieces.is_unknown(i)}
        words = {piece: score for i, (piece, score) in enumerate(scores) if i not in unused}
        vocabulary = {piece: i for i, (piece, _) in enumerate(scores)}
        model = models.BPE(
            vocab=vocabulary, merges=_scored_merges(words), unk_token="<unk>", fuse_unk=True, byte_fallback=True
        )
    fast = Tokenizer(model)
    fast.normalizer = normalizers.Replace(" ", "▁")
    fast.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    fast.add_special_tokens([pieces.id_to_piece(i) for i in range(len(pieces)) if pieces.is_control(i)])
    fast.add_tokens([AddedToken("\n", normalized=False, special=False)])
    return fast


def _is_unigram(tokenizer: SentencePieceTokenizer) -> bool:
    try:
        tokenizer._pieces.nbest_encode("", nbest_size=2)
    except RuntimeError:  # BPE has no n-best
        return False
    return True


def _scored_merges(scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """Every way to make a piece of two others, the piece of the highest score first."""
    merges = [
        (-score, piece[:cut], piece[cut:])
        for piece, score in scores.items()
        for cut in range(1, len(piece))
        if piece[:cut] in scores and piece[cut:] in scores
    ]
    return [(left, right) for _, left, right in sorted(merges, key=lambda merge: merge[0])]
