"""An engine: many people at once, what goes wrong, and its end."""

import asyncio
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest
import torch

import transformer_zoo as tz
from tests.models.helpers import small_gpt, small_model
from transformer_zoo import UserError
from transformer_zoo.config import BeamSearch, Sampling
from transformer_zoo.inference import NewText, score, translate_n_best, write
from transformer_zoo.runs import EncoderRun, Run, TextRun
from transformer_zoo.runs.huggingface import read_huggingface
from transformer_zoo.serving import Closed, Engine, QueueFull, StepFailed, prompts
from transformer_zoo.serving.requests import Request
from transformer_zoo.tokenizers import ByteTokenizer, TranslationTokenizer, TranslationTokenizerSettings
from transformer_zoo.tokenizers.families import LANGUAGES

from .. import hub

LINES = ["ja", "nein, danke", "", "vielleicht", "x", "ja"]


@pytest.fixture(scope="module")
def text_run() -> TextRun:
    torch.manual_seed(0)
    return TextRun(small_gpt(vocab_size=257, max_seq_len=64, eos_id=256), ByteTokenizer(), {})


@pytest.fixture(scope="module")
def run() -> Run:
    torch.manual_seed(0)
    pair = TranslationTokenizer.train(["ja"], ["yes"], TranslationTokenizerSettings(kind="bytes"))
    return Run(small_model(vocab_size=261, max_seq_len=64), pair, {}, 60)


@pytest.fixture
def engine(text_run: TextRun) -> Iterator[Engine]:
    with Engine(text_run, max_batch=4, max_queue=8) as engine:
        yield engine


@pytest.fixture
def translator(run: Run) -> Iterator[Engine]:
    with Engine(run, max_batch=4) as engine:
        yield engine


def test_texts_are_those_of_the_command(engine: Engine, text_run: TextRun) -> None:
    how = {"max_new_tokens": 20, "stops": ["q"]}
    found = [engine.write(text, Sampling(), seed=i, **how) for i, text in enumerate(("Once", "", "a b"[:1]))]
    for i, text in enumerate(("Once", "", "a")):
        pieces: list[NewText] = [*write(text_run.model, text_run.tokenizer, [text], seed=i, **how)]
        answer = found[i].result(30)
        assert answer.text == "".join(piece.text for piece in pieces)
        assert answer.end == found[i].reason == pieces[-1].end


@pytest.mark.parametrize("how", [BeamSearch(beam=1), BeamSearch(beam=4), BeamSearch(beam=3, n_best=2, max_extra=9)])
@pytest.mark.parametrize("scored", [False, True])
def test_translations_are_those_of_the_command(translator: Engine, run: Run, how: BeamSearch, scored: bool) -> None:
    requests = [translator.translate(line, how, scored=scored) for line in LINES]
    wanted = list(translate_n_best(run.model, run.tokenizer, LINES, how, scored=scored, max_source_tokens=60))
    for request, translations in zip(requests, wanted, strict=True):
        [found] = request.result(30)
        assert [one.text for one in found] == [one.text for one in translations]
        if scored:
            assert [one.log_prob for one in found] == pytest.approx([one.log_prob for one in translations], abs=1e-4)
    together = translator.translate(LINES, how, scored=scored)
    assert [[one.text for one in line] for line in together.result(30)] == [[one.text for one in x] for x in wanted]
    assert together.reason == "done"


def test_a_text_keeps_its_paragraphs(translator: Engine, run: Run) -> None:
    text = " ja\n\n nein, danke \nvielleicht\n"
    [[found]] = translator.translate(text, BeamSearch(beam=3)).result(30)
    assert found.text == tz.translator(run, beam=3)(text)
    assert found.text[0] == " "


def test_everything_else_is_called_between_steps(engine: Engine, translator: Engine, run: Run) -> None:
    assert engine.call(lambda: threading.current_thread().name).result(30) == "engine"
    wanted = score(run.model, run.tokenizer, ["ja"] * 20, ["yes"] * 20)
    found = translator.score(["ja"] * 20, ["yes"] * 20).result(30)
    assert [one.log_prob for one in found] == pytest.approx([one.log_prob for one in wanted], abs=1e-4)
    with Engine(EncoderRun(tz.create_model("bert-tiny", vocab_size=257), ByteTokenizer(), {})) as encoder:
        assert encoder.embed(["to be", "or not"] * 9).result(30).shape == (18, 128)
        for wrong in (lambda: encoder.write("x"), lambda: encoder.translate("x"), lambda: engine.embed(["x"])):
            with pytest.raises(UserError):
                wrong()


