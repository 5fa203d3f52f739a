"""What the few shapes of `Batch.in_bucket` cost: padding of a translation's batches, as they are cut and in buckets.

    python recipes/benchmarks/buckets.py SOURCE TARGET [--vocab_size 10000] [--epochs 10]

The pieces are those of a BPE with one vocabulary for both sides. Only lengths are computed, so any machine prints this
table.
"""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence

from transformer_zoo.data import batch_indices, collate, encode_corpus
from transformer_zoo.data.batching import Batch
from transformer_zoo.data.parallel import ParallelFiles, read_parallel
from transformer_zoo.errors import run_program
from transformer_zoo.tokenizers import TranslationTokenizer, TranslationTokenizerSettings

BATCH_TOKENS = (1024, 4096, 8192, 25_000)
LONGEST = 1024  # tokens of a side


def places(batch: Batch) -> int:
    """Tokens of both sides, padding included."""
    return batch.source.numel() + batch.target_in.numel()


def main(arguments: Sequence[str]) -> None:
    """Prints a row for each budget."""
    parser = ArgumentParser(description="Padding of a translation's batches, as they are cut and in buckets.")
    parser.add_argument("source", help="text of the source, a sentence a line; plain or .gz")
    parser.add_argument("target", help="text of the target")
    parser.add_argument("--vocab_size", type=int, default=10_000, help="pieces of both sides together")
    parser.add_argument("--epochs", type=int, default=10, help="counted together")
    options = parser.parse_args(arguments)
    text = read_parallel(ParallelFiles(source=options.source, target=options.target))
    settings = TranslationTokenizerSettings(model_type="bpe", vocab_size=options.vocab_size, joint=True)
    encoded = encode_corpus(text, TranslationTokenizer.train(text.source, text.target, settings))
    lengths = encoded.source_lengths, encoded.target_lengths
    print("| `training.batch_tokens` | shapes as cut | shapes in buckets | padding as cut | padding in buckets |")
    print("|--:|--:|--:|--:|--:|")
    for budget in BATCH_TOKENS:
        real, cut, padded = 0, 0, 0
        shapes: tuple[set[object], set[object]] = set(), set()
        for epoch in range(options.epochs):
            for indices in batch_indices(*lengths, batch_tokens=budget, seed=1, epoch=epoch):
                batch = collate(encoded, indices)
                bucket = batch.in_bucket(0, batch_tokens=budget, longest=LONGEST)
                real += int(sum(side[indices].sum() for side in lengths))
                cut, padded = cut + places(batch), padded + places(bucket)
                for found, made in zip(shapes, (batch, bucket), strict=True):
                    found.add((made.source.shape, made.target_in.shape))
        counts = f"{len(shapes[0])} | {len(shapes[1])} | {1 - real / cut:.1%} | {1 - real / padded:.1%}"
        print(f"| {budget:,} | {counts} |", flush=True)


if __name__ == "__main__":
    sys.exit(run_program(lambda: main(sys.argv[1:])))
