"""Text out of a trained model: beam search, translating lines, scoring given translations."""

from transformer_zoo.generation.beam import Hypothesis, beam_search, length_penalty_at

__all__ = ["Hypothesis", "beam_search", "length_penalty_at"]