def test_what_takes_long_lets_others_have_their_turn(engine: Engine) -> None:
    going = True

    def long() -> Iterator[None]:
        while going:
            yield

    slow = engine.call(long)
    assert len(engine.write([5], max_new_tokens=9, ignore_eos=True).result(30).tokens) == 9
    going = False
    slow.result(30)


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": []}, {"prompt": [5, 257]}, {"prompt": [-1]}, {"prompt": [True]}, {"prompt": ["a"]},
        {"prompt": [5] * 65}, {"prompt": "x" * 65}, {"max_new_tokens": 65}, {"max_new_tokens": 0}, {"seed": -1},
        {"seed": 2**63}, {"stops": [""]}, {"never": [257]}, {"prompt": "\ud800"},
    ],
)  # fmt: skip
def test_a_wrong_request_is_refused_at_once(engine: Engine, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        engine.write(**{"prompt": [5], **wrong})
    assert engine.write([5], max_new_tokens=2).result(30)


def test_memory_is_bounded(text_run: TextRun, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for one in (text_run, run):
        for free, most in ((1e9, 64), (1e5, 17)):
            monkeypatch.setattr(prompts, "free_memory", lambda device, free=free: free)
            with Engine(one, max_batch=4) as engine:
                assert engine.max_tokens == most
        with Engine(one, max_batch=4, max_tokens=2) as engine:
            assert engine.max_tokens == 2
        for wrong in ({"max_batch": 10_000}, {"max_batch": 4, "max_tokens": 64}):
            with pytest.raises(UserError, match="memory"):
                Engine(one, **wrong)


def held(engine: Engine) -> threading.Event:
    """The engine computes until this is set."""
    begun, going_on = threading.Event(), threading.Event()
    engine.call(lambda: (begun.set(), going_on.wait(30)))
    assert begun.wait(30)
    return going_on


def test_what_is_too_much_is_refused_at_once(engine: Engine) -> None:
    going_on = held(engine)
    waiting = [engine.write([5], max_new_tokens=2) for _ in range(8)]
    assert engine.n_waiting == 8
    with pytest.raises(QueueFull):
        engine.write([5])
    waiting[0].cancel()
    waiting.append(engine.write([5], max_new_tokens=2))
    going_on.set()
    for request in waiting[1:]:
        request.result(30)


def test_an_engine_that_drains_ends_what_runs_and_refuses_what_is_new(engine: Engine) -> None:
    going_on = held(engine)
    last = engine.write([5], max_new_tokens=30)
    assert not engine.drain(timeout=0)
    with pytest.raises(Closed):
        engine.write([5])
    going_on.set()
    assert engine.drain(timeout=30)
    assert last.result(0)


def test_an_engine_that_is_closed_takes_back_what_waits(text_run: TextRun) -> None:
    engine = Engine(text_run)
    going_on = held(engine)
    waiting = engine.write([5], max_new_tokens=30)
    threading.Timer(0.1, going_on.set).start()
    engine.close()
    engine.close()
    assert not engine.thread.is_alive()
    with pytest.raises(CancelledError):
        waiting.result(0)
    assert [*waiting.events(0)] == []
    assert waiting.reason == "cancelled"


@pytest.mark.parametrize("error", [RuntimeError("no memory"), ValueError("a\nb"), KeyError("x")])
def test_a_step_that_fails_fails_those_concerned_and_the_engine_lives_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    going_on = held(engine)
    running = [engine.write([5, i], max_new_tokens=30) for i in range(3)]
    with monkeypatch.context() as context:
        context.setattr(type(engine.run.model), "step", broken)
        going_on.set()
        for request in running:
            with pytest.raises(StepFailed, match=type(error).__name__):
                request.result(30)
            assert request.reason == "error"
            with pytest.raises(StepFailed):
                [*request.events(0)]
    assert engine.write([5], max_new_tokens=2).result(30)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_engine_that_ends_lets_nobody_wait(text_run: TextRun) -> None:
    with Engine(text_run) as engine:
        asked = engine._submit(Request[None](), lambda: 1 // 0)  # nothing is known to fail there
        with pytest.raises(Closed, match="has ended"):
            asked.result(60)
        engine.thread.join(60)
        with pytest.raises(Closed, match="takes no more"):
            engine.write("a")


def test_no_more_than_some_pairs_of_languages_are_kept(tmp_path: Path) -> None:
    hub.nllb(tmp_path)
    codes = LANGUAGES["nllb"][:6]
    pairs = [(source, target) for source in codes for target in codes]
    with Engine(read_huggingface(str(tmp_path)), max_queue=99) as engine:
        asked = [
            engine.translate("a cat", BeamSearch(beam=1, max_extra=2), source_lang=source, target_lang=target)
            for source, target in pairs
        ]
        assert all(request.result(60) for request in asked)
        assert engine._run_for.cache_info().currsize < len(pairs)


def test_logits_that_are_no_numbers_fail_one_text_alone(engine: Engine) -> None:
    everything = engine.write(
        [5], max_new_tokens=3, never=range(256), ignore_eos=False, sampling=Sampling(min_new_tokens=2)
    )
    other = engine.write([5], max_new_tokens=3, ignore_eos=True)
    with pytest.raises(UserError, match="not finite"):
        everything.result(30)
    assert len(other.result(30).tokens) == 3


def test_coroutines_hear_what_is_written(engine: Engine) -> None:
    async def hear() -> str:
        request = engine.write([5], max_new_tokens=20, seed=1)
        return "".join([event.text async for event in request.stream()])

    async def leave() -> bool:
        request = engine.write([5], max_new_tokens=50, ignore_eos=True)
        async for _ in (stream := request.stream()):
            break
        await stream.aclose()
        return request.cancelled() or request.done()

    assert asyncio.run(hear()) == engine.write([5], max_new_tokens=20, seed=1).result(30).text
    assert asyncio.run(leave())


def test_a_listener_that_fails_is_not_called_again(engine: Engine) -> None:
    heard = list[Any]()

    def listener(event: Any) -> None:
        heard.append(event)
        raise RuntimeError

    going_on = held(engine)
    request = engine.write([5], max_new_tokens=9, ignore_eos=True)
    request.listen(listener)
    going_on.set()
    assert len(request.result(30).tokens) == 9
    assert len(heard) == 1


def test_many_at_once_some_of_whom_leave_and_some_of_whom_send_garbage(engine: Engine, text_run: TextRun) -> None:
    wrong = list[BaseException]()

    def client(number: int) -> None:
        dice = random.Random(number)
        try:
            for i in range(25):
                seed = 100 * number + i
                try:
                    request = engine.write([dice.randrange(300)] * dice.choice((1, 9)), max_new_tokens=9, seed=seed)
                except QueueFull:
                    time.sleep(0.01)
                    continue
                except UserError:
                    continue
                if dice.random() < 0.2:
                    next(request.events(30), None)
                    request.cancel()
                    continue
                assert request.result(60).end
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not wrong
    assert engine.write([5], max_new_tokens=2).result(30)
    assert engine.thread.is_alive()
    assert engine.call(lambda: len(engine.writing.rows)).result(30) == 0
    assert engine.drain(30)
    assert not engine.n_waiting + engine.n_running


@pytest.mark.slow
def test_a_short_text_that_comes_later_takes_hardly_longer_than_alone() -> None:
    model = tz.create_model("gpt-char", vocab_size=257, max_seq_len=512, eos_id=256)
    with Engine(TextRun(model.eval(), ByteTokenizer(), {})) as engine:

        def seconds() -> float:
            begun = engine.call(time.thread_time).result(60)
            engine.write([5] * 9, max_new_tokens=20, ignore_eos=True, seed=1).result(60)
            return engine.call(time.thread_time).result(60) - begun  # of the thread that computes

        alone = min(seconds() for _ in range(5))
        long = engine.write([5] * 9, max_new_tokens=480, ignore_eos=True, seed=0)
        next(long.events(60))
        beside = min(seconds() for _ in range(5))
        assert not long.done()
        long.cancel()
    assert beside < 1.5 * alone
