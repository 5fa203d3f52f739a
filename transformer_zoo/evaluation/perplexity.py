"""How well a language model predicts a text: nats per token, bits per byte and perplexity. Every token counts once."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import torch
import torch.nn.functional as F

from transformer_zoo.errors import UserError
from transformer_zoo.inference import first_token
from transformer_zoo.inference.modes import evaluating
from transformer_zoo.kernels.cpu import with_float64
from transformer_zoo.models import DecoderOnly, check_decoder_only

_LOGITS = 1 << 24  # logits computed at once: 64 MiB of float32


@dataclass(frozen=True)
class TextScore:
    """The cost of a text for a model: `nats` for `tokens` tokens, which are the text of `bytes` bytes."""

    nats: float
    tokens: int
    bytes: int

    @property
    def nats_per_token(self) -> float:
        """The mean negative log-likelihood per token."""
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        """exp of the nats per token."""
        return math.exp(min(self.nats_per_token, 700))  # more is not a float

    @property
    def bits_per_byte(self) -> float:
        """The cost of a byte of UTF-8, which can be compared between tokenizers and with compressors."""
        return self.nats / math.log(2) / self.bytes


class Window(NamedTuple):
    """A part of a text: the model reads `ids`, the last `len(targets)` of which predict the targets."""

    ids: Sequence[int]
    targets: Sequence[int]


def sliding_windows(ids: Sequence[int], length: int, stride: int, *, given: int = 1) -> Iterator[Window]:
    """Windows over a text in which each token except the first `given` is a target once.

    They have `length` tokens (the only window of a short text has fewer) and move by `stride`. From the second window
    on, a target is predicted from at least length - stride + 1 tokens.
    """
    start, n = given - 1, len(ids) - 1  # number of tokens before the first target, and before the last one
    done = start
    while done < n:
        end = min(done + stride if done > start else max(length, start + 1), n)
        yield Window(ids[max(end - length, 0) : end], ids[done + 1 : end + 1])
        done = end


def text_score(
    model: DecoderOnly,
    documents: Iterable[tuple[Sequence[int], int]],
    *,
    start_ids: Sequence[int] = (),
    stride: int | None = None,
    batch_size: int = 8,
    dtype: torch.dtype = torch.float32,
) -> TextScore:
    """The cost of documents for a model, by a sliding window of its `max_seq_len`.

    Each document is read separately, after the tokens that texts start with: `start_ids`, otherwise the `first_token`.
    Without any, a document's first token cannot be predicted, and is not counted.
    >>> text_score(tz.create_model("gpt-nano"), [([5, 7, 7], 3)]).tokens
    2

    Args:
        model: a model in any mode; it is in evaluation mode while it is used.
        documents: for each document its token ids, and the number of bytes of the counted ones.
        start_ids: the tokenizer's.
        stride: step of the window; a smaller step predicts from more tokens, and takes longer. None: half of
            `max_seq_len`.
        batch_size: number of windows that are read at once.
        dtype: of the matrix products: float32, or bfloat16 or float16 by autocast.

    Raises:
        UserError: the stride is out of range, or there is nothing to count.
    """
    check_decoder_only(model, "text_score")
    length = model.config.max_seq_len
    stride = max(length // 2, 1) if stride is None else stride
    if not 1 <= stride <= length:
        raise UserError(f"stride {stride} must be from 1 to the context of {length} tokens")
    first = first_token(model)
    start = list(start_ids) or ([] if first is None else [first])
    given = max(len(start), 1)
    n_tokens = n_bytes = 0

    def windows() -> Iterator[Window]:
        nonlocal n_tokens, n_bytes
        for ids, size in documents:
            ids = [*start, *ids] if start else ids
            n_tokens, n_bytes = n_tokens + max(len(ids) - given, 0), n_bytes + size
            yield from sliding_windows(ids, length, stride, given=given)

    nats, source = 0.0, windows()
    while batch := list(islice(source, batch_size)):
        nats += _nats(model, batch, dtype)
    if not n_tokens:
        raise UserError("there is no token to predict: the text is empty, or too short")
    return TextScore(nats, n_tokens, n_bytes)


@torch.inference_mode()
def _nats(model: DecoderOnly, batch: Sequence[Window], dtype: torch.dtype) -> float:
    """-log p of all targets in the windows."""
    device = model.head_weight.device
    longest = max(len(window.ids) for window in batch)
    # Padding is on the right and changes nothing before it, so no mask is needed.
    ids = torch.tensor([[*window.ids, *[0] * (longest - len(window.ids))] for window in batch], device=device)
    targets = torch.tensor([target for window in batch for target in window.targets], device=device)  # (N,)
    total = torch.zeros((), dtype=torch.float64, device=with_float64(device))
    with evaluating(model, dtype):
        hidden = model.hidden(ids)  # (B, T, D)
        read = [x[len(w.ids) - len(w.targets) : len(w.ids)] for x, w in zip(hidden, batch, strict=True)]
        rows = max(_LOGITS // model.config.vocab_size, 1)
        for x, y in zip(torch.cat(read).split(rows), targets.split(rows), strict=True):
            nats = F.cross_entropy(model.logits(x).float(), y, reduction="none")
            total += nats.to(total.device).double().sum()
    return total.item()
