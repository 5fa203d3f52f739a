"""Trains a translation model from raw parallel text, and scores it.

    python recipes/translation/train.py recipes/translation/multi30k.yaml [--optimizer.lr 0.001 ...]

Text -> tokenizer -> batches -> model -> training -> BLEU. The same command resumes a run that was stopped. `torchrun
--nproc-per-node N recipes/translation/train.py ...` trains on N GPUs.
"""

import sys
from collections.abc import Sequence

from transformer_zoo.runs.kept_tests import score_tests
from transformer_zoo.runs.session import Session
from transformer_zoo.training import distributed
from transformer_zoo.training.tasks.translation import (
    TRANSLATION,
    checksums_of,
    read_tests,
    read_texts,
    train_tokenizer,
    translation_task,
)


def main(arguments: Sequence[str]) -> None:
    """One run: everything is checked before anything is written."""
    with Session(TRANSLATION, arguments) as run:
        recipe, tests = run.recipe, read_tests(run.recipe)
        if not run.begin(checksums_of(tests)):
            return
        texts = read_texts(recipe, tests, run.say)
        run.open(lambda: texts.checksums)
        tokenizer = run.tokenizer(lambda: train_tokenizer(recipe, texts))
        report = texts.report(tokenizer, run.say) if run.main else {}
        model = run.model(tokenizer)
        longest = 0 if run.start is None else run.start.max_source_tokens
        run.train(translation_task(recipe, model, tokenizer, texts, run.say, longest_before=longest))
        run.finish(lambda: {"tests": score_tests(recipe, tests, run.run_dir, run.device), **report})


if __name__ == "__main__":
    sys.exit(distributed.run(lambda: main(sys.argv[1:])))
