"""Words that are near each other for a model: the rows of its input embedding, compared by their cosine."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple

import regex
import torch
import torch.nn.functional as F
from torch import Tensor

from transformer_zoo.errors import UserError
from transformer_zoo.runs.load import EncoderRun, Run, TextRun
from transformer_zoo.tokenizers import Tokenizer

_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+(?:['’-][\p{L}\p{M}\p{N}]+)*")
# In scripts without blanks between words every piece may be a word.
_UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]+")
_NOTHING = 1e-5  # the length of a vector that is only rounding error


class Neighbour(NamedTuple):
    """A word of the vocabulary, and its cosine with the words asked for, from -1 to 1."""

    word: str
    similarity: float


@torch.inference_mode()
def neighbours(
    run: Run | TextRun | EncoderRun, word: str, plus: Sequence[str] = (), minus: Sequence[str] = (), n: int = 10
) -> list[Neighbour]:
    """The n words whose embeddings are nearest to that of a word, or to that of word + plus - minus; nearest first.

    Embeddings are rows of the matrix in which the model looks up its input, for a translation the source's matrix. Each
    gets length 1 before it is added or subtracted (Levy and Goldberg 2014, "Linguistic Regularities in Sparse and
    Explicit Word Representations", 3CosAdd). A word of several pieces is the mean of their rows; `word_pieces` says
    which pieces. Answers are pieces that are whole words, without the given ones. If a vocabulary has no such pieces,
    as one of characters, letters are answers.
    >>> [len(word) for word, _ in neighbours(load_run("runs/letters"), "k", plus=["w"], minus=["m"], n=3)]
    [1, 1, 1]

    Args:
        run: a run as `load_run` returns it.
        word: a word, or several with blanks between them.
        plus, minus: words; "king", plus=["woman"], minus=["man"] asks for king - man + woman.
        n: number of words; there are fewer if the vocabulary has no more.

    Raises:
        UserError: a word is empty or unknown to the vocabulary, words cancel each other out, or n is below 1.
    """
    if n < 1:
        raise UserError(f"n {n} must be at least 1")
    tokenizer, rows = _reader(run)
    given = {each: _ids(tokenizer, each) for each in (word, *plus, *minus)}
    units = {each: F.normalize(rows[ids].float().mean(0), dim=-1) for each, ids in given.items()}  # (D,) each
    wanted = torch.stack([*(units[each] for each in (word, *plus)), *(-units[each] for each in minus)]).sum(0)
    if float(wanted.norm()) < _NOTHING:
        raise UserError("the words cancel each other out, and nothing is left to look for: give others")
    left_out = {*map(str.strip, given), *(i for ids in given.values() for i in ids)}
    words = {text: i for text, i in _words(tokenizer, rows.size(0)).items() if left_out.isdisjoint((text, i))}
    ids = torch.tensor([*words.values()], dtype=torch.int64, device=rows.device)
    best, places = F.cosine_similarity(rows[ids].float(), wanted, dim=-1).topk(min(n, len(words)))
    texts = [*words]
    return [Neighbour(texts[i], similarity) for i, similarity in zip(places.tolist(), best.tolist(), strict=True)]


def word_pieces(run: Run | TextRun | EncoderRun, word: str) -> list[str]:
    """The pieces of a word, over whose rows `neighbours` takes the mean; mostly there is one.
    >>> word_pieces(load_run("runs/letters"), "Hi")
    ['H', 'i']

    Raises:
        UserError: as for `neighbours`.
    """
    tokenizer, _ = _reader(run)
    return tokenizer.readable(_ids(tokenizer, word))


def _reader(run: Run | TextRun | EncoderRun) -> tuple[Tokenizer, Tensor]:
    """The tokenizer of the model's input, and the rows of its embedding (V, D)."""
    if not isinstance(run, Run):
        return run.tokenizer, run.model.embedding.weight.detach()
    embedding = run.model.embedding if run.model.source_embedding is None else run.model.source_embedding
    assert embedding is not None
    return run.tokenizer.source, embedding.weight.detach()


def _ids(tokenizer: Tokenizer, word: str) -> list[int]:
    """The ids of a word inside a text, which follows a blank, unless it then takes more pieces. Without tags."""
    word = word.strip()
    if not word:
        raise UserError("a word is empty: give some text")
    around, spelled = {*tokenizer.encode("")}, _spelled(tokenizer)
    forms = [tokenizer.encode(word)]
    with suppress(UserError):  # a vocabulary need not have the blank
        forms.insert(0, tokenizer.encode(f" {word}"))
    ids = min(([i for i in form if i not in around and spelled(i) != b" "] for form in forms), key=len)
    unknown = [i for i in ids if i == tokenizer.unk_id or i in tokenizer.special_ids or not spelled(i)]
    if unknown or not ids:
        raise UserError(f"{word!r} is not in the vocabulary, or not all of it: give another word")
    return ids


@lru_cache(maxsize=4)
def _words(tokenizer: Tokenizer, n: int) -> dict[str, int]:
    """The pieces that are whole words among the first n ids: those after a blank, if there are such pieces."""
    spelled, hidden = _spelled(tokenizer), {*tokenizer.special_ids, tokenizer.eos_id}
    ids = reversed(range(min(n, tokenizer.vocab_size)))  # if two pieces read alike, the first counts
    texts = {i: spelled(i).decode("utf-8", "replace") for i in ids if i not in hidden}
    after_blank = {text[1:]: i for i, text in texts.items() if text[:1] == " " and _WORD.fullmatch(text[1:])}
    unspaced = {text: i for i, text in texts.items() if _UNSPACED.fullmatch(text)}
    return unspaced | after_blank if after_blank else {text: i for i, text in texts.items() if _WORD.fullmatch(text)}


def _spelled(tokenizer: Tokenizer) -> Callable[[int], bytes]:
    """The text that an id adds inside a text; empty for special ids."""
    alone = (tokenizer.decode_bytes([i]).decode("utf-8", "replace") for i in range(tokenizer.vocab_size))
    first = next((i for i, text in enumerate(alone) if _WORD.fullmatch(text.strip())), None)
    before = [] if first is None else [first]
    known = len(tokenizer.decode_bytes(before))
    return lambda i: tokenizer.decode_bytes([*before, i])[known:]
