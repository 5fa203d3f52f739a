"""Labels of texts, and of their tokens, by an encoder that has a head for them."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from transformer_zoo.config import TextsSpec, TokensSpec
from transformer_zoo.errors import UserError
from transformer_zoo.inference.vectors import per_row, read_rows
from transformer_zoo.models import EncoderOnly, check_encoder_only
from transformer_zoo.tokenizers import Tokenizer


class Label(NamedTuple):
    """A label of a text.

    label: its name.
    score: its probability, or the head's measure if that is not a probability.
    """

    label: str
    score: float


class TokenLabel(NamedTuple):
    """The most likely label of a token.

    token: the text that it adds to the tokens before it, as the tokenizer writes it; a special token has its name.
    label: its name.
    score: its probability.
    """

    token: str
    label: str
    score: float


def check_labels(model: EncoderOnly, use: str) -> Literal["texts", "tokens"]:
    """What the model's head labels, texts or tokens. UserError: it has no such head, or is not an encoder.
    >>> check_labels(judge, "classify")
    'texts'
    """
    check_encoder_only(model, use)
    if isinstance(head := model.config.head, TextsSpec):
        return "texts"
    if isinstance(head, TokensSpec):
        return "tokens"
    has = "no head" if head is None else f"a head for {head.kind()}"
    raise UserError(f"{use} takes an encoder with a head for labels, and this one has {has}")


def classify(
    model: EncoderOnly,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    batch_size: int = 32,
    dtype: torch.dtype = torch.float32,
) -> list[list[Label]]:
    """All labels of each text with their probabilities, the most likely first.

    Probabilities sum to 1 if a text has exactly one of the labels, as `config.head.problem` says. If it may have
    several, each has a probability of its own. A text is read as by `embed`; other texts in the batch do not change its
    labels.
    >>> [[likeliest, other]] = classify(judge, letters, ["to be"])
    >>> likeliest.label in ("bad", "good"), round(likeliest.score + other.score, 4)
    (True, 1.0)

    Args:
        model: an encoder with a head for texts, in any mode.
        tokenizer: that of the model.
        texts: any texts, empty ones too.
        batch_size: number of texts that are read at once.
        dtype: of the matrix products: float32, or bfloat16 or float16 by autocast.

    Raises:
        UserError: the model has another head, a batch has no texts, or the tokenizer cannot spell a text.
    """
    if check_labels(model, "classify") != "texts":
        raise UserError("classify takes an encoder with a head for texts, and this one is for tokens: classify_tokens")
    rows = read_rows(model, tokenizer, texts)
    found = per_row(model, rows, model, batch_size=batch_size, dtype=dtype)
    return [_sorted(model.config.head, logits) for logits in found]  # type: ignore[arg-type]


def _sorted(head: TextsSpec, logits: Tensor) -> list[Label]:
    scores = {"one": logits.softmax(0), "several": logits.sigmoid(), "values": logits}[head.problem]
    return sorted(map(Label, head.labels, scores.tolist()), key=lambda found: -found.score)


def classify_tokens(
    model: EncoderOnly,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    batch_size: int = 32,
    dtype: torch.dtype = torch.float32,
) -> list[list[TokenLabel]]:
    """The tokens of each text with their most likely labels. Special tokens around a text have none.

    A text is read as by `embed`. The part that is left out has no labels either.
    >>> tagger = tz.create_model("bert-tiny", vocab_size=257, head=tz.config.TokensSpec(labels=("O", "verb")))
    >>> [tokens] = classify_tokens(tagger, letters, ["to be"])
    >>> [found.token for found in tokens]
    ['t', 'o', ' ', 'b', 'e']

    Args:
        model: an encoder with a head for tokens, in any mode.
        tokenizer: that of the model.
        texts: any texts, empty ones too.
        batch_size: number of texts that are read at once.
        dtype: of the matrix products: float32, or bfloat16 or float16 by autocast.

    Raises:
        UserError: the model has another head, a batch has no texts, or the tokenizer cannot spell a text.
    """
    if check_labels(model, "classify_tokens") != "tokens":
        raise UserError("classify_tokens takes an encoder with a head for tokens, and this one is for texts: classify")
    rows = read_rows(model, tokenizer, texts)
    found = per_row(model, rows, model, batch_size=batch_size, dtype=dtype)
    return [_of_tokens(model, tokenizer, row, logits) for row, logits in zip(rows, found, strict=True)]


def _of_tokens(model: EncoderOnly, tokenizer: Tokenizer, row: Sequence[int], logits: Tensor) -> list[TokenLabel]:
    """The row's tokens without special ones, from logits (T, L) of all of them and of the padding at the end."""
    first, behind = len(tokenizer.start_ids), len(row) - len(tokenizer.end_ids)
    ids, labels = row[first:behind], model.config.head.labels  # type: ignore[union-attr]
    scores, best = logits[first:behind].softmax(-1).max(-1)  # (T,)
    return [*map(TokenLabel, tokenizer.readable(ids), [labels[i] for i in best.tolist()], scores.tolist())]
