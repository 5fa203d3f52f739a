"""How good translations are, by sacreBLEU's metrics; whether two systems differ; how well a model predicts a text."""

from transformer_zoo.evaluation.languages import bleu_tokenizer
from transformer_zoo.evaluation.metrics import METRICS, compare, corpus_score
from transformer_zoo.evaluation.perplexity import text_score

__all__ = ["METRICS", "bleu_tokenizer", "compare", "corpus_score", "text_score"]
