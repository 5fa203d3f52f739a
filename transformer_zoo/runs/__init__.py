"""A run on disk: its folder, its model and tokenizer, its starting point, and `Session`, in which a recipe trains it.
>>> from pathlib import Path
>>> from transformer_zoo.tokenizers import ByteTokenizer, TranslationTokenizer, TranslationTokenizerSettings
>>> pair = TranslationTokenizer.train(["ja"], ["yes"], TranslationTokenizerSettings(kind="bytes"))
>>> translated = Run(tz.create_model("transformer-tiny", vocab_size=261), pair, recipe={}, max_source_tokens=100)
>>> save_run(translated, Path("runs/de-en"), recipe={})
>>> written = TextRun(tz.create_model("gpt-nano", vocab_size=257, eos_id=256), ByteTokenizer(), recipe={})
>>> save_run(written, Path("runs/letters"), recipe={})
>>> hidden = EncoderRun(tz.create_model("bert-tiny", vocab_size=259, mask_id=258), ByteTokenizer(), recipe={})
>>> save_run(hidden, Path("runs/hidden"), recipe={})
"""

from transformer_zoo.runs.load import (
    EncoderRun,
    Run,
    TextRun,
    load_encoder_run,
    load_run,
    load_text_run,
    load_translation_run,
    save_run,
)
from transformer_zoo.runs.looking import AttentionMaps, attention_maps
from transformer_zoo.runs.places import PositionsTable, positions_table
from transformer_zoo.runs.scoring import Scorer, scorer
from transformer_zoo.runs.translating import Translator, translator
from transformer_zoo.runs.words_near import Neighbour, neighbours, word_pieces
from transformer_zoo.runs.writing import Writer, writer

__all__ = [
    "AttentionMaps",
    "EncoderRun",
    "Neighbour",
    "PositionsTable",
    "Run",
    "Scorer",
    "TextRun",
    "attention_maps",
    "Translator",
    "Writer",
    "load_encoder_run",
    "load_run",
    "load_text_run",
    "load_translation_run",
    "neighbours",
    "positions_table",
    "save_run",
    "word_pieces",
    "scorer",
    "translator",
    "writer",
]
