"""From raw text to batches: pairs of sentences for translation, token shards and windows for language models."""

from transformer_zoo.data.batching import (
    Batch,
    SpecialIds,
    batch_indices,
    collate,
    evaluation_indices,
)
from transformer_zoo.data.cleaning import Cleaning, CleaningReport, clean
from transformer_zoo.data.encoding import EncodedCorpus, EpochCorpus, TokenArrays, drop_overlong, encode_corpus
from transformer_zoo.data.huggingface_tokenizers import ImportedTextTokenizer, import_text_tokenizer
from transformer_zoo.data.imported_translation import (
    ImportedTranslationTokenizer,
    import_translation_tokenizer,
    load_translation_tokenizer,
)
from transformer_zoo.data.parallel import (
    ParallelFiles,
    ParallelText,
    read_lines,
    read_parallel,
)
from transformer_zoo.data.shards import TokenShards
from transformer_zoo.data.subword_tokenizers import (
    SentencePieceTextTokenizer,
    TextTokenizerSettings,
    TiktokenTokenizer,
    load_text_tokenizer,
    make_text_tokenizer,
)
from transformer_zoo.data.text import Piece, TextFiles
from transformer_zoo.data.text_tokenizers import ByteTokenizer, CharacterTokenizer, TextTokenizer, WordTokenizer
from transformer_zoo.data.tokenizer_export import export_tokenizer
from transformer_zoo.data.tokenizers import SentencePieceTokenizer, TokenizerSettings, TranslationTokenizer
from transformer_zoo.data.tokenizing import prepare_shards, write_shards
from transformer_zoo.data.windows import IGNORED, TokenBatch, Windows

__all__ = [
    "Batch",
    "ByteTokenizer",
    "CharacterTokenizer",
    "Cleaning",
    "CleaningReport",
    "EncodedCorpus",
    "EpochCorpus",
    "IGNORED",
    "ImportedTextTokenizer",
    "ImportedTranslationTokenizer",
    "ParallelFiles",
    "ParallelText",
    "Piece",
    "SentencePieceTextTokenizer",
    "SentencePieceTokenizer",
    "SpecialIds",
    "TextFiles",
    "TextTokenizer",
    "TextTokenizerSettings",
    "TiktokenTokenizer",
    "TokenArrays",
    "TokenBatch",
    "TokenShards",
    "TokenizerSettings",
    "TranslationTokenizer",
    "Windows",
    "WordTokenizer",
    "batch_indices",
    "clean",
    "collate",
    "drop_overlong",
    "encode_corpus",
    "evaluation_indices",
    "export_tokenizer",
    "import_text_tokenizer",
    "import_translation_tokenizer",
    "load_text_tokenizer",
    "load_translation_tokenizer",
    "make_text_tokenizer",
    "prepare_shards",
    "read_lines",
    "read_parallel",
    "write_shards",
]
