"""What the rows of gpu.py share: sizes on a GPU and in a rehearsal, models, texts, and timing."""

import gzip
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import transformer_zoo as tz
from transformer_zoo.config import DecoderConfig
from transformer_zoo.config.changes import value_at
from transformer_zoo.data import TokenBatch
from transformer_zoo.training.device import peak_flops

T = TypeVar("T")
TINY: dict[str, Any] = {"d_model": 32, "n_heads": 4, "d_ff": 64, "vocab_size": 131, "max_seq_len": 64}


class NotHere(Exception):
    """Something that a figure needs is missing on this machine; the message is the reason that stands instead."""


@dataclass
class Setting:
    """Where the rows run.

    Args:
        device: A GPU, or the CPU of a rehearsal.
        rehearsal: Everything is tiny, and no measurement means anything.
        files: The folder beside the script: `nanogpt/`, `multi30k/`, `books/`, `tiktoken/`, if somebody put them there.
        seconds_left: Seconds of the row that runs.
    """

    device: torch.device
    rehearsal: bool
    files: Path
    seconds_left: float = 60.0

    def size(self, real: T, tiny: T) -> T:
        """A size that is not the same in a rehearsal."""
        return tiny if self.rehearsal else real

    def model(self, preset: str, dtype: torch.dtype = torch.float32, /, **changes: Any) -> Any:
        """A preset with fresh weights, made on the device: always the same ones, without dropout if none is given."""
        changes = {"dropout": 0.0, "attention_dropout": 0.0, **changes}
        if self.rehearsal:
            changes |= tiny_changes(preset, changes)
        torch.manual_seed(1)
        with torch.device(self.device):
            return tz.create_model(preset, **changes).to(self.device, dtype)

    def autocast(self) -> torch.autocast:
        """bfloat16 for products, as training has it."""
        return torch.autocast(self.device.type, torch.bfloat16)

    def wait(self) -> None:
        """Wait until the device has done everything."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, work: Callable[[], object], *, rounds: int = 5, warm: int = 2) -> float:
        """The median time of `work`."""
        times = []
        for number in range(-warm, self.size(rounds, 1)):
            self.wait()
            start = time.perf_counter()
            work()
            self.wait()
            if number >= 0:
                times.append(time.perf_counter() - start)
        return statistics.median(times)

    @property
    def peak(self) -> float:
        """Operations a second in bfloat16.

        Raises:
            NotHere: it is not known.
        """
        peak = peak_flops(self.device, torch.bfloat16)
        if not peak:
            name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "a CPU"
            raise NotHere(f"the bfloat16 peak of {name} is not known")
        return peak

    @cached_property
    def tokens(self) -> tuple[NDArray[np.int64], str]:
        """Tokens of GPT-2, and their source: books if they lie beside the script, otherwise made up."""
        books = self.files / "books" / "train.txt.gz"
        if not books.is_file():
            return zipf(self.size(2_000_000, 5000), self.size(50257, 131)), "made up, by Zipf's law"
        with gzip.open(books, "rb") as file:
            text = file.read(8 << 20)
        if not (self.files / "tiktoken").is_dir():
            return np.frombuffer(text, np.uint8).astype(np.int64), "books, byte by byte"
        os.environ["TIKTOKEN_CACHE_DIR"] = str(self.files / "tiktoken")
        import tiktoken

        return np.array(tiktoken.get_encoding("gpt2").encode_ordinary(text.decode("utf-8", "ignore"))), "books"

    def windows(self, batch: int, length: int, vocab_size: int, number: int = 0) -> TokenBatch:
        """Some windows of `tokens`, on the device; tokens past the vocabulary come round again."""
        tokens, _ = self.tokens
        starts = (np.arange(batch) * 7919 + number * 104729) % (len(tokens) - length - 1)
        rows = torch.from_numpy(tokens[starts[:, None] + np.arange(length + 1)] % vocab_size).to(self.device)
        return TokenBatch(rows[:, :-1].contiguous(), rows[:, 1:].contiguous(), None, None, batch * length)


def tiny_changes(preset: str, changes: dict[str, Any]) -> dict[str, Any]:
    """What makes a rehearsal's model of a preset, whatever its size is otherwise."""
    config = tz.get_config(preset)
    layers = ["n_layers"] if isinstance(config, DecoderConfig) else ["n_encoder_layers", "n_decoder_layers"]
    tiny = {**TINY, **dict.fromkeys(layers, 1)}
    tiny |= {name: size for name, size in {"head_dim": 8, "n_kv_heads": 2}.items() if value_at(config, name)}
    return {**tiny, "max_seq_len": min(changes.get("max_seq_len", 64), 64)}


def zipf(n: int, vocab_size: int) -> NDArray[np.int64]:
    """Tokens as frequent as words are: the one of rank r in proportion to 1 / r."""
    draw = np.random.default_rng(1)
    share = 1 / np.arange(1, vocab_size + 1)
    return draw.permutation(vocab_size)[draw.choice(vocab_size, n, p=share / share.sum())].astype(np.int64)


def update(module: nn.Module, loss: Callable[[Any], Tensor], optimizer: Any, setting: Setting, batch: Any) -> Tensor:
    """One update as the trainer does it: forward under autocast, backward, clip, step; gives the loss."""
    with setting.autocast():
        value = loss(batch)
    value.backward()
    norm = nn.utils.get_total_norm([p.grad for p in module.parameters() if p.grad is not None])
    nn.utils.clip_grads_with_norm_(module.parameters(), 1.0, norm)
    optimizer.step()
    optimizer.zero_grad()
    return value.detach()


def distance(found: Tensor | Sequence[Tensor], expected: Tensor | Sequence[Tensor]) -> float:
    """||found - expected|| / ||expected||, in float64 on the CPU: of tensors, or of many together."""
    one, other = (
        torch.cat([x.detach().cpu().double().flatten() for x in ([of] if isinstance(of, Tensor) else of)])
        for of in (found, expected)
    )
    return float((one - other).norm() / other.norm())


@contextmanager
def deterministic() -> Iterator[None]:
    """Use kernels of torch that add in a fixed order, as far as there are any."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
