"""How likely a model finds given answers: translations or continuations."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from transformer_zoo.errors import UserError
from transformer_zoo.inference.codec import Pair, Tokenizers, codec_of
from transformer_zoo.inference.modes import evaluating
from transformer_zoo.models import DecodingModel, check_decoding, pad_rows


@dataclass(frozen=True)
class TargetScore:
    """log p of each token of a target, eos last, given its source and the tokens before, in nats.

    What every target of the language starts with, such as its tag, is given and has no log-probability.
    >>> TargetScore([-0.5, -1.5]).log_prob
    -2.0
    """

    token_log_probs: list[float]

    @property
    def log_prob(self) -> float:
        """log p of the whole target, eos included."""
        return math.fsum(self.token_log_probs)


def perplexity(scores: Sequence[TargetScore]) -> float:
    """exp of the mean negative log-probability per token over all targets, eos included; nan if they have no tokens.
    >>> round(perplexity([TargetScore([-1.0, -1.0])]), 3)
    2.718

    Raises:
        UserError: there are no targets.
    """
    if not scores:
        raise UserError("there are no targets to take a perplexity of")
    log_prob, n = math.fsum(one.log_prob for one in scores), sum(len(one.token_log_probs) for one in scores)
    try:
        return math.exp(-log_prob / n) if n else math.nan
    except OverflowError:
        return math.inf


def score(
    model: DecodingModel,
    tokenizer: Tokenizers,
    sources: Sequence[str],
    targets: Sequence[str],
    *,
    batch_tokens: int = 8192,
    dtype: torch.dtype = torch.float32,
) -> list[TargetScore]:
    """log p(target | source) for each pair of lines, in order, as the beam search counts a target that ended.
    >>> [len(one.token_log_probs) for one in score(translator, pair, ["ja", "nein"], ["yes", "no"])]
    [4, 3]

    Args:
        model, tokenizer: as `load_run` returns them. The model is in evaluation mode while it is used.
        sources: lines to translate, or prompts of a decoder-only model.
        targets: translations, or continuations of the prompts, which have no end.
        batch_tokens: number of tokens of a batch on either side, at most, padding included.
        dtype: of the matrix products: float32, or bfloat16 or float16 by autocast.

    Raises:
        UserError: the numbers of lines differ, or a line is longer than the model takes.
    """
    check_decoding(model, "score")
    if len(sources) != len(targets):
        raise UserError(f"{len(sources)} sources and {len(targets)} targets: they must match line for line")
    codec, context = codec_of(model, tokenizer), model.facts.context
    pairs = codec.encode_pairs(sources, targets)
    for number, length in enumerate((_longer_side(model, pair) for pair in pairs), start=1):
        if length > context:
            raise UserError(f"line {number}: {length} tokens are more than the model takes ({context})")
    rows = score_ids(model, pairs, batch_tokens=batch_tokens, dtype=dtype)
    return [TargetScore(row[len(codec.start) :]) for row in rows]


def score_ids(
    model: DecodingModel, pairs: Sequence[Pair], *, batch_tokens: int = 8192, dtype: torch.dtype = torch.float32
) -> list[list[float]]:
    """log p of each token of each answer, with at most `batch_tokens` in a batch on either side; nan for what is longer
    than the model takes. A source ends as in training, and so does an answer if its end counts.
    >>> [[first, second, end]] = score_ids(translator, [([5, 3], [6, 7, 3])])
    """
    check_decoding(model, "score_ids")
    rows = [[math.nan] * len(answer) for _, answer in pairs]
    for batch in _plan(model, pairs, batch_tokens):
        for i, log_probs in zip(batch, _score_batch(model, [pairs[i] for i in batch], dtype), strict=True):
            rows[i] = log_probs
    return rows


def _plan(model: DecodingModel, pairs: Sequence[Pair], batch_tokens: int) -> Iterator[list[int]]:
    """Batches of pairs with similar length, at least one pair in each. Pairs without an answer or too long are left
    out."""
    lengths = [_longer_side(model, pair) for pair in pairs]
    batch: list[int] = []
    for i in sorted(range(len(pairs)), key=lengths.__getitem__):
        if lengths[i] > model.facts.context or not pairs[i][1]:
            continue
        if batch and (len(batch) + 1) * lengths[i] > batch_tokens:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _longer_side(model: DecodingModel, pair: Pair) -> int:
    """Number of tokens of the source, or of the text that the answer ends."""
    given, answer = pair
    return max(len(given), len(model.opening(given)) + len(answer) - 1)


@torch.inference_mode()
def _score_batch(model: DecodingModel, pairs: Sequence[Pair], dtype: torch.dtype) -> list[list[float]]:
    device, starts = model.head_weight.device, [model.opening(given) for given, _ in pairs]
    texts = [[*start, *answer[:-1]] for start, (_, answer) in zip(starts, pairs, strict=True)]
    answers = torch.tensor([token for _, answer in pairs for token in answer], device=device)  # (N,)
    ids, _ = pad_rows(texts, 0, device=device)  # (B, T); padding is on the right, where nobody sees it
    with evaluating(model, dtype):
        hidden = model.step(ids, model.begin([given for given, _ in pairs], ids.size(1)))  # (B, T, D)
        ends = zip(hidden, starts, texts, strict=True)
        logits = model.logits(torch.cat([row[len(start) - 1 : len(text)] for row, start, text in ends])).float()
    log_probs = (logits.gather(1, answers[:, None])[:, 0] - logits.logsumexp(-1)).split([len(a) for _, a in pairs])
    return [row.tolist() for row in log_probs]
