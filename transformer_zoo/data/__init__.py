"""From raw text to batches: tokenizers, parallel text, batching."""

from transformer_zoo.data.batching import (
    Batch,
    batch_indices,
    collate,
    evaluation_indices,
)
from transformer_zoo.data.encoding import EncodedCorpus, TokenArrays, drop_overlong, encode_corpus
from transformer_zoo.data.parallel import (
    Cleaning,
    CleaningReport,
    ParallelFiles,
    ParallelText,
    clean,
    read_lines,
    read_parallel,
)
from transformer_zoo.data.tokenizers import SentencePieceTokenizer, TokenizerSettings, TranslationTokenizer

__all__ = [
    "Batch",
    "Cleaning",
    "CleaningReport",
    "EncodedCorpus",
    "ParallelFiles",
    "ParallelText",
    "SentencePieceTokenizer",
    "TokenArrays",
    "TokenizerSettings",
    "TranslationTokenizer",
    "batch_indices",
    "clean",
    "collate",
    "drop_overlong",
    "encode_corpus",
    "evaluation_indices",
    "read_lines",
    "read_parallel",
]
