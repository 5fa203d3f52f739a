"""What generation is, without a cache, a batch, a guess or a GPU: what any faster way of writing is tested against."""

from collections.abc import Sequence

import torch
from torch import Tensor

from transformer_zoo.config import Sampling
from transformer_zoo.inference.rules import LogitsProcessor
from transformer_zoo.inference.sampling import filtered, sample
from transformer_zoo.models import DecodingModel


def context_start(length: int, context: int, stride: int | None = None) -> int:
    """Where the context of a text of `length` tokens begins, so that it has at most `context`.

    At the first token as long as all fit; then at the first multiple of `stride` from which the rest fits. So it moves
    every `stride` tokens only, and the model reads at least context - stride + 1 tokens. None: a quarter of `context`.
    >>> context_start(1100, context=1024, stride=100)
    100
    """
    stride = max(context // 4, 1) if stride is None else stride
    return -(-max(length - context, 0) // stride) * stride


@torch.inference_mode()
def next_scores(
    model: DecodingModel, given: Sequence[int], written: Sequence[int], how: Sampling, rules: Sequence[LogitsProcessor]
) -> Tensor:
    """Scores (1, V), whose softmax has the next token drawn: after a prompt or source, and what was written so far."""
    text = torch.tensor([[*model.opening(given), *written]])
    seen = text[:, context_start(text.size(1), model.facts.context) :]
    hidden = model.step(seen, model.begin([given], seen.size(1)))  # (1, T, D)
    scores = model.logits(hidden[:, -1]).float()  # (1, V)
    for rule in rules:
        scores = rule(scores, text, len(written))
    return filtered(scores, how)


def generate_plainly(
    model: DecodingModel,
    given: Sequence[int],
    how: Sampling = Sampling(),
    rules: Sequence[LogitsProcessor] = (),
    *,
    max_new_tokens: int = 200,
    seed: int = 0,
    ignore_eos: bool = False,
) -> list[int]:
    """What follows a prompt, or answers a source, as `generate` writes it: token by token, each time reading all.
    >>> [generate_plainly(gpt, [5], max_new_tokens=9, seed=1)] == generate(gpt, [[5]], max_new_tokens=9, seed=1)
    True

    Args:
        model: on a CPU, in evaluation mode.
        given: token ids.
        how: how the next token is drawn.
        rules: of `processors`.
        max_new_tokens: Most tokens of the answer.
        seed: of the draws.
        ignore_eos: what ends a text is a token as any other.
    """
    generator, written = torch.Generator().manual_seed(seed), list[int]()
    while len(written) < max_new_tokens:
        token = int(sample(next_scores(model, given, written, how, rules), [generator]))
        if token in model.facts.ends and not ignore_eos:
            break
        written.append(token)
    return written
