"""What SentencePiece makes of a text before it cuts it into pieces, as a part of a model that can be exchanged.

A model is a protocol buffer, and of two that stand one after the other the later's fields count; so a normalizer is
exchanged by writing another one behind the model.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, Literal

import sentencepiece as spm

Normalization = Literal["nmt_nfkc", "nmt_nfkc_cf", "nfkc", "nfkc_cf", "identity"]

# SentencePiece writes ▁ for a blank, and trains on no line that has ▅: in its pieces they are these, and text again
# when it is put together.
_RESERVED = {"▁": "\U0010ff81", "▅": "\U0010ff85"}
_BLANKS = {c: " " for c in map(chr, range(0x3001)) if c.isspace() and c != " "}
_AS_IT_IS: dict[str, Any] = {"add_dummy_prefix": False, "escape_whitespaces": False, "remove_extra_whitespaces": False}
_DENORMALIZER_SPEC = 5  # its field in sentencepiece_model.proto


def normalized(lines: Iterable[str], normalization: Normalization) -> Iterator[str]:
    """Each line as a model with this normalization reads it."""
    normalizer = _normalizer(normalization, **_AS_IT_IS)
    return (normalizer.normalize(line) for line in lines)


def stand_ins(model: spm.SentencePieceProcessor) -> dict[int, str]:
    """For `str.translate`: the reserved characters of what a model has put together, where it can have any."""
    return str.maketrans({x: str(model.decode_pieces([x])) for x in _RESERVED.values()})


@cache
def normalizing(normalization: Normalization) -> bytes:
    """What a model has to end with, to read so. Whatever it reads, it gives back the reserved characters."""
    back = [(stand_in, character) for character, stand_in in _RESERVED.items()]
    spec: bytes = spm.SentencePieceNormalizer(norm_map=back, **_AS_IT_IS).serialized_normalizer_spec()
    normalizer: bytes = _normalizer(normalization).serialized_model_proto()
    return normalizer + bytes([_DENORMALIZER_SPEC << 3 | 2]) + _varint(len(spec)) + spec


def _normalizer(normalization: Normalization, **flags: Any) -> spm.SentencePieceNormalizer:
    """SentencePiece's own, but for `identity`, where all that changes is that white space becomes plain blanks."""
    spm.set_min_log_level(2)
    if normalization == "identity":
        return spm.SentencePieceNormalizer(norm_map=[*_BLANKS.items(), *_RESERVED.items()], **flags)
    return spm.SentencePieceNormalizer(rule_name=normalization, **flags)


def _varint(number: int) -> bytes:
    """A length as protocol buffers write it: seven bits a byte, the lowest first, and a flag in all but the last."""
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + _varint(rest) if rest else bytes([low])
