"""tiktoken's byte-level BPE, as in GPT-2 and its successors."""

import base64
import re
from collections.abc import Iterable
from functools import cached_property
from typing import Any, Self

import tiktoken
from tokenizers import Tokenizer as FastTokenizer

from transformer_zoo.errors import UserError
from transformer_zoo.tokenizers.json_pieces import all_merges, byte_level, in_alphabet
from transformer_zoo.tokenizers.settings import USUAL, TokenizerSettings
from transformer_zoo.tokenizers.tokenizer import END_OF_TEXT, Ids, Spelling, Tokenizer, utf8

_MERGES = "merges.tiktoken"


class TiktokenTokenizer(Tokenizer):
    """A byte-level BPE of tiktoken. Every text has an encoding, and special tokens in a text are plain text.

    `TiktokenTokenizer.get("gpt2")` gives the ready-made ones.
    >>> from tiktoken import Encoding
    >>> ranks = {bytes([i]): i for i in range(256)}
    >>> TiktokenTokenizer(Encoding("bytes", pat_str=".", mergeable_ranks=ranks, special_tokens={})).encode("Hi")
    [72, 105]
    """

    kind, reads = "tiktoken", ("encoding",)

    def __init__(self, encoding: tiktoken.Encoding) -> None:
        self.encoding, self.vocab_size = encoding, encoding.n_vocab
        self.eos_id = encoding._special_tokens.get(END_OF_TEXT)

    @property
    def name(self) -> str:
        return f"tiktoken {self.encoding.name} ({self.vocab_size:,})"

    @classmethod
    def make(cls, texts: Iterable[str], settings: TokenizerSettings = USUAL) -> Self:
        return cls.get(settings.encoding)

    @classmethod
    def get(cls, encoding: str) -> Self:
        """One of tiktoken's own, from its cache or from the network. UserError: neither has its file, or it does not
        exist."""
        if encoding not in (names := tiktoken.list_encoding_names()):
            raise UserError(f"encoding: tiktoken has no {encoding!r}; it has {', '.join(names)}")
        try:
            return cls(tiktoken.get_encoding(encoding))
        except ValueError as error:  # a file with a wrong sum
            raise UserError(f"encoding: tiktoken's {encoding!r}: {str(error).partition(chr(10))[0]}") from None
        except OSError:  # what requests raises is one as well
            raise UserError(
                f"encoding: the file of tiktoken's {encoding!r} is not in the cache and cannot be downloaded; set "
                "TIKTOKEN_CACHE_DIR to a folder that tiktoken has filled where there is a network"
            ) from None

    def encode_array(self, text: str) -> Ids:
        utf8(text)
        try:
            return self.encoding.encode_to_numpy(text, disallowed_special=())
        except BaseException as error:  # Rust's panic is not an Exception
            if type(error).__name__ != "PanicException":
                raise
            raise UserError(
                f"tiktoken {self.encoding.name}: its pattern {self.encoding._pat_str!r} cuts a text into pieces of "
                "nothing; the tokenizer is damaged"
            ) from None

    @cached_property
    def spelling(self) -> Spelling:
        """Bytes of all ids except the few that some encodings leave unused."""
        special = {i: token.encode() for token, i in self.encoding._special_tokens.items()}
        return {rank: piece for piece, rank in self.encoding._mergeable_ranks.items()} | special, "kept"

    def content(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        of = self.encoding
        ranks = sorted(of._mergeable_ranks.items(), key=lambda item: item[1])
        lines = b"".join(base64.b64encode(piece) + b" %d\n" % rank for piece, rank in ranks)
        return {"encoding": of.name, "pattern": of._pat_str, "special": of._special_tokens}, {_MERGES: lines}

    @classmethod
    def from_content(cls, fields: dict[str, Any], files: dict[str, bytes]) -> Self:
        if not fields["pattern"]:
            raise ValueError("a pattern that matches nothing")
        pairs = (line.split() for line in files[_MERGES].splitlines())
        ranks = {base64.b64decode(piece): int(rank) for piece, rank in pairs}
        about = {"pat_str": fields["pattern"], "special_tokens": fields["special"]}
        return cls(tiktoken.Encoding(fields["encoding"], mergeable_ranks=ranks, **about))

    def fast(self) -> FastTokenizer:
        """The same pattern, and every merge that gives a piece."""
        special = self.encoding._special_tokens
        ranks = {in_alphabet(piece): rank for piece, rank in self.encoding._mergeable_ranks.items()}
        pattern = _oniguruma(self.encoding._pat_str)
        fast = byte_level({**ranks, **special}, all_merges(ranks), pattern=pattern, ignore_merges=True)
        fast.add_special_tokens(sorted(special, key=special.__getitem__))
        return fast


def _oniguruma(pattern: str) -> str:
    r"""tiktoken's pattern for Oniguruma, in which `$` is any line's end, and `{1,3}+` means another repetition."""
    return re.sub(r"(\{\d*,\d*\})\+", r"\1", re.sub(r"(?<!\\)\$", r"\\z", pattern))
