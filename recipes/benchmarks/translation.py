"""Speed compared with other people's implementations: one table for training, one for beam search.

    python recipes/benchmarks/translation.py [--tables training decoding] [--precision float32 bfloat16]

It needs `pip install -e '.[benchmark]'`. All run in this process, in alternation, with the same weights on the same
made-up sentences. A ratio is the median over the rounds of ours / peer within a round, so that other work of the
machine affects both. On two cores it takes about a quarter of an hour.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser, Namespace

if not __package__:  # instead of this folder, whose kernels.py others would take for a package
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from recipes.benchmarks.options import parsed
from recipes.benchmarks.speed import Table, compete, machine, report
from recipes.benchmarks.translation_contestants import (
    decoding_contestants,
    discourage_specials,
    make_corpus,
    training_contestants,
)
from transformer_zoo.config import EncoderDecoderConfig
from transformer_zoo.config.changes import value_at
from transformer_zoo.data import Batch, batch_indices, collate
from transformer_zoo.errors import UserError
from transformer_zoo.models import EncoderDecoder
from transformer_zoo.training.device import choose_device, tune_malloc
from transformer_zoo.zoo import get_config

MEAN_LENGTH = 26  # tokens of a sentence, eos included


def parse_options(arguments: Sequence[str]) -> Namespace:
    """The command line."""
    parser = ArgumentParser(description="Speed of training and of beam search beside other implementations.")
    add: Callable[..., Any] = parser.add_argument
    tables, precisions = ["training", "decoding"], ["float32", "bfloat16"]
    add("--tables", nargs="+", choices=tables, default=tables, help="what to measure")
    add("--precision", nargs="+", choices=precisions, default=precisions, help="bfloat16: by autocast")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    add("--threads", type=int, default=torch.get_num_threads(), help="CPU threads of everybody")
    add("--tune-malloc", type=bool, default=True, help="keep freed memory in the process, for everybody")
    add("--compile", type=bool, default=False, help="torch.compile in training, for everybody")
    add("--vocab-size", type=int, default=8000, help="vocabulary of both tables")
    add("--seed", type=int, default=0, help="seed of weights, sentences and lengths")
    add("--training-preset", default="transformer-small", help="shape of the training table")
    add("--batch-tokens", type=int, default=4096, help="target tokens of a training batch")
    add("--rounds", type=int, default=5, help="rounds of training")
    add("--steps", type=int, default=4, help="updates of each in a round")
    add("--decoding-preset", default="transformer-iwslt", help="shape of the decoding table")
    add("--sentences", type=int, default=1000, help="sentences of a decoding round")
    add("--batch-sentences", type=int, default=64, help="sentences decoded at once, by everybody")
    add("--beam", type=int, default=5, help="beam width")
    add("--new-tokens", type=int, default=MEAN_LENGTH, help="decoding steps of every sentence")
    add("--decoding-rounds", type=int, default=3, help="rounds of decoding")
    add(
        "--ctranslate2",
        nargs="*",
        default=["float32", "int8"],
        help="CTranslate2's compute types; none leaves it out",
    )
    add("--json", default=None, type=str | None, help="also write the results to this file")
    options = parsed(parser, arguments)
    options.device = choose_device(options.device)
    return options


def build(preset: str, options: Namespace) -> EncoderDecoder:
    """The preset as all the peers can have it, on the device."""
    torch.manual_seed(options.seed)
    config = get_config(preset, vocab_size=options.vocab_size, dropout=0.1, **{"positions.layout": "halves"})
    if not isinstance(config, EncoderDecoderConfig):
        raise UserError(f"preset {preset}: it is decoder-only, and this benchmark is about translation")
    return EncoderDecoder(config).to(options.device)


def shape(config: EncoderDecoderConfig) -> str:
    """A model's shape in words."""
    return (
        f"{config.encoder.n_layers}+{config.decoder.n_layers} layers, d_model {config.d_model}, "
        f"d_ff {value_at(config, 'd_ff')}, {value_at(config, 'n_heads')} heads, vocabulary {config.vocab_size}"
    )


def training_table(options: Namespace) -> Table:
    """Target tokens a second."""
    model = build(options.training_preset, options)
    batches = make_batches(options.rounds * options.steps, options)
    rows = compete(training_contestants(model, batches, options), options.rounds, "training", options.device)
    n_tokens, n_pairs = sum(b.n_tokens for b in batches), sum(len(b.source) for b in batches)
    padding = 1 - n_tokens / sum(b.target_out.numel() for b in batches)
    notes = [
        shape(model.config),
        f"{options.rounds} rounds of {options.steps} updates, {n_tokens / len(batches):,.0f} real target "
        f"tokens in each and {padding:.1%} padding, {n_tokens / n_pairs:.1f} tokens a sentence with eos",
        "label smoothing 0.1, fused Adam, dropout 0.1 on embeddings and sublayers (torch.nn.Transformer has "
        "one number, so on attention weights and activations too)",
        f"compiled: {'all' if options.compile else 'none'}",
    ]
    return Table("Training", "target tokens/s", notes, rows)


def make_batches(n: int, options: Namespace) -> list[Batch]:
    """The first n batches of an epoch that are nearly full, on the device."""
    budget = options.batch_tokens
    n_pairs = max(30_000, 4 * n * budget // MEAN_LENGTH)  # as many as a corpus has: little padding
    corpus = make_corpus(n_pairs, MEAN_LENGTH, options.vocab_size, options.seed)
    source_lengths, target_lengths = corpus.source_lengths, corpus.target_lengths
    cut = batch_indices(source_lengths, target_lengths, batch_tokens=budget, seed=options.seed, epoch=0)
    full = [indices for indices in cut if target_lengths[indices].sum() > 0.9 * budget]
    return [collate(corpus, indices).to(options.device) for indices in full[:n]]


def decoding_table(options: Namespace) -> Table:
    """Sentences a second."""
    model = build(options.decoding_preset, options).eval()
    discourage_specials(model)
    corpus = make_corpus(options.sentences, MEAN_LENGTH, options.vocab_size, options.seed)
    contestants = decoding_contestants(model, corpus, options)
    rows = compete(contestants, options.decoding_rounds, "decoding", options.device)
    notes = [
        shape(model.config),
        f"{options.decoding_rounds} rounds of {len(corpus)} sentences of {corpus.source_lengths.mean():.1f} "
        f"tokens, by length, {options.batch_sentences} at a time; beam {options.beam}, "
        f"{options.new_tokens} steps",
        "random weights, copied into all; eos comes at the length limit only: equal work for all",
    ]
    return Table("Beam search", "sentences/s", notes, rows)


def main(arguments: Sequence[str]) -> None:
    """Measure, print, and write."""
    options = parse_options(arguments)
    torch.set_num_threads(options.threads)
    tuned = options.tune_malloc and tune_malloc()
    described = {
        **machine(options.device),
        "malloc": "tuned for all" if tuned else "as the system has it, for all",
    }
    makers = {"training": training_table, "decoding": decoding_table}
    report(described, (makers[name](options) for name in options.tables), options.as_dict(), options.json)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
