"""Why a model writes what it writes: how likely each token was, what else could have stood there, where it looked.

Shapes: Tt tokens of an answer, Ts of its source, V vocabulary.
"""

import codecs
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from transformer_zoo.blocks import record_weights
from transformer_zoo.errors import UserError
from transformer_zoo.inference.codec import Tokenizers, TranslationCodec, codec_of
from transformer_zoo.inference.generation import token_rows
from transformer_zoo.inference.modes import evaluating
from transformer_zoo.inference.plain import context_start
from transformer_zoo.models import DecodingModel, check_decoding
from transformer_zoo.tokenizers.tokenizer import Tokenizer


class Alternative(NamedTuple):
    """A token that could stand at some place: its text, its id, its probability there.
    >>> next_tokens(gpt, letters, [72], k=1) == [Alternative(*next_tokens(gpt, letters, [72], k=2)[0])]
    True
    """

    text: str
    id: int
    probability: float


@dataclass(frozen=True)
class ExplainedPiece:
    """A token of an answer. The texts of all in a row are the answer's.

    A character of several tokens is the text of its last one; an end has none.
    >>> explain(gpt, letters, [72], [105], k=3).pieces[0].id
    105

    Args:
        text: What it adds to the text.
        id: Which token it is.
        probability: How likely the model found it, given what comes before; None where nothing does.
        alternatives: The likeliest tokens at its place, itself among them.
    """

    text: str
    id: int
    probability: float | None
    alternatives: list[Alternative] = field(default_factory=list)


@dataclass(frozen=True)
class Explained:
    """An answer, token by token.
    >>> explain(translator, pair, [125, 3], [105, 3]).alignment.shape
    torch.Size([2, 2])

    Args:
        pieces: Its tokens, the end as the last if it has one; not what every answer begins with, such as a language's
            tag.
        source_pieces: The texts of the source's tokens; its end, and a tag, have none. None of a decoder-only model.
        alignment: (Tt, Ts), how much each token looked at each of the source's when it was written; rows sum to 1.
        alignment_of: Which attention that is.
    """

    pieces: list[ExplainedPiece]
    source_pieces: list[str] = field(default_factory=list)
    alignment: Tensor | None = None
    alignment_of: str = ""

    @property
    def text(self) -> str:
        """The answer."""
        return "".join(piece.text for piece in self.pieces)

    @property
    def ids(self) -> list[int]:
        """Its tokens: some of them from the first on, and another in place of the next, are a prefix to go on from."""
        return [piece.id for piece in self.pieces]


@torch.inference_mode()
def explain(
    model: DecodingModel,
    tokenizer: Tokenizers,
    given: Sequence[int],
    answer: Sequence[int],
    *,
    k: int = 5,
    never: Collection[int] | None = None,
) -> Explained:
    """How likely each token of an answer is to the model, by one pass over all of it (teacher forcing).

    Probabilities are the model's own, before any rule and any temperature. The alignment is the mean over the heads of
    the cross-attention of the last layer but one, in which Garg et al. 2019 ("Jointly Learning to Align and Translate
    with Transformer Models") found words aligned best; of a single layer it is that one's.
    >>> explain(gpt, letters, [72], [105, 33]).text
    'i!'

    Args:
        model, tokenizer: as `load_run` gives them.
        given: token ids of a source, its end included, or of a prompt.
        answer: token ids, with what every answer begins with, such as a language's tag, and the end if it has one.
        k: alternatives of each.
        never: tokens that are no alternatives, since they are never written; None: those of the model.

    Raises:
        UserError: there are more tokens than the model takes, none are given, or one is outside the vocabulary.
    """
    check_decoding(model, "explain")
    token_rows([given], model.config.vocab_size)
    token_rows([answer] if answer else [], model.facts.vocab_size)
    codec, opening = codec_of(model, tokenizer), model.opening(given)
    never, skip, text = model.facts.never if never is None else never, len(codec.start), [*opening, *answer[:-1]]
    if max(len(given), len(text)) > model.facts.context:
        raise UserError(f"{max(len(given), len(text))} tokens are more than the model takes ({model.facts.context})")
    with evaluating(model), _cross_weights(model) as (weights, name):
        hidden = _read(model, given, text)[len(opening) - 1 :]  # (Tt, D)
        before = [None if model.facts.has_source else given[-1], *answer[:-1]]
        chosen, likeliest = list[float](), list[list[Alternative]]()
        for i in range(0, len(answer), _AT_ONCE):
            now = slice(i, i + _AT_ONCE)
            probabilities = _probabilities(model, hidden[now])  # (n, V)
            chosen += probabilities[range(len(answer[now])), list(answer[now])].tolist()
            likeliest += _likeliest(codec.target, before[now], probabilities, k, never)
    pieces = [*map(ExplainedPiece, _texts(codec.target, before, answer), answer, chosen, likeliest)][skip:]
    if not isinstance(codec, TranslationCodec):
        return Explained(pieces)
    source = _texts(codec.source, [None, *given[:-1]], given)
    return Explained(pieces, source, weights[""][0].float().mean(0)[skip:].cpu(), name)


