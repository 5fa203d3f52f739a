"""`transformer-zoo chat`: talk with a model that was trained for conversations."""

import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from transformer_zoo.cli.generate import Computing
from transformer_zoo.cli.streams import input_lines
from transformer_zoo.cli.terminal import is_typed, typed_lines
from transformer_zoo.config.decoding import Answering
from transformer_zoo.errors import UserError, naming, printable

if TYPE_CHECKING:
    from transformer_zoo.inference import Chat


@dataclass(frozen=True, kw_only=True)
class Talking(Answering, Computing):
    """How answers in a conversation are written."""

    max_new_tokens: int = 512
    temperature: float = 0.7


def chat(run: Path, talking: Talking, system: str | None = None) -> None:
    """Talk with an imported model: each line gets an answer, which takes all earlier lines into account.

    Messages are written by the chat template that came with the model, and an answer ends as the model's own files say.
    When the context is full, the oldest turns are forgotten, with a warning. Ctrl-C ends an answer, Ctrl-D the
    conversation. Lines from a pipe are turns too.

    Args:
        run: Folder of an imported run, whose model was trained for conversations.
        talking: Talking.
        system: A message to the model before anything else.

    Examples:
        transformer-zoo chat runs/smollm2
        transformer-zoo chat runs/smollm2 --system "Answer in one sentence."
        transformer-zoo chat runs/smollm2 --temperature 0 --max-new-tokens 100
    """
    import torch

    from transformer_zoo.inference import Chat, Speculation
    from transformer_zoo.runs.load import load_text_run
    from transformer_zoo.runs.writing import made_ready
    from transformer_zoo.training.device import choose_device

    loaded = load_text_run(run, device=choose_device(talking.device))
    loaded.model.to(getattr(torch, talking.dtype))
    with naming(str(run)):
        talk = Chat(loaded.model, loaded.tokenizer, system=system)
    at_terminal = is_typed()
    _, draft = made_ready(loaded.model, 1, drafting=not talking.no_draft, in_place=True)
    say = partial(
        talk.say,
        sampling=talking,
        stops=talking.stop,
        max_new_tokens=talking.max_new_tokens,
        speculation=Speculation(lookup=talking.lookup, draft=draft),
    )
    lines = typed_lines("chat", "Say something") if at_terminal else input_lines(None)
    for number, line in enumerate(filter(str.strip, lines)):
        try:
            with closing(say(line, seed=None if talking.seed is None else talking.seed + number)) as pieces:
                _print(talk, pieces)
        except KeyboardInterrupt:
            if not at_terminal:
                raise
        except UserError as error:
            if not at_terminal:
                raise
            print(f"error: {printable(str(error))}", end="", file=sys.stderr)
        print(flush=True)


def _print(talk: "Chat", pieces: Iterator[str]) -> None:
    """An answer as it comes; if the context was full, a note before it says what was forgotten."""
    before = talk.forgotten
    for piece in pieces:
        if talk.forgotten > before:
            before = talk.forgotten
            print(f"the context is full: the oldest {before} messages are forgotten", file=sys.stderr, flush=True)
        print(piece, end="", flush=True)
