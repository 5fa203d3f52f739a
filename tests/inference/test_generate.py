"""What is written: the same alone and in a batch, with a cache and without, however long it gets."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from tests.flat import generate, generate_stream, plainly, write
from transformer_zoo import UserError
from transformer_zoo.config import DecoderConfig
from transformer_zoo.inference import Steps, context_start, encode_prompt, quantize
from transformer_zoo.inference.engine import Engine
from transformer_zoo.inference.modes import LOOK_EVERY
from transformer_zoo.inference.text import TextStream
from transformer_zoo.models import DecoderOnly

VARIANTS: dict[str, dict[str, Any]] = {
    "learned": {},
    "rotary": {"positions": "rotary", "attention.qk_norm": "rmsnorm"},
    "grouped": {"n_heads": 4, "n_kv_heads": 2, "head_dim": 6, "positions": "rotary", "positions.layout": "interleaved"},
    "sinusoidal": {"positions": "sinusoidal", "scale_embeddings": True},
    "modern": {"norm": "rmsnorm", "bias": False, "tie_embeddings": False, "logit_softcap": 5.0, "vocab_multiple": 16},
    "n-grams": {"ngrams": {"n": 3, "rows": 31}},
}
variants = pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 11], [3, 3]]


def small_model(**changes: Any) -> DecoderOnly:
    """Random in every weight, and far from sure of one token."""
    fields = {"vocab_size": 19, "d_model": 12, "n_heads": 2, "d_ff": 20, "n_layers": 2, "max_seq_len": 64}
    torch.manual_seed(5)
    model = DecoderOnly(DecoderConfig.of(**{**fields, **changes})).eval()
    for weight in model.parameters():
        nn.init.normal_(weight, mean=float(weight.dim() == 1), std=0.4)
    return model


@variants
@pytest.mark.parametrize("how", [{"temperature": 0}, {}, {"top_k": 9, "top_p": 0.9, "repetition_penalty": 1.2}])
def test_a_batch_gives_what_each_gives_alone(changes: dict[str, Any], how: dict[str, Any]) -> None:
    model = small_model(**changes)
    together = generate(model, PROMPTS, max_new_tokens=12, seed=3, **how)
    assert len({*map(tuple, together)}) > 1 or "temperature" in how
    for i, prompt in enumerate(PROMPTS):
        assert generate(model, [prompt], max_new_tokens=12, seed=3 + i, **how) == [together[i]]
    turned = generate(model, PROMPTS[::-1], max_new_tokens=12, seed=3, temperature=0)
    assert turned[::-1] == generate(model, PROMPTS, max_new_tokens=12, temperature=0)


@variants
@pytest.mark.parametrize("max_seq_len", [64, 10])
def test_a_cache_gives_what_no_cache_gives(changes: dict[str, Any], max_seq_len: int) -> None:
    model = small_model(max_seq_len=max_seq_len, **changes)
    how: dict[str, Any] = {"max_new_tokens": 25, "seed": 1}
    wanted = plainly(model, PROMPTS, **how)
    assert [len(row) for row in wanted] == [25] * 4
    assert max(map(max, wanted)) < 19  # rows that only pad the vocabulary are never drawn
    assert generate(model, PROMPTS, **how) == wanted
    assert generate(model, PROMPTS, static=True, **how) == wanted


@variants
@pytest.mark.parametrize("static", [False, True])
def test_logits_with_a_cache_are_those_without(changes: dict[str, Any], static: bool) -> None:
    model, rows = small_model(**changes), [list(row) for row in PROMPTS]
    with torch.inference_mode():
        cached = Engine(model, rows, 30, Steps(static=static, stride=1))
        for step in range(8):
            found = cached.read(rows)
            for row, logits in zip(rows, found[:, -1], strict=True):
                torch.testing.assert_close(logits, model(torch.tensor([row]))[0, -1], rtol=1e-4, atol=1e-4)
                row.append(step + len(row) % 3)
            if step == 3:
                cached.keep([3, 0], torch.tensor([3, 0]))
                rows = [rows[3], rows[0]]


def test_the_context_moves_by_the_stride() -> None:
    assert [context_start(n, 8, 3) for n in range(6, 16)] == [0, 0, 0, 3, 3, 3, 6, 6, 6, 9]
    assert [context_start(n, 8, 1) for n in range(7, 12)] == [0, 0, 1, 2, 3]
    assert all(8 - 3 < n - context_start(n, 8, 3) <= 8 for n in range(9, 50))


@pytest.mark.parametrize("positions", ["learned", "rotary"])
@pytest.mark.parametrize("stride", [1, 3, 10])
def test_past_the_context_the_last_window_is_read(positions: str, stride: int) -> None:
    model = small_model(max_seq_len=10, positions=positions)
    prompts = [[1, 2], list(range(1, 15)), [7] * 10]
    found = generate(model, prompts, max_new_tokens=25, temperature=0, stride=stride)
    for prompt, answer in zip(prompts, found, strict=True):
        text = list(prompt)
        for token in answer:
            window = text[context_start(len(text), 10, stride) :]
            assert 10 - stride < len(window) <= 10 or len(window) == len(text)
            assert model(torch.tensor([window]))[0, -1].argmax() == token
            text.append(token)


def eos_model(**changes: Any) -> tuple[DecoderOnly, list[list[int]]]:
    """A model, and answers of different length to PROMPTS, which end in its end-of-text."""
    free = generate(small_model(**changes), PROMPTS, max_new_tokens=30, seed=2)
    for eos in range(19):
        wanted = [row[: row.index(eos)] if eos in row else row for row in free]
        if len({len(row) for row in wanted}) > 2:
            break
    model = small_model(eos_id=eos, **changes)
    assert generate(model, PROMPTS, max_new_tokens=30, seed=2, ignore_eos=True) == free != wanted
    return model, wanted


def test_more_tokens_may_end_an_answer() -> None:
    model, wanted = eos_model()
    stops = small_model(eos_id=None, stop_ids=(18, model.config.eos_id))
    ended = [row[: row.index(18)] if 18 in row else row for row in wanted]
    assert generate(stops, PROMPTS, max_new_tokens=30, seed=2) == ended


@pytest.mark.parametrize("static", [False, True])
def test_end_of_text_stops_a_row_and_no_other(static: bool) -> None:
    model, wanted = eos_model(max_seq_len=16)
    assert generate(model, PROMPTS, max_new_tokens=30, seed=2, static=static) == wanted
    ends = {row: end for row, _, end in generate_stream(model, PROMPTS, max_new_tokens=30, seed=2) if end}
    assert ends == {i: "eos" if len(row) < 30 else "length" for i, row in enumerate(wanted)}


def test_finished_rows_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    model, wanted = eos_model()
    sizes: list[int] = []

    def hidden(ids: torch.Tensor, *rest: Any, **named: Any) -> torch.Tensor:
        sizes.append(ids.size(0))
        return DecoderOnly.hidden(model, ids, *rest, **named)

    monkeypatch.setattr(model, "hidden", hidden)
    generate(model, PROMPTS, max_new_tokens=30, seed=2)
    lengths = [min(len(row) + 1, 30) for row in wanted]
    assert sizes == [sum(length > step for length in lengths) for step in range(max(lengths))]


def test_tokens_come_one_by_one() -> None:
    model = small_model()
    stream = generate_stream(model, PROMPTS, max_new_tokens=5, seed=0)
    first = [next(stream) for _ in range(4)]
    assert [token.row for token in first] == [0, 1, 2, 3]
    assert torch.zeros(1, requires_grad=True).exp().requires_grad  # nothing leaks out of a generator that waits
    answers = [[token.token] for token in first]
    for row, token, _ in stream:
        answers[row].append(token)
    assert answers == generate(model, PROMPTS, max_new_tokens=5, seed=0)


def test_prompts_may_be_a_tensor_and_none() -> None:
    model, prompts = small_model(), torch.randint(0, 19, (2, 4))
    assert generate(model, prompts, max_new_tokens=3, seed=0) == generate(
        model, prompts.tolist(), max_new_tokens=3, seed=0
    )
    assert generate(model, []) == []


def test_without_a_seed_torch_decides() -> None:
    model = small_model()
    torch.manual_seed(1)
    first, second = (generate(model, [[1]], max_new_tokens=20) for _ in range(2))
    assert first != second
    torch.manual_seed(1)
    assert generate(model, [[1]], max_new_tokens=20) == first


def test_a_model_in_training_is_read_without_dropout_and_trains_on() -> None:
    model = small_model(dropout=0.5, attention_dropout=0.5)
    wanted = generate(model, PROMPTS, max_new_tokens=9, seed=0)
    model.train()
    assert generate(model, PROMPTS, max_new_tokens=9, seed=0) == wanted
    assert model.training


def test_bfloat16_weights_are_enough() -> None:
    model = small_model().bfloat16()
    assert [len(row) for row in generate(model, PROMPTS, max_new_tokens=9, seed=0)] == [9] * 4


@pytest.mark.parametrize("max_seq_len", [12, 600])  # past the context there is a second cache
def test_a_static_step_is_compiled_once(max_seq_len: int, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = 0

    def count(graph: Any, _: Any) -> Callable[..., Any]:
        nonlocal compiled
        compiled += 1
        return graph.forward  # type: ignore[no-any-return]

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=count))
    torch._dynamo.reset()
    model = small_model(positions="rotary", max_seq_len=max_seq_len)
    for prompts, n in ((PROMPTS, 20), ([[5, 1], [2], [7] * 6, [3]], 3), (PROMPTS, 9)):
        how: dict[str, Any] = {"max_new_tokens": n, "seed": 0}
        assert generate(model, prompts, compile=True, **how) == generate(model, prompts, **how)
    assert compiled == 1


@variants
@pytest.mark.parametrize("max_seq_len", [64, 10])
@pytest.mark.parametrize("look_every", [2, 8, 100])
def test_it_matters_not_how_often_anybody_looks(
    look_every: int, max_seq_len: int, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, wanted = eos_model(max_seq_len=max_seq_len, **changes)
    monkeypatch.setitem(LOOK_EVERY, "cpu", look_every)
    for how in ({}, {"repetition_penalty": 1.3}):
        options: dict[str, Any] = {"max_new_tokens": 30, "seed": 2, **how}
        assert generate(model, PROMPTS, static=True, **options) == generate(model, PROMPTS, **options)
    assert generate(model, PROMPTS, max_new_tokens=30, seed=2, static=True) == wanted


@pytest.mark.gpu
@pytest.mark.parametrize("positions", ["learned", "rotary"])
@pytest.mark.parametrize("compile", [False, True])
def test_a_captured_step_gives_what_no_cache_gives(positions: str, compile: bool) -> None:
    here = small_model(positions=positions, max_seq_len=16, eos_id=0)
    model = small_model(positions=positions, max_seq_len=16, eos_id=0).cuda()
    how: dict[str, Any] = {"max_new_tokens": 30, "temperature": 0}
    assert generate(model, PROMPTS, compile=compile, **how) == plainly(model, PROMPTS, **how)
    assert len(generate(model, PROMPTS, max_new_tokens=30, seed=0, compile=compile)) == 4
    full = [[3] * 16]  # there is no room for a step before the context has moved
    assert generate(model, full, compile=compile, **how) == plainly(here, full, **how)
    assert generate(model, full, stride=1, **how) == generate(here, full, stride=1, **how)


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ([[1], []], {}, "prompt 2 is empty"),
        ([[1], [2, 19]], {}, "prompt 2 has a token outside the vocabulary of 19"),
        ([[-1]], {}, "outside the vocabulary"),
        ([[1]], {"max_new_tokens": 0}, "max_new_tokens 0"),
        ([[1]], {"stride": 65}, "stride 65 must be from 1 to the context of 64"),
        ([[1]], {"top_p": 2.0}, "top_p is 2.0, expected"),
        ([[1]], {"seed": 2**63}, "seed 9223372036854775808 must be from 0"),
        ([1, 2], {}, "rows of token ids"),
        ([[1.5]], {}, "rows of token ids"),
    ],
)
def test_mistakes_are_named_before_anything_is_read(prompts: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        generate_stream(small_model(), prompts, **options)


def test_the_greatest_seed_has_others_after_it() -> None:
    assert len(generate(small_model(), [[1], [2]], max_new_tokens=2, seed=2**63 - 1)) == 2


@pytest.mark.parametrize("how", [{"temperature": 0}, {}, {"top_k": 3}, {"top_p": 0.9}, {"min_p": 0.1}])
def test_logits_that_are_not_finite_are_an_error(how: dict[str, Any]) -> None:
    model = small_model()
    with torch.no_grad():
        model.embedding.weight[7] = torch.nan
    with pytest.raises(UserError, match="not finite"):
        generate(model, [[1]], **how)


WAYS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0}, "drawn": {"seed": 1},
    "static": {"seed": 1, "static": True}, "guessing": {"temperature": 0, "lookup": 4},
    "filtered": {"seed": 1, "top_k": 5, "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.3},
}  # fmt: skip


@variants
@pytest.mark.parametrize("draft", [False, True])
@pytest.mark.parametrize("how", WAYS.values(), ids=WAYS.keys())
@pytest.mark.parametrize("n", [1, 4])
def test_what_is_never_to_be_written_is_not(changes: dict[str, Any], draft: bool, how: dict[str, Any], n: int) -> None:
    model = small_model(**changes)
    often = sorted(set().union(*generate(model, PROMPTS, max_new_tokens=30, **how)))[:9]
    how = {**how, "draft": quantize(model)} if draft else how
    written = set().union(*generate(model, PROMPTS[:n], max_new_tokens=30, never=often, **how))
    assert written
    assert written.isdisjoint(often)


def test_what_is_never_to_be_written_is_a_token() -> None:
    with pytest.raises(UserError, match="never contains 19, outside the vocabulary of 19"):
        generate(small_model(), [[1]], never=[3, 19])


class Bytes:
    """A token for each byte."""

    start_ids: tuple[int, ...] = ()
    special_ids: tuple[int, ...] = ()

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        return bytes(ids)


class Words:
    """A token for each of some pieces; a blank stands between two."""

    start_ids: tuple[int, ...] = ()
    special_ids: tuple[int, ...] = ()
    pieces = ("a", "b", "cd", "é")

    def encode(self, text: str) -> list[int]:
        return [self.pieces.index(word) for word in text.split()]

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        return " ".join(self.pieces[i] for i in ids).encode()


def streamed(text: bytes, *stops: str) -> tuple[list[str], bool]:
    """What is taken after each byte, and at the end; whether a stop string ended it."""
    stream, taken = TextStream(Bytes(), 0, stops), []
    for byte in text:
        if stream.add(byte):
            return [*taken, stream.take(last=True)], True
        taken.append(stream.take())
    return [*taken, stream.take(last=True)], False


def test_characters_that_are_cut_are_held_back() -> None:
    assert streamed("aé€😀".encode()) == (["a", "", "é", "", "", "€", "", "", "", "😀", ""], False)
    assert streamed("é".encode() + b"\xe2\x82") == (["", "é", "", "", "\ufffd"], False)
    assert streamed(b"\xff!") == (["\ufffd", "!", ""], False)


def test_what_may_become_a_stop_string_is_held_back() -> None:
    assert streamed(b"x\n\ny", "\n\nz") == (["x", "", "", "\n\ny", ""], False)
    assert streamed(b"x\n\nz", "\n\nz") == (["x", "", "", ""], True)
    assert streamed(b"aab", "aac", "ab!") == (["", "", "a", "ab"], False)  # "ab" may still become "ab!"
    assert streamed(b"xab", "ab", "b") == (["x", "", ""], True)
    assert streamed("ü€".encode(), "€") == (["", "ü", "", "", ""], True)


def test_stop_strings_of_a_configuration_end_an_answer_as_given_ones_do() -> None:
    torch.manual_seed(0)
    config = DecoderConfig.of(vocab_size=256, d_model=16, n_heads=2, d_ff=32, n_layers=1, max_seq_len=64)
    plain = DecoderOnly(config).eval()
    with_rule = DecoderOnly(config.changed(**{"rules.stop_strings": ("e", "q")})).eval()
    with_rule.load_state_dict(plain.state_dict())
    how: dict[str, Any] = {"max_new_tokens": 50, "seed": 3, "never": {*range(256)} - {*b"abcdefghijklmnopqrstuvwxyz"}}
    given = [*write(plain, Bytes(), ["the"] * 4, stops=["e", "q"], **how)]
    assert [*write(with_rule, Bytes(), ["the"] * 4, **how)] == given
    assert {"stop"} <= {text.end for text in given if text.end}
    assert given != [*write(plain, Bytes(), ["the"] * 4, **how)]


@pytest.mark.parametrize(("text", "shown"), [("abcd", "ab"), ("bcd", "b"), ("xbc", "xb"), ("bbcd", "bb")])
def test_the_stop_string_that_is_complete_first_counts_however_tokens_are_cut(text: str, shown: str) -> None:
    class Whole(Bytes):
        def decode_bytes(self, ids: Sequence[int]) -> bytes:
            return b"".join(text.encode() if i else b"" for i in ids)

    assert "".join(streamed(text.encode(), "bcd", "c")[0]) == shown
    stream = TextStream(Whole(), 0, ["bcd", "c"])
    assert stream.add(1)
    assert stream.take() == shown


def text_model() -> DecoderOnly:
    return small_model(vocab_size=256, eos_id=None)


def test_pieces_make_up_the_text() -> None:
    model, prompts = text_model(), ["ab", "x", "hello"]
    rows = generate(model, [Bytes().encode(p) for p in prompts], max_new_tokens=40, seed=0)
    wanted = [bytes(row).decode("utf-8", "replace") for row in rows]
    found, ends = [""] * 3, []
    for row, text, end in write(model, Bytes(), prompts, max_new_tokens=40, seed=0):
        found[row] += text
        ends += [end] if end else []
    assert found == wanted
    assert ends == ["length"] * 3


def test_a_stop_string_ends_its_row_only() -> None:
    model, prompts = text_model(), ["ab", "x", "hello"]
    rows = generate(model, [Bytes().encode(p) for p in prompts], max_new_tokens=40, seed=0)
    texts = [bytes(row).decode("utf-8", "replace") for row in rows]
    stop = next(texts[0][i : i + 2] for i in range(10, 40) if not any(texts[0][i : i + 2] in t for t in texts[1:]))
    found, ends = [""] * 3, {}
    for row, text, end in write(model, Bytes(), prompts, stops=[stop, "never"], max_new_tokens=40, seed=0):
        found[row] += text
        ends |= {row: end} if end else {}
    assert found == [texts[0][: texts[0].index(stop)], *texts[1:]]
    assert ends == {0: "stop", 1: "length", 2: "length"}


def test_words_get_the_blank_that_the_prompt_ends_before() -> None:
    model = small_model(vocab_size=4)
    [row] = generate(model, [[0, 2]], max_new_tokens=9, seed=0)
    pieces = write(model, Words(), ["a cd"], max_new_tokens=9, seed=0)
    assert "a cd" + "".join(piece.text for piece in pieces) == Words().decode_bytes([0, 2, *row]).decode()


def test_a_prompt_begins_with_what_the_model_begins_with() -> None:
    seen: list[list[int]] = []

    class Spy(Bytes):
        def decode_bytes(self, ids: Sequence[int]) -> bytes:
            seen.append(list(ids))
            return b""

    cases = (({"eos_id": 9}, "", 9), ({"bos_id": 8, "eos_id": 9}, "", 8), ({"bos_id": 8}, "a", 97))
    for changes, prompt, last in cases:
        seen.clear()
        list(write(small_model(vocab_size=256, **changes), Spy(), [prompt], max_new_tokens=1, seed=0))
        assert seen[0] == [last]
    with pytest.raises(UserError, match="prompt is empty"):
        list(write(text_model(), Bytes(), [""]))


def test_a_prompt_comes_after_what_the_tokenizer_starts_with() -> None:
    class Starting(Bytes):
        start_ids = (7, 9)

    model = small_model(vocab_size=256, bos_id=8, eos_id=5)
    assert encode_prompt(model, Starting(), "ab") == [7, 9, 97, 98]
    assert encode_prompt(model, Starting(), "") == [7, 9]
    assert encode_prompt(model, Bytes(), "ab") == [97, 98]


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(UserError, match="stop string is empty"):
        list(write(text_model(), Bytes(), ["a"], stops=["b", ""]))
