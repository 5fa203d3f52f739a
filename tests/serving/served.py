"""A real server on a free port, with tiny models of every kind."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any, TypeVar

import torch
from torch import nn

import transformer_zoo as tz
from transformer_zoo.config.serving import ServingSettings
from transformer_zoo.runs import EncoderRun, Run, TextRun
from transformer_zoo.serving import Engine
from transformer_zoo.serving.app import create_app
from transformer_zoo.serving.running import Server, listen
from transformer_zoo.tokenizers import ByteTokenizer, TranslationTokenizer, TranslationTokenizerSettings

TEMPLATE = (
    "{% for m in messages %}{% if m.role not in ('system', 'user', 'assistant') %}{{ raise_exception('no such role') }}"
    "{% endif %}<{{ m.role }}>{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
AnyRun = Run | TextRun | EncoderRun
M = TypeVar("M", bound=nn.Module)


def certain(model: M) -> M:
    """The model with its weights three times as large, so that probabilities are not all alike."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return model.eval()


def writer(*, talks: bool = False, **changes: Any) -> TextRun:
    """A decoder-only run of bytes."""
    torch.manual_seed(0)
    tokenizer = ByteTokenizer()
    tokenizer.chat_template = TEMPLATE if talks else None
    model = tz.create_model("gpt-nano", vocab_size=257, **{"eos_id": 256, "n_layers": 2, "max_seq_len": 256, **changes})
    return TextRun(certain(model), tokenizer, {})


def translator(source: str, target: str) -> Run:
    """A translation run of bytes between two languages."""
    torch.manual_seed(0)
    pair = TranslationTokenizer.train(["ja"], ["yes"], TranslationTokenizerSettings(kind="bytes"))
    model = certain(tz.create_model("transformer-tiny", vocab_size=261))
    recipe = {"data": {"source_lang": source, "target_lang": target}, "test": {"beam": 2, "max_extra": 4}}
    return Run(model, pair, recipe, max_source_tokens=100)


def encoder() -> EncoderRun:
    """A run of an encoder of bytes."""
    torch.manual_seed(0)
    return EncoderRun(tz.create_model("bert-tiny", vocab_size=259, mask_id=258).eval(), ByteTokenizer(), {})


@cache
def runs() -> dict[str, AnyRun]:
    """One of each kind, and a second translator."""
    return {
        "letters": writer(),
        "talker": writer(talks=True),
        "de-en": translator("de", "en"),
        "en-fr": translator("eng_Latn", "fr"),
        "vectors": encoder(),
    }


@contextmanager
def served(
    runs: Mapping[str, AnyRun], settings: ServingSettings = ServingSettings(), **engine: Any
) -> Iterator[tuple[str, dict[str, Engine]]]:
    """The address of a server with these runs, and its engines."""
    with ExitStack() as stack:
        listener = stack.enter_context(listen("127.0.0.1", 0))
        engines = {name: stack.enter_context(Engine(run, **engine)) for name, run in runs.items()}
        started = threading.Event()
        server = Server(create_app(engines, settings), engines.values(), settings, started.set)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            assert started.wait(30)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", engines
        finally:
            server.should_exit = True
            thread.join(60)


def eventually(truth: Any, seconds: float = 10.0) -> bool:
    """Whether it becomes true within so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if truth():
            return True
        time.sleep(0.01)
    return bool(truth())
