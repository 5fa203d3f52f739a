"""A test of a finished run: its text translated, and the translations scored."""

from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any

from transformer_zoo.config import BeamSearch
from transformer_zoo.data import ParallelText
from transformer_zoo.evaluation.metrics import corpus_score
from transformer_zoo.inference import Batching, translate_n_best
from transformer_zoo.models import EncoderDecoder, check_encoder_decoder
from transformer_zoo.tokenizers.translation import TranslationTokenizer


def score_test(
    model: EncoderDecoder,
    tokenizer: TranslationTokenizer,
    text: ParallelText,
    search: BeamSearch,
    *,
    name: str,
    metrics: Sequence[str],
    tokenize: str,
    never: Collection[int] | None = None,
    max_source_tokens: int | None = None,
    batching: Batching = Batching(),
) -> tuple[list[str], dict[str, Any]]:
    """Translates `text`, called `name`, and prints its scores with their signatures.

    Args:
        model: What translates.
        tokenizer: Its tokenizer.
        text: Sources and references.
        search: How it is translated, which the results repeat.
        name: For the lines that are printed.
        metrics: As for `corpus_score`.
        tokenize: As for `corpus_score`.
        never, max_source_tokens, batching: As for `translate`.

    Returns:
        The translations, and as plain data scores, signatures, and how many are exactly right or were cut.
    """
    check_encoder_decoder(model, "score_test")
    about: dict[str, Any] = {"never": never, "max_source_tokens": max_source_tokens, "batching": batching}
    lines = translate_n_best(model, tokenizer, text.source, search, scored=False, name=name, **about)
    found = [best for [best] in lines]
    hypotheses = [best.text for best in found]
    scores = corpus_score(hypotheses, text.references, metrics, tokenize=tokenize)
    same = sum(one in references for one, *references in zip(hypotheses, *text.references, strict=True))
    for score in scores:
        exact = f"({same} of {len(text)} exactly right)"
        print(f"{name}: {score.label} {score.score:.2f}  {score.signature}  {exact}", flush=True)
    return hypotheses, {
        **{score.metric: score.score for score in scores},
        "signatures": {score.metric: score.signature for score in scores},
        "exact": same,
        "sentences": len(text),
        "cut": sum(best.is_cut for best in found),
        **{name: value for name, value in asdict(search).items() if name != "n_best" and value is not None},
        "max_source_tokens": max_source_tokens,
    }
