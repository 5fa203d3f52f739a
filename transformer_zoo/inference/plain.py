"""What generation is, without a cache, a batch, a draft or a GPU. Any faster way of writing is tested against it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from transformer_zoo.config import Sampling
from transformer_zoo.inference.rules import LogitsProcessor
from transformer_zoo.inference.sampling import filtered, sample
from transformer_zoo.models import DecodingModel


def context_start(length: int, context: int, stride: int | None = None) -> int:
    """The index at which the context of a text of `length` tokens begins; the context has at most `context` tokens.

    It is 0 as long as everything fits. After that it is the first multiple of `stride` from which the rest fits. So it
    moves only every `stride` tokens, and the model reads at least context - stride + 1 tokens. None: a quarter of
    `context`.
    >>> context_start(1100, context=1024, stride=100)
    100
    """
    stride = max(context // 4, 1) if stride is None else stride
    return -(-max(length - context, 0) // stride) * stride


@torch.inference_mode()
def next_scores(
    model: DecodingModel, given: Sequence[int], written: Sequence[int], how: Sampling, rules: Sequence[LogitsProcessor]
) -> Tensor:
    """Scores (1, V) whose softmax is the distribution of the next token, after a prompt or source and the tokens
    written."""
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
    """The continuation of a prompt, or the answer to a source, as `generate` writes it: token by token, reading all
    each time.
    >>> [generate_plainly(gpt, [5], max_new_tokens=9, seed=1)] == generate(gpt, [[5]], max_new_tokens=9, seed=1)
    True

    Args:
        model: a model on a CPU, in evaluation mode.
        given: token ids.
        how: how the next token is drawn.
        rules: the result of `processors`.
        max_new_tokens: number of tokens of the answer, at most.
        seed: seed of the draws.
        ignore_eos: an end token is a token like any other.
    """
    generator, written = torch.Generator().manual_seed(seed), list[int]()
    while len(written) < max_new_tokens:
        token = int(sample(next_scores(model, given, written, how, rules), [generator]))
        if token in model.facts.ends and not ignore_eos:
            break
        written.append(token)
    return written
