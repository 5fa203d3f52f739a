"""`transformer-zoo`: the commands to train a run and to use it."""

import sys
from collections.abc import Callable, Sequence

from transformer_zoo.errors import run_program

_EXAMPLES = (
    "transformer-zoo train --pairs pairs.tsv --from en --to de",
    "transformer-zoo translate runs/pairs",
    'transformer-zoo generate runs/gpt --prompt "Once upon a time"',
)


def all_commands() -> tuple[Callable[..., None], ...]:
    """The functions behind the commands, in the order of --help."""
    from transformer_zoo.cli import commands, exchange, shipped, zoo
    from transformer_zoo.cli.chat import chat
    from transformer_zoo.cli.classify import classify
    from transformer_zoo.cli.embed import embed
    from transformer_zoo.cli.generate import generate
    from transformer_zoo.cli.looking import attention, neighbours
    from transformer_zoo.cli.report import report
    from transformer_zoo.cli.serve import serve
    from transformer_zoo.cli.split import split
    from transformer_zoo.cli.tokenize import tokenize
    from transformer_zoo.cli.train import train

    training = (train, shipped.recipes, shipped.prepare)
    translating = (commands.translate, commands.evaluate, commands.score, commands.average)
    exchanging = (exchange.import_, exchange.export, exchange.push)
    writing = (generate, chat, embed, classify, tokenize)
    looking = (report, attention, neighbours)
    return (*training, *translating, *writing, serve, *looking, split, *exchanging, zoo.list_, zoo.describe, zoo.plan)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line. Exit status: 0, 1 for an error in the input, 2 for one in the options."""
    from transformer_zoo import __version__
    from transformer_zoo.commandline import run_command

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace" if stream is sys.stderr else "strict")
    return run_program(
        lambda: run_command(
            all_commands(),
            sys.argv[1:] if arguments is None else arguments,
            prog="transformer-zoo",
            about="Train a model, translate or write with it, score it, average its checkpoints; import and export "
            "models; look into the zoo.",
            version=__version__,
            examples=_EXAMPLES,
        )
    )
