"""Text out of a trained model: beam search, translating lines, scoring given translations."""

from transformer_zoo.generation.beam import beam_search, length_penalty_at
from transformer_zoo.generation.score import TargetScore, perplexity, score
from transformer_zoo.generation.search import Hypothesis
from transformer_zoo.generation.translate import Translation, translate, translate_n_best

__all__ = [
    "Hypothesis", "beam_search", "length_penalty_at",
    "Translation", "translate", "translate_n_best",
    "TargetScore", "perplexity", "score",
]  # fmt: skip
