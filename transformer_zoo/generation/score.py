"""How likely a model finds translations that are given."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from transformer_zoo.errors import UserError
from transformer_zoo.generation.inference import evaluating, pad_ids
from transformer_zoo.models import EncoderDecoder, check_encoder_decoder
from transformer_zoo.tokenizers.translation import TranslationTokenizer


@dataclass(frozen=True)
class TargetScore:
    """log p of each token of a target, eos last, given its source and the tokens before; in nats.

    What every target of the language starts with, such as its tag, is given and has none.
    """

    token_log_probs: list[float]

    @property
    def log_prob(self) -> float:
        """Of the whole target, eos included."""
        return math.fsum(self.token_log_probs)


def perplexity(scores: Sequence[TargetScore]) -> float:
    """exp of the mean negative log-probability of a token, over all targets, eos included.

    Raises:
        UserError: there are none.
    """
    if not scores:
        raise UserError("there are no targets to take a perplexity of")
    log_prob = math.fsum(score.log_prob for score in scores)
    try:
        return math.exp(-log_prob / sum(len(score.token_log_probs) for score in scores))
    except OverflowError:
        return math.inf


def score(
    model: EncoderDecoder,
    tokenizer: TranslationTokenizer,
    sources: Sequence[str],
    targets: Sequence[str],
    *,
    batch_tokens: int = 8192,
    dtype: torch.dtype = torch.float32,
) -> list[TargetScore]:
    """log p(target | source) for each pair of lines, in order, as the beam search counts one that ended.

    Args:
        model, tokenizer: as `load_run` gives them. The model is put into evaluation mode while it is used.
        sources, targets: as many of one as of the other.
        batch_tokens: most tokens of a batch on either side, padding included.
        dtype: of the matrix products: float32, or bfloat16 or float16 by autocast.

    Raises:
        UserError: numbers of lines differ, or a line is longer than learned positions take.
    """
    check_encoder_decoder(model, "score")
    if len(sources) != len(targets):
        raise UserError(f"{len(sources)} sources and {len(targets)} targets: they must match line for line")
    config = model.config
    n_given = len(tokenizer.target.encode_batch([""])[0])
    pairs = [
        ([*source, config.source_end], [config.bos_id, *target, config.eos_id])
        for source, target in zip(
            tokenizer.source.encode_batch(sources), tokenizer.target.encode_batch(targets), strict=True
        )
    ]
    for number, length in enumerate(map(_longer_side, pairs), start=1):
        if config.positions == "learned" and length > config.max_seq_len:
            raise UserError(f"line {number}: {length} tokens are more than the model takes ({config.max_seq_len})")
    rows = score_ids(model, pairs, batch_tokens=batch_tokens, dtype=dtype)
    return [TargetScore(row[n_given:]) for row in rows]


def score_ids(
    model: EncoderDecoder,
    pairs: Sequence[tuple[list[int], list[int]]],
    *,
    batch_tokens: int = 8192,
    dtype: torch.dtype = torch.float32,
) -> list[list[float]]:
    """log p of each token of each target but its first, which is bos; of pairs of source and target as the model takes
    them, at most `batch_tokens` of a batch on either side. nan of what is longer than learned positions take."""
    check_encoder_decoder(model, "score_ids")
    lengths = list(map(_longer_side, pairs))
    rows: dict[int, list[float]] = {}
    batch: list[int] = []
    for i in sorted(range(len(pairs)), key=lengths.__getitem__):
        if model.config.positions == "learned" and lengths[i] > model.config.max_seq_len:
            rows[i] = [math.nan] * (len(pairs[i][1]) - 1)
            continue
        if batch and (len(batch) + 1) * lengths[i] > batch_tokens:
            rows.update(zip(batch, _score_batch(model, [pairs[j] for j in batch], dtype), strict=True))
            batch = []
        batch.append(i)
    if batch:
        rows.update(zip(batch, _score_batch(model, [pairs[j] for j in batch], dtype), strict=True))
    return [rows[i] for i in range(len(pairs))]


def _longer_side(pair: tuple[list[int], list[int]]) -> int:
    source, target = pair
    return max(len(source), len(target) - 1)


@torch.inference_mode()
def _score_batch(
    model: EncoderDecoder, pairs: Sequence[tuple[list[int], list[int]]], dtype: torch.dtype
) -> list[list[float]]:
    device, pad_id = model.head_weight.device, model.config.pad_id
    source, source_mask = pad_ids([source for source, _ in pairs], pad_id)
    target, target_mask = pad_ids([target[:-1] for _, target in pairs], pad_id)
    following, _ = pad_ids([target[1:] for _, target in pairs], pad_id)
    masks = [None if mask is None else mask.to(device) for mask in (source_mask, target_mask)]
    with evaluating(model, dtype):
        logits = model(source.to(device), target.to(device), *masks).float()  # (B, Tt, V)
    chosen = logits.gather(-1, following.to(device)[..., None])[..., 0]  # (B, Tt)
    log_probs = (chosen - logits.logsumexp(-1)).tolist()
    return [row[: len(target) - 1] for row, (_, target) in zip(log_probs, pairs, strict=True)]
