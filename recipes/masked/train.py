"""Trains an encoder on any text to predict masked tokens, and measures how often it is right on held-out text.

    python recipes/masked/train.py recipes/masked/python_source_masked.yaml [--optimizer.lr 0.001 ...]

Text -> tokenizer -> tokens -> windows, masks -> model -> training -> accuracy. The same command resumes a run that was
stopped. `torchrun --nproc-per-node N recipes/masked/train.py ...` trains on N GPUs.
"""

import sys
from collections.abc import Sequence

from transformer_zoo.runs.session import Session
from transformer_zoo.training import distributed
from transformer_zoo.training.tasks.masked import MASKED, masked_task
from transformer_zoo.training.tasks.text import read_tokens, train_tokenizer


def main(arguments: Sequence[str]) -> None:
    """One run: everything is checked before anything is written."""
    with Session(MASKED, arguments) as run:
        recipe = run.recipe
        if not run.begin():
            return
        run.open(recipe.data.stamps)
        tokenizer = run.tokenizer(lambda: train_tokenizer(recipe))
        train, validation = read_tokens(recipe, tokenizer, run.run_dir, run.say)
        model = run.model(tokenizer)
        run.train(masked_task(recipe, model, tokenizer, train, validation))
        run.finish()


if __name__ == "__main__":
    sys.exit(distributed.run(lambda: main(sys.argv[1:])))
