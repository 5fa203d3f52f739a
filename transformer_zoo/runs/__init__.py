"""A run on disk: its folder, model and tokenizer, what it starts from, and `Session`, in which a recipe trains it."""

from transformer_zoo.runs.load import Run, TextRun, load_run, load_text_run, load_translation_run, save_run

__all__ = ["Run", "TextRun", "load_run", "load_text_run", "load_translation_run", "save_run"]
