"""A test of a finished run: its text translated, and the translations scored."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from transformer_zoo.data import ParallelText
from transformer_zoo.evaluation.metrics import corpus_score
from transformer_zoo.generation import translate_n_best
from transformer_zoo.models import EncoderDecoder, check_encoder_decoder
from transformer_zoo.tokenizers.translation import TranslationTokenizer


def score_test(
    model: EncoderDecoder,
    tokenizer: TranslationTokenizer,
    text: ParallelText,
    search: Mapping[str, Any],
    *,
    name: str,
    metrics: Sequence[str],
    tokenize: str,
    never: Collection[int] | None = None,
) -> tuple[list[str], dict[str, Any]]:
    """Translates `text`, called `name`, and prints its scores with their signatures.

    Args:
        model: What translates.
        tokenizer: Its tokenizer.
        text: Sources and references.
        search: Options of `translate`, which the results repeat.
        name: For the lines that are printed.
        metrics: As for `corpus_score`.
        tokenize: As for `corpus_score`.
        never: As for `translate`.

    Returns:
        The translations, and as plain data scores, signatures, and how many are exactly right or were cut.
    """
    check_encoder_decoder(model, "score_test")
    lines = translate_n_best(model, tokenizer, text.source, scored=False, never=never, name=name, **search)
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
        **search,
    }
