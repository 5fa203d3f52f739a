"""Guessed tokens change how often the model reads, and nothing else."""

from typing import Any

import pytest
import torch
from torch import nn

from tests.flat import generate, generate_stream
from transformer_zoo import UserError
from transformer_zoo.config import DecoderConfig
from transformer_zoo.inference.speculation import Lookup
from transformer_zoo.models import DecoderOnly

PROMPT = [1, 2, 3, 4, 1, 2, 3]


def test_a_guess_is_what_followed_the_last_time() -> None:
    lookup = Lookup(8)
    lookup.learn(8)
    assert lookup.guess([1, 2, 3, 4, 5, 6], room=9) == []
    assert lookup.guess([1, 2, 3, 4, 5, 6, 1, 2, 3], room=9) == [4, 5, 6, 1, 2, 3, 4, 5]
    assert lookup.guess([1, 2, 3, 4, 5, 6, 1, 2, 3, 9, 1, 2, 3], room=2) == [9, 1]
    assert lookup.guess([1, 2, 3, 4, 5, 6, 1, 2, 3, 9, 1, 2, 3], room=0) == []


def test_a_text_that_repeats_itself_is_guessed_on() -> None:
    lookup = Lookup(5)
    lookup.learn(5)
    assert lookup.guess([7, 7, 7, 7], room=9) == [7] * 5
    assert lookup.guess([7, 7, 7, 7, 1, 2, 1, 2, 1], room=9) == [2, 1, 2, 1, 2]


def test_a_guess_is_as_long_as_the_last_one_was_good() -> None:
    lookup, sizes = Lookup(10), []
    for right in (1, 3, 7, 10, 2, 0):
        sizes.append(len(lookup.guess([5] * 9, room=99)))
        lookup.learn(right)
    assert sizes == [1, 3, 7, 10, 10, 5]
    assert Lookup(0).guess([5] * 9, room=99) == []


def model(max_seq_len: int = 64, **changes: Any) -> DecoderOnly:
    """One that repeats itself now and then: its head is its embedding."""
    fields = {"vocab_size": 11, "d_model": 12, "n_heads": 2, "d_ff": 20, "n_layers": 2, "max_seq_len": max_seq_len}
    torch.manual_seed(2)
    made = DecoderOnly(DecoderConfig.of(**{**fields, **changes})).eval()
    for weight in made.parameters():
        nn.init.normal_(weight, mean=float(weight.dim() == 1), std=0.2)
    return made


@pytest.mark.parametrize(
    "changes",
    [{}, {"positions": "rotary", "n_kv_heads": 1}, {"ngrams": {"n": 4, "rows": 13}}, {"positions": "alibi"}],
    ids=["learned", "rotary", "n-grams", "alibi"],
)
@pytest.mark.parametrize("how", [{"temperature": 0.0}, {"temperature": 0.3, "repetition_penalty": 0.9}])
@pytest.mark.parametrize("max_seq_len", [64, 23])
def test_what_is_written_stays_the_same(
    changes: dict[str, Any], how: dict[str, Any], max_seq_len: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = model(max_seq_len, **changes)
    wanted = generate(writer, [PROMPT], max_new_tokens=50, seed=4, lookup=0, **how)
    reads, guesses = [], []
    hidden, learn = DecoderOnly.hidden, Lookup.learn
    monkeypatch.setattr(DecoderOnly, "hidden", lambda *args, **named: reads.append(1) or hidden(*args, **named))
    monkeypatch.setattr(Lookup, "learn", lambda self, right: guesses.append(right) or learn(self, right))
    assert generate(writer, [PROMPT], max_new_tokens=50, seed=4, lookup=6, **how) == wanted
    assert len(reads) - (50 - sum(guesses)) in (0, 1)  # 1: the last token was a guess itself
    assert any(guesses)
    assert 0 in guesses or how["temperature"] == 0


def test_the_end_of_the_text_ends_it_inside_a_guess() -> None:
    writer = model()
    text = generate(writer, [[5]], max_new_tokens=30, temperature=0, lookup=0)[0]
    assert len(set(text[10:])) == 1  # it says the same all the time, so that guesses are long
    stream = generate_stream(writer, [[5]], max_new_tokens=30, temperature=0, lookup=8, stop=_after(17))
    stopped = [new.token for new in stream]
    assert stopped == text[:17]
    assert len(generate(writer, [[5]], max_new_tokens=30, temperature=0, lookup=8)[0]) == 30


def _after(n: int) -> Any:
    """A `stop` that is True for the n-th token."""
    count = 0

    def stop(row: int, token: int) -> bool:
        nonlocal count
        count += 1
        return count == n

    return stop


def test_rows_beside_each_other_are_not_guessed() -> None:
    writer, prompts = model(), [PROMPT, [5, 5, 5, 5]]
    how: dict[str, Any] = {"max_new_tokens": 20, "temperature": 0}
    assert generate(writer, prompts, lookup=4, **how) == generate(writer, prompts, lookup=0, **how)
    assert generate(writer, [PROMPT], lookup=4, static=True, **how) == generate(writer, [PROMPT], lookup=0, **how)
    with pytest.raises(UserError, match="lookup -1"):
        generate(writer, [PROMPT], lookup=-1, **how)
