"""Perplexity by a sliding window: every token once, foretold from as much as the window says."""

import math
from typing import Any

import pytest
import torch

from transformer_zoo import UserError
from transformer_zoo.config import DecoderConfig
from transformer_zoo.evaluation import perplexity as module
from transformer_zoo.evaluation import text_score
from transformer_zoo.evaluation.perplexity import TextScore, sliding_windows
from transformer_zoo.models import DecoderOnly


def small_model(**changes: Any) -> DecoderOnly:
    fields = {"vocab_size": 23, "d_model": 12, "n_heads": 2, "d_ff": 20, "n_layers": 2, "max_seq_len": 8}
    torch.manual_seed(1)
    model = DecoderOnly(DecoderConfig.of(**{**fields, **changes})).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, mean=float(weight.dim() == 1), std=0.4)
    return model


def by_hand(model: DecoderOnly, text: list[int], stride: int) -> float:
    """Token by token, each from its own window."""
    length, nats = model.config.max_seq_len, 0.0
    for place in range(1, len(text)):
        # The first window ends after `length` targets, each further one `stride` later.
        end = length if place <= length else length + math.ceil((place - length) / stride) * stride
        start = max(min(end, len(text) - 1) - length, 0)
        log_probs = model(torch.tensor([text[start:place]]))[0, -1].double().log_softmax(-1)
        nats -= float(log_probs[text[place]])
    return nats


@pytest.mark.parametrize("n", [1, 2, 8, 9, 10, 12, 13, 30])
@pytest.mark.parametrize("stride", [1, 3, 4, 8])
def test_every_token_but_the_first_is_a_target_once(n: int, stride: int) -> None:
    text = list(range(100, 100 + n))
    windows = list(sliding_windows(text, 8, stride))
    assert [target for window in windows for target in window.targets] == text[1:]
    for number, (ids, targets) in enumerate(windows):
        assert len(targets) <= len(ids) <= 8
        assert ids[-len(targets) :] == [target - 1 for target in targets]
        if number:
            assert len(ids) == 8
            assert len(ids) - len(targets) >= 8 - stride


@pytest.mark.parametrize("positions", ["learned", "rotary"])
@pytest.mark.parametrize("stride", [1, 3, 8])
@pytest.mark.parametrize("eos", [None, 0])
@torch.inference_mode()
def test_it_is_the_sum_over_tokens(
    positions: str, stride: int, eos: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model(positions=positions, eos_id=eos)
    texts = [torch.randint(1, 23, (n,)).tolist() for n in (30, 1, 5, 9)]
    start = [] if eos is None else [eos]
    wanted = math.fsum(by_hand(model, start + text, stride) for text in texts)
    for batch_size, logits in ((1, 1 << 24), (4, 1 << 24), (3, 23 * 5)):
        monkeypatch.setattr(module, "_LOGITS", logits)
        score = text_score(model, [(text, 2 * len(text)) for text in texts], stride=stride, batch_size=batch_size)
        assert score.nats == pytest.approx(wanted, rel=1e-5)
        assert (score.tokens, score.bytes) == (45 - 4 * (eos is None), 90)


def test_a_text_that_starts_with_its_own_token() -> None:
    model, text = small_model(bos_id=3, eos_id=0), [5, 6, 7]
    with torch.inference_mode():
        assert text_score(model, [(text, 3)]).nats == pytest.approx(by_hand(model, [3, *text], 4), rel=1e-5)


@pytest.mark.parametrize("stride", [1, 4])
def test_what_the_tokenizer_starts_with_is_given(stride: int) -> None:
    model, text = small_model(eos_id=0), list(range(5, 20))
    with torch.inference_mode():
        score = text_score(model, [(text, 30)], start_ids=[3, 4], stride=stride)
        one, both = (by_hand(model, [3, 4, *text][:n], stride) for n in (2, 17))
    assert (score.tokens, score.bytes) == (15, 30)
    assert score.nats == pytest.approx(both - one, rel=1e-5)
    short = sliding_windows([1, 2, 3, 4, 5], 2, 1, given=3)  # more is given than a window holds
    assert [tuple(window) for window in short] == [([2, 3], [4]), ([3, 4], [5])]


def test_what_is_said_of_a_score() -> None:
    score = TextScore(nats=8 * math.log(2) * 5, tokens=10, bytes=20)
    assert score.nats_per_token == pytest.approx(4 * math.log(2))
    assert score.perplexity == pytest.approx(16)
    assert score.bits_per_byte == pytest.approx(2)
    assert TextScore(nats=1e6, tokens=1, bytes=1).perplexity > 1e300


def test_a_model_that_knows_nothing_needs_the_logarithm_of_its_vocabulary() -> None:
    model = small_model(tie_embeddings=False, init="zero_out", vocab_multiple=32)
    torch.nn.init.zeros_(model.head_weight)
    score = text_score(model, [(list(range(23)), 22)])
    assert score.perplexity == pytest.approx(23)
    assert score.bits_per_byte == pytest.approx(math.log2(23))


def test_dropout_is_off_and_the_mode_is_kept() -> None:
    model, texts = small_model(dropout=0.5), [([1, 2, 3, 4], 4)]
    wanted = text_score(model, texts)
    assert text_score(model.train(), texts) == wanted
    assert model.training


def test_bfloat16_is_close() -> None:
    model, texts = small_model(), [(list(range(23)), 23)]
    found, wanted = (text_score(model, texts, dtype=dtype).nats for dtype in (torch.bfloat16, torch.float32))
    assert found != wanted
    assert found == pytest.approx(wanted, rel=0.02)


@pytest.mark.parametrize("texts", [[], [([], 0)], [([1], 1)]])
def test_nothing_to_predict(texts: list[tuple[list[int], int]]) -> None:
    with pytest.raises(UserError, match="no token to predict"):
        text_score(small_model(), texts)


@pytest.mark.parametrize("stride", [0, 9])
def test_a_stride_out_of_range(stride: int) -> None:
    with pytest.raises(UserError, match=f"stride {stride} must be from 1 to the context of 8"):
        text_score(small_model(), [([1, 2], 2)], stride=stride)