@torch.inference_mode()
def next_tokens(
    model: DecodingModel,
    tokenizer: Tokenizer,
    given: Sequence[int],
    *,
    k: int = 10,
    never: Collection[int] | None = None,
) -> list[Alternative]:
    """The likeliest tokens after a text, by the model's own distribution, the likeliest first.
    >>> [one, other] = next_tokens(gpt, letters, [72], k=2)

    Args:
        model, tokenizer: as `load_run` gives them, of a decoder-only model. Of a text longer than its context it reads
            the last part.
        given: token ids of the text.
        k: how many.
        never: tokens that are left out, since they are never written; None: those of the model.

    Raises:
        UserError: none are given, or one is outside the vocabulary.
    """
    check_decoding(model, "next_tokens")
    token_rows([given], model.facts.vocab_size)
    with evaluating(model):
        hidden = _read(model, given, given[context_start(len(given), model.facts.context) :])
        probabilities = _probabilities(model, hidden[-1:])
    never = model.facts.never if never is None else never
    [found] = _likeliest(tokenizer, given[-1:], probabilities, k, never)
    return found


_AT_ONCE = 256
"""Tokens whose probabilities of a whole vocabulary are held at once."""


def _read(model: DecodingModel, given: Sequence[int], text: Sequence[int]) -> Tensor:
    """What the model made of each token of a text that answers what is given, (T, D)."""
    ids = torch.tensor([text], device=model.head_weight.device)
    return model.step(ids, model.begin([given], len(text)))[0]


def _probabilities(model: DecodingModel, hidden: Tensor) -> Tensor:
    """Of the next token, in float32: (T, D) -> (T, V)."""
    return model.logits(hidden).float().softmax(-1)


@contextmanager
def _cross_weights(model: DecodingModel) -> Iterator[tuple[dict[str, Tensor], str]]:
    """What one cross-attention attends to within this, (1, H, Tt, Ts), and which it is; nothing where there is none."""
    if not model.facts.has_source:
        yield {}, ""
        return
    layers = cast(Any, model).decoder.layers
    place = max(0, len(layers) - 2)
    with record_weights(layers[place].cross_attn) as weights:
        yield weights, f"mean over the heads of the cross-attention of decoder layer {place + 1} of {len(layers)}"


def _text(tokenizer: Tokenizer, before: int | None, token: int) -> bytes:
    """What a token adds to the one before it."""
    known = [] if before is None else [before]
    return tokenizer.decode_bytes([*known, token])[len(tokenizer.decode_bytes(known)) :]


def _texts(tokenizer: Tokenizer, before: Sequence[int | None], tokens: Sequence[int]) -> list[str]:
    """The text of each token after the one before it; of a character that several make, that of the last one."""
    characters, last = codecs.getincrementaldecoder("utf-8")("replace"), len(tokens) - 1
    parts = map(partial(_text, tokenizer), before, tokens)
    return [characters.decode(part, place == last) for place, part in enumerate(parts)]


def _likeliest(
    tokenizer: Tokenizer, before: Sequence[int | None], probabilities: Tensor, k: int, never: Collection[int]
) -> list[list[Alternative]]:
    """The k likeliest tokens after each of `before`: probabilities (N, V)."""
    if k < 0:
        raise UserError(f"k {k} must be at least 0")
    allowed = probabilities.index_fill(1, torch.tensor([*never], dtype=torch.int64, device=probabilities.device), -1.0)
    top = allowed.topk(min(k, allowed.size(1) - len(never)))
    return [
        [Alternative(_text(tokenizer, last, i).decode("utf-8", "replace"), i, p) for p, i in zip(*row, strict=True)]
        for last, row in zip(before, zip(top.values.tolist(), top.indices.tolist(), strict=True), strict=True)
    ]
