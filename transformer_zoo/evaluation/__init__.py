"""How good translations are, by sacreBLEU's metrics, and whether two systems differ; how well a text is foretold."""

from transformer_zoo.evaluation.languages import bleu_tokenizer, unfit_metrics
from transformer_zoo.evaluation.metrics import (
    METRICS,
    Comparison,
    CorpusScore,
    check_scoring,
    compare,
    corpus_score,
)
from transformer_zoo.evaluation.perplexity import TextScore, sliding_windows, text_score

__all__ = [
    "METRICS",
    "Comparison",
    "CorpusScore",
    "TextScore",
    "bleu_tokenizer",
    "check_scoring",
    "compare",
    "corpus_score",
    "sliding_windows",
    "text_score",
    "unfit_metrics",
]
