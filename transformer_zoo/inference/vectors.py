"""Vectors of texts: what an encoder makes of a whole text, to be compared with others by their cosine."""

from collections.abc import Sequence

import torch
from torch import Tensor

from transformer_zoo.errors import UserError
from transformer_zoo.inference.modes import evaluating
from transformer_zoo.models import EncoderOnly, check_encoder_only
from transformer_zoo.tokenizers import Tokenizer


@torch.inference_mode()
def embed(
    model: EncoderOnly,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    batch_size: int = 32,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """One vector for each text, (N, D) float32 on the CPU, pooled and normalised as the model's configuration says.

    A text is read to its `cut_at`, else `max_seq_len`, tokens; the rest is left out. Texts are read in order of their
    length, and which others there are changes none of them.
    >>> embed(tz.create_model("bert-tiny", vocab_size=257), letters, ["to be", "or not"]).shape
    torch.Size([2, 128])

    Args:
        model: any mode; it is put into evaluation mode while it is used.
        tokenizer: that of the model; what it puts before and after a text counts.
        texts: any, empty ones too.
        batch_size: texts that are read at once.
        dtype: of the matrix products: float32, or bfloat16 or float16 by autocast.

    Raises:
        UserError: a model that is no encoder alone, a batch of no texts, or a text that the tokenizer cannot spell.
    """
    check_encoder_only(model, "embed")
    if batch_size < 1:
        raise UserError(f"batch_size {batch_size} must be at least 1")
    start, end = tokenizer.start_ids, tokenizer.end_ids
    longest = min(model.config.cut_at or model.config.max_seq_len, model.config.max_seq_len)
    room = max(longest - len(start) - len(end), 0)
    rows = [[*start, *ids[:room], *end] for ids in (tokenizer.encode_batch(list(texts)) if texts else [])]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    vectors = torch.empty(len(rows), model.config.d_model)
    with evaluating(model, dtype):
        for first in range(0, len(order), batch_size):
            some = order[first : first + batch_size]
            vectors[some] = _embed(model, [rows[i] for i in some]).float().cpu()
    return vectors


def _embed(model: EncoderOnly, rows: Sequence[Sequence[int]]) -> Tensor:
    """Those of one batch, (B, D)."""
    width = max(1, *(len(row) for row in rows)) if rows else 1
    ids = torch.tensor([[*row, *[model.config.pad_id] * (width - len(row))] for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    device = model.head_weight.device
    mask = (torch.arange(width) < lengths[:, None]).to(device)  # (B, T)
    return model.pool(model.hidden(ids.to(device), mask), mask)
