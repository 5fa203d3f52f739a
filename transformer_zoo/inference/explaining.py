"""Why a model writes what it writes: how likely each token was, which others were likely, and where the model looked.

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
    """A token that could stand at a position: its text, its id and its probability there.
    >>> next_tokens(gpt, letters, [72], k=1) == [Alternative(*next_tokens(gpt, letters, [72], k=2)[0])]
    True
    """

    text: str
    id: int
    probability: float


@dataclass(frozen=True)
class ExplainedPiece:
    """A token of an answer. The texts of all pieces together are the answer's text.

    A character made of several tokens is the text of the last one. An end token has no text.
    >>> explain(gpt, letters, [72], [105], k=3).pieces[0].id
    105

    Args:
        text: The text that the token adds.
        id: The id of the token.
        probability: The model's probability of it, given everything before; None if nothing comes before.
        alternatives: The most likely tokens at its position; it may be among them.
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
        pieces: The answer's tokens; the end token is the last if there is one. The tag of a language, with which every
            answer begins, is left out.
        source_pieces: The texts of the source's tokens; its end and a tag have none. Empty for a decoder-only model.
        alignment: (Tt, Ts), how much each token attended to each source token when it was written; rows sum to 1.
        alignment_of: Names that attention.
    """

    pieces: list[ExplainedPiece]
    source_pieces: list[str] = field(default_factory=list)
    alignment: Tensor | None = None
    alignment_of: str = ""

    @property
    def text(self) -> str:
        """The text of the answer."""
        return "".join(piece.text for piece in self.pieces)

    @property
    def ids(self) -> list[int]:
        """The ids of its tokens. Some of them from the first on, followed by another token, are a prefix to continue
        from."""
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
    """How likely the model finds each token of an answer, by one pass over all of it (teacher forcing).

    Probabilities are the model's own, before any rule or temperature. The alignment is the mean over the heads of the
    cross-attention of the last layer but one. Garg et al. 2019 ("Jointly Learning to Align and Translate with
    Transformer Models") found words aligned best there. A model with a single layer gives that layer's.
    >>> explain(gpt, letters, [72], [105, 33]).text
    'i!'

    Args:
        model, tokenizer: as `load_run` returns them.
        given: token ids of a source, its end included, or of a prompt.
        answer: token ids, with a language's tag if every answer begins with one, and with the end token if there is
            one.
        k: number of alternatives of each token.
        never: tokens that are left out because they are never written; None: those of the model.

    Raises:
        UserError: the model cannot take so many tokens, there are none, or one is outside the vocabulary.
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
    """The most likely tokens after a text, by the model's own distribution, the most likely one first.
    >>> [one, other] = next_tokens(gpt, letters, [72], k=2)

    Args:
        model, tokenizer: as `load_run` returns them, for a decoder-only model. If a text is longer than its context, it
            reads the last part.
        given: token ids of the text.
        k: number of tokens.
        never: tokens that are left out because they are never written; None: those of the model.

    Raises:
        UserError: there are no ids, or one is outside the vocabulary.
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
"""Number of tokens whose probabilities over the whole vocabulary are held at once."""


def _read(model: DecodingModel, given: Sequence[int], text: Sequence[int]) -> Tensor:
    """The model's hidden state at each token of an answer, (T, D)."""
    ids = torch.tensor([text], device=model.head_weight.device)
    return model.step(ids, model.begin([given], len(text)))[0]


def _probabilities(model: DecodingModel, hidden: Tensor) -> Tensor:
    """Probabilities of the next token, in float32: (T, D) -> (T, V)."""
    return model.logits(hidden).float().softmax(-1)


@contextmanager
def _cross_weights(model: DecodingModel) -> Iterator[tuple[dict[str, Tensor], str]]:
    """Record the weights of one cross-attention, (1, H, Tt, Ts), and its name; nothing if there is no
    cross-attention."""
    if not model.facts.has_source:
        yield {}, ""
        return
    layers = cast(Any, model).decoder.layers
    place = max(0, len(layers) - 2)
    with record_weights(layers[place].cross_attn) as weights:
        yield weights, f"mean over the heads of the cross-attention of decoder layer {place + 1} of {len(layers)}"


def _text(tokenizer: Tokenizer, before: int | None, token: int) -> bytes:
    """The text that a token adds to the one before it."""
    known = [] if before is None else [before]
    return tokenizer.decode_bytes([*known, token])[len(tokenizer.decode_bytes(known)) :]


def _texts(tokenizer: Tokenizer, before: Sequence[int | None], tokens: Sequence[int]) -> list[str]:
    """The text that each token adds. If several tokens make one character, the last of them has it."""
    characters, last = codecs.getincrementaldecoder("utf-8")("replace"), len(tokens) - 1
    parts = map(partial(_text, tokenizer), before, tokens)
    return [characters.decode(part, place == last) for place, part in enumerate(parts)]


def _likeliest(
    tokenizer: Tokenizer, before: Sequence[int | None], probabilities: Tensor, k: int, never: Collection[int]
) -> list[list[Alternative]]:
    """The k most likely tokens for each row of probabilities (N, V)."""
    if k < 0:
        raise UserError(f"k {k} must be at least 0")
    allowed = probabilities.index_fill(1, torch.tensor([*never], dtype=torch.int64, device=probabilities.device), -1.0)
    top = allowed.topk(min(k, allowed.size(1) - len(never)))
    return [
        [Alternative(_text(tokenizer, last, i).decode("utf-8", "replace"), i, p) for p, i in zip(*row, strict=True)]
        for last, row in zip(before, zip(top.values.tolist(), top.indices.tolist(), strict=True), strict=True)
    ]
