"""Text out of a trained model: beam search, translating lines, scoring given translations, writing on."""

from transformer_zoo.generation.beam import beam_search, length_penalty_at
from transformer_zoo.generation.generate import NewToken, generate, generate_stream
from transformer_zoo.generation.reader import context_start
from transformer_zoo.generation.sampling import Sampling
from transformer_zoo.generation.score import TargetScore, perplexity, score
from transformer_zoo.generation.search import Hypothesis
from transformer_zoo.generation.translate import Translation, translate, translate_n_best
from transformer_zoo.generation.write import NewText, write

__all__ = [
    "Hypothesis", "beam_search", "length_penalty_at",
    "Translation", "translate", "translate_n_best",
    "TargetScore", "perplexity", "score",
    "NewToken", "Sampling", "context_start", "generate", "generate_stream",
    "NewText", "write",
]  # fmt: skip
