"""FSMT's tokenizer: words by Moses' rules (Koehn et al. 2007), from `sacremoses`, then BPE (Sennrich et al. 2016)."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any

from transformer_zoo.errors import UserError
from transformer_zoo.tokenizers.files import TokenizerFiles
from transformer_zoo.tokenizers.tokenizer import Pieces, Spelling, check_unicode

_END = "</w>"  # ends a word
_PUNCTUATION = str.maketrans(
    "，、”“∶：？《》）！（；」「～’━〈〉【】％" + "０１２３４５６７８９",
    ',,""::?"")!(;""~\'-<>[]%' + "0123456789",
) | {ord("…"): "..."}  # as in Moses' script replace-unicode-punctuation
_STOPS = re.compile(r"[。．]\s*")


class MosesPieces(Pieces):
    """Pieces of one side. A decoded text is joined by the rules of its language.

    ids: of the side's pieces. ranks: of the pairs that are merged, in the order of merging. language: its code.
    """

    def __init__(
        self, ids: Mapping[str, int], ranks: Mapping[tuple[str, ...], int], language: str, files: TokenizerFiles
    ) -> None:
        super().__init__(ids)
        self._ranks, self._unk, self._lowers = ranks, ids["<unk>"], bool(files.settings.get("do_lower_case"))
        moses, lang = _sacremoses(files), {"lang": language}
        self._normalizer, self._cutter = moses.MosesPunctNormalizer(**lang), moses.MosesTokenizer(**lang)
        self._joiner = moses.MosesDetokenizer(**lang)
        self._ids_of = lru_cache(2**16)(self._encode_word)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        check_unicode(texts)
        return [[i for word in self._words(text) for i in self._ids_of(word)] for text in texts]

    def _words(self, text: str) -> list[str]:
        text = _STOPS.sub(". ", text.lower() if self._lowers else text).translate(_PUNCTUATION)
        text = self._normalizer.normalize(text)
        text = "".join(letter for letter in text if not unicodedata.category(letter).startswith("C"))
        words: list[str] = self._cutter.tokenize(text, aggressive_dash_splits=True)
        return words

    def _encode_word(self, word: str) -> list[int]:
        parts = [*word[:-1], word[-1] + _END]
        while len(parts) > 1:
            pair = min(pairwise(parts), key=lambda two: self._ranks.get(two, len(self._ranks)))
            if pair not in self._ranks:
                break
            merged: list[str] = []
            for part in parts:
                if merged and (merged[-1], part) == pair:
                    merged[-1] += part
                else:
                    merged.append(part)
            parts = merged
        return [self.ids.get(part, self._unk) for part in parts]

    @cached_property
    def spelling(self) -> Spelling:
        """Words with a blank after each, as Moses cuts them."""
        spelled = {i: token.replace(" ", "").replace(_END, " ").encode() for token, i in self.ids.items()}
        return spelled, "kept"

    def finished(self, text: str) -> str:
        whole: str = self._joiner.detokenize(text.split())
        return whole


def _sacremoses(files: TokenizerFiles) -> Any:
    try:
        import sacremoses
    except ImportError:
        raise UserError(
            f"{files.folder}: words are cut by Moses' rules, which a package has: pip install 'transformer-zoo[moses]'"
        ) from None
    return sacremoses


def moses_sides(files: TokenizerFiles) -> tuple[MosesPieces, MosesPieces]:
    """The vocabularies of source and target. UserError: the package for it, a file or the languages are missing."""
    languages = files.settings.get("langs") or files.model.get("langs")
    if not (isinstance(languages, list) and len(languages) == 2 and all(isinstance(code, str) for code in languages)):
        raise UserError(f"{files.folder}: langs of tokenizer_config.json is {languages!r}, expected two languages")
    lines = files.bytes_of("merges.txt").decode("utf-8", "replace").split("\n")[:-1]
    pairs = [tuple(line.split()[:2]) for line in lines]
    ranks = {pair: rank for rank, pair in enumerate(pairs)}
    source, target = (files.vocabulary(f"vocab-{side}.json", "<unk>") for side in ("src", "tgt"))
    return MosesPieces(source, ranks, languages[0], files), MosesPieces(target, ranks, languages[1], files)
