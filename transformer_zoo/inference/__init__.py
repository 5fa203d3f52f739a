"""Text out of a trained model: sampling, beam search, translation of lines, continuation and scoring.
>>> from transformer_zoo.tokenizers import ByteTokenizer, TranslationTokenizer, TranslationTokenizerSettings
>>> gpt, letters = tz.create_model("gpt-nano", vocab_size=257).eval(), ByteTokenizer()
>>> talker = ByteTokenizer()
>>> talker.chat_template = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}<|assistant|>"
>>> translator = tz.create_model("transformer-tiny", vocab_size=261).eval()
>>> pair = TranslationTokenizer.train(["ja"], ["yes"], TranslationTokenizerSettings(kind="bytes"))
>>> judge = tz.create_model("bert-tiny", vocab_size=257, head=tz.config.TextsSpec(labels=("bad", "good")))
"""

from transformer_zoo.config import BeamSearch, Rules, Sampling
from transformer_zoo.inference.beam import beam_search
from transformer_zoo.inference.chat import Chat, render_chat
from transformer_zoo.inference.codec import encode_prompt, first_token
from transformer_zoo.inference.engine import Kept, Steps
from transformer_zoo.inference.explaining import Alternative, Explained, ExplainedPiece, explain, next_tokens
from transformer_zoo.inference.generation import NewToken, generate, generate_stream
from transformer_zoo.inference.labels import Label, TokenLabel, check_labels, classify, classify_tokens
from transformer_zoo.inference.lines import translate, translate_n_best
from transformer_zoo.inference.packing import draft_of, pack, quantize
from transformer_zoo.inference.pieces import Batching, Translation
from transformer_zoo.inference.plain import context_start, generate_plainly
from transformer_zoo.inference.rules import LogitsProcessor, processors
from transformer_zoo.inference.scoring import TargetScore, perplexity, score, score_ids
from transformer_zoo.inference.search import Hypothesis
from transformer_zoo.inference.speculation import Speculation
from transformer_zoo.inference.text import NewText, write
from transformer_zoo.inference.vectors import embed

__all__ = [
    "BeamSearch", "Rules", "Sampling", "Speculation", "Steps", "Kept", "Batching",
    "NewToken", "context_start", "generate", "generate_plainly", "generate_stream",
    "Hypothesis", "beam_search",
    "Translation", "translate", "translate_n_best",
    "TargetScore", "perplexity", "score", "score_ids",
    "NewText", "encode_prompt", "first_token", "write",
    "Alternative", "Explained", "ExplainedPiece", "explain", "next_tokens",
    "Chat", "render_chat",
    "LogitsProcessor", "processors",
    "draft_of", "pack", "quantize",
    "embed",
    "Label", "TokenLabel", "check_labels", "classify", "classify_tokens",
]  # fmt: skip
