"""Trains a GPT on any text, and measures how many bits it needs for a byte of held-out text.

    python recipes/gpt/train.py recipes/gpt/shakespeare_char_cpu.yaml [--optimizer.lr 0.001 ...]

Text -> tokenizer -> tokens -> windows -> model -> training -> perplexity. The same command resumes a run that was
stopped. `torchrun --nproc-per-node N recipes/gpt/train.py ...` trains on N GPUs.
"""

import sys
from collections.abc import Sequence

from transformer_zoo.runs.session import Session
from transformer_zoo.training import distributed
from transformer_zoo.training.tasks.language import LANGUAGE, language_task
from transformer_zoo.training.tasks.text import read_tokens, train_tokenizer


def main(arguments: Sequence[str]) -> None:
    """One run: everything is checked before anything is written."""
    with Session(LANGUAGE, arguments) as run:
        recipe = run.recipe
        if not run.begin():
            return
        run.open(recipe.data.stamps)
        tokenizer = run.tokenizer(lambda: train_tokenizer(recipe))
        train, validation = read_tokens(recipe, tokenizer, run.run_dir, run.say)
        model = run.model(tokenizer)
        run.train(language_task(recipe, model, tokenizer, train, validation))
        run.finish()


if __name__ == "__main__":
    sys.exit(distributed.run(lambda: main(sys.argv[1:])))
