r"""From raw text to batches: pairs of sentences for translation, tokens and windows for language models.
>>> from pathlib import Path
>>> from transformer_zoo.tokenizers import ByteTokenizer, TranslationTokenizer, TranslationTokenizerSettings
>>> pair = TranslationTokenizer.train(["ja"], ["yes"], TranslationTokenizerSettings(kind="bytes"))
>>> text = ParallelText(["ja", "nein"], ["yes", "no"])
>>> corpus = encode_corpus(text, pair)
>>> tokens = write_tokens(["To be, or not to be."], ByteTokenizer(), "tokens", "train")
>>> _ = Path("pairs.tsv").write_text("ja\tyes\nnein\tno\n")
"""

from transformer_zoo.data.batching import (
    Batch,
    SpecialIds,
    batch_indices,
    collate,
    evaluation_indices,
)
from transformer_zoo.data.cleaning import Cleaning, CleaningReport, clean
from transformer_zoo.data.encoding import EncodedCorpus, EpochCorpus, TokenArrays, drop_overlong, encode_corpus
from transformer_zoo.data.masking import MaskedWindows
from transformer_zoo.data.parallel import (
    ParallelFiles,
    ParallelText,
    read_lines,
    read_parallel,
)
from transformer_zoo.data.text import Piece, TextFiles
from transformer_zoo.data.token_file import TokenFile
from transformer_zoo.data.tokenizing import prepare_tokens, write_tokens
from transformer_zoo.data.windows import IGNORED, TokenBatch, Windows

__all__ = [
    "Batch",
    "Cleaning",
    "CleaningReport",
    "EncodedCorpus",
    "EpochCorpus",
    "IGNORED",
    "MaskedWindows",
    "ParallelFiles",
    "ParallelText",
    "Piece",
    "SpecialIds",
    "TextFiles",
    "TokenArrays",
    "TokenBatch",
    "TokenFile",
    "Windows",
    "batch_indices",
    "clean",
    "collate",
    "drop_overlong",
    "encode_corpus",
    "evaluation_indices",
    "prepare_tokens",
    "read_lines",
    "read_parallel",
    "write_tokens",
]
