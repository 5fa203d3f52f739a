"""How good translations are: sacreBLEU's metrics, and whether two systems differ."""

from transformer_zoo.evaluation.metrics import (
    METRICS,
    Comparison,
    CorpusScore,
    check_tokenizer,
    compare,
    corpus_score,
)

__all__ = ["METRICS", "Comparison", "CorpusScore", "check_tokenizer", "compare", "corpus_score"]
