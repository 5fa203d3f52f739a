r"""From raw text to batches: pairs of sentences for translation, tokens and windows for language models.
>>> from pathlib import Path
>>> from transformer_zoo.tokenizers import ByteTokenizer, TranslationTokenizer, TranslationTokenizerSettings
>>> pair = TranslationTokenizer.train(["ja"], ["yes"], TranslationTokenizerSettings(kind="bytes"))
>>> text = ParallelText(["ja", "nein"], ["yes", "no"])
>>> corpus = encode_corpus(text, pair)
>>> tokens = write_tokens(["To be, or not to be."], ByteTokenizer(), "tokens", "train")
>>> _ = Path("pairs.tsv").write_text("ja\tyes\nnein\tno\n")
"""

from transformer_zoo.data.batching import Batch, batch_indices, collate
from transformer_zoo.data.cleaning import Cleaning, clean
from transformer_zoo.data.encoding import encode_corpus
from transformer_zoo.data.parallel import ParallelFiles, ParallelText, read_parallel
from transformer_zoo.data.text import Piece, TextFiles
from transformer_zoo.data.token_file import TokenFile, prepare_tokens, write_tokens
from transformer_zoo.data.windows import MaskedWindows, TokenBatch, Windows

__all__ = [
    "Batch",
    "Cleaning",
    "MaskedWindows",
    "ParallelFiles",
    "ParallelText",
    "Piece",
    "TextFiles",
    "TokenBatch",
    "TokenFile",
    "Windows",
    "batch_indices",
    "clean",
    "collate",
    "encode_corpus",
    "prepare_tokens",
    "read_parallel",
    "write_tokens",
]
