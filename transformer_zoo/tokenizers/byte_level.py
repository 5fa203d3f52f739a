"""BPE in the `tokenizers` library: of bytes (Radford et al. 2019), each a character, or of SentencePiece's pieces."""

from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as FastTokenizer


def byte_level(
    vocabulary: Mapping[str, int],
    merges: Sequence[tuple[str, str]],
    *,
    pattern: str | None = None,
    add_prefix_space: bool = False,
    **options: Any,
) -> FastTokenizer:
    """A BPE of bytes, written in `ALPHABET`, of the parts into which a pattern cuts a text; "" is GPT-2's pattern.

    `options` are those of the library's BPE. Raises whatever the library does where the merges do not fit.
    """
    fast = FastTokenizer(models.BPE(vocab=dict(vocabulary), merges=list(merges), **options))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space, use_regex=pattern == "")
    if pattern:
        split = pre_tokenizers.Split(Regex(pattern), "isolated")
        fast.pre_tokenizer = pre_tokenizers.Sequence([split, fast.pre_tokenizer])
    fast.decoder = decoders.ByteLevel()
    return fast


def piece_level(model: models.Model, *, blank_first: bool = False) -> FastTokenizer:
    """A model of SentencePiece's pieces, in which ▁ is a blank, and bytes spell what is no piece."""
    first, strip = ([normalizers.Prepend("▁")], [decoders.Strip(" ", 1, 0)]) if blank_first else ([], [])
    fast = FastTokenizer(model)
    fast.normalizer = normalizers.Sequence([*first, normalizers.Replace(" ", "▁")])
    fast.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    return fast


def piece_bpe(pieces: Sequence[str], ranks: Mapping[str, float], unk: str) -> models.BPE:
    """SentencePiece's BPE: of all neighbours that are a piece those with the lowest rank are joined first."""
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    return models.BPE(vocab=vocabulary, merges=all_merges(ranks), unk_token=unk, fuse_unk=True, byte_fallback=True)


def all_merges(ranks: Mapping[str, float]) -> list[tuple[str, str]]:
    """Every way to make a piece of two others, the piece of the lowest rank first."""
    found = [
        (rank, ranks[piece[:cut]], ranks[piece[cut:]], piece[:cut], piece[cut:])
        for piece, rank in ranks.items()
        for cut in range(1, len(piece))
        if piece[:cut] in ranks and piece[cut:] in ranks
    ]
    return [(left, right) for *_, left, right in sorted(found)]


def _alphabet() -> str:
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = iter(range(256))
    return "".join(chr(byte) if byte in shown else chr(256 + next(hidden)) for byte in range(256))


ALPHABET = _alphabet()
"""GPT-2's character for each byte: itself where it can be seen, else one from 256 on."""

_BYTES = {character: byte for byte, character in enumerate(ALPHABET)}


def in_alphabet(piece: bytes) -> str:
    """Bytes in GPT-2's characters."""
    return piece.decode("latin-1").translate(ALPHABET)


def bytes_of(token: str) -> bytes:
    """Bytes of a token in GPT-2's characters; one with other characters is text as it stands."""
    try:
        return bytes(_BYTES[character] for character in token)
    except KeyError:
        return token.encode()
