"""Text to ids and back: one interface for every kind of tokenizer, for one text or for both sides of a translation."""

from transformer_zoo.tokenizers.imported import import_translation_tokenizer
from transformer_zoo.tokenizers.kinds.bytes import ByteTokenizer
from transformer_zoo.tokenizers.kinds.characters import CharacterTokenizer
from transformer_zoo.tokenizers.kinds.huggingface import HuggingFaceTokenizer
from transformer_zoo.tokenizers.kinds.sentencepiece import SentencePieceTokenizer
from transformer_zoo.tokenizers.kinds.tiktoken import TiktokenTokenizer
from transformer_zoo.tokenizers.kinds.words import WordTokenizer
from transformer_zoo.tokenizers.settings import TokenizerSettings, TranslationTokenizerSettings
from transformer_zoo.tokenizers.tokenizer import Tokenizer, make_tokenizer
from transformer_zoo.tokenizers.translation import TranslationTokenizer

__all__ = [
    "ByteTokenizer",
    "CharacterTokenizer",
    "HuggingFaceTokenizer",
    "SentencePieceTokenizer",
    "TiktokenTokenizer",
    "Tokenizer",
    "TokenizerSettings",
    "TranslationTokenizer",
    "TranslationTokenizerSettings",
    "WordTokenizer",
    "import_translation_tokenizer",
    "make_tokenizer",
]
