"""Vectors of texts from an encoder, to be compared by their cosine, and the reading of texts for it."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from transformer_zoo.errors import UserError
from transformer_zoo.inference.modes import evaluating
from transformer_zoo.models import EncoderOnly, check_encoder_only
from transformer_zoo.tokenizers import Tokenizer


def embed(
    model: EncoderOnly,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    batch_size: int = 32,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """One vector for each text, (N, D) float32 on the CPU, pooled and normalised as the model's configuration says.

    The encoder reads the first `cut_at` tokens of a text, or `max_seq_len`; the rest is left out. Texts are read in
    order of their length. A text's vector does not depend on the other texts.
    >>> embed(tz.create_model("bert-tiny", vocab_size=257), letters, ["to be", "or not"]).shape
    torch.Size([2, 128])

    Args:
        model: a model in any mode; it is in evaluation mode while it is used.
        tokenizer: that of the model; the tokens that it puts around a text count.
        texts: any texts, empty ones too.
        batch_size: number of texts that are read at once.
        dtype: of the matrix products: float32, or bfloat16 or float16 by autocast.

    Raises:
        UserError: the model is not an encoder alone, a batch has no texts, or the tokenizer cannot spell a text.
    """
    check_encoder_only(model, "embed")
    rows = read_rows(model, tokenizer, texts)
    found = per_row(
        model, rows, lambda ids, mask: model.pool(model.hidden(ids, mask), mask), batch_size=batch_size, dtype=dtype
    )
    return torch.stack(found) if found else torch.empty(0, model.config.d_model)


def read_rows(model: EncoderOnly, tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """The ids that the model reads of each text, as many as it can take."""
    start, end = tokenizer.start_ids, tokenizer.end_ids
    longest = min(model.config.cut_at or model.config.max_seq_len, model.config.max_seq_len)
    room = max(longest - len(start) - len(end), 0)
    return [[*start, *ids[:room], *end] for ids in (tokenizer.encode_batch(list(texts)) if texts else [])]


@torch.inference_mode()
def per_row(
    model: EncoderOnly,
    rows: Sequence[Sequence[int]],
    compute: Callable[[Tensor, Tensor], Tensor],
    *,
    batch_size: int,
    dtype: torch.dtype,
) -> list[Tensor]:
    """The results for all rows, float32 on the CPU. `compute` takes ids and mask (B, T) and returns (B, ...).

    Raises:
        UserError: a batch has no rows.
    """
    if batch_size < 1:
        raise UserError(f"batch_size {batch_size} must be at least 1")
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    found: dict[int, Tensor] = {}
    with evaluating(model, dtype):
        for first in range(0, len(order), batch_size):
            some = order[first : first + batch_size]
            ids, mask = _padded(model, [rows[i] for i in some])
            found |= zip(some, compute(ids, mask).float().cpu(), strict=True)
    return [found[i] for i in range(len(rows))]


def _padded(model: EncoderOnly, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Ids and mask, (B, T), on the model's device."""
    width, device = max(1, *map(len, rows)), model.head_weight.device
    ids = torch.tensor([[*row, *[model.config.pad_id] * (width - len(row))] for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    return ids.to(device), (torch.arange(width) < lengths[:, None]).to(device)
