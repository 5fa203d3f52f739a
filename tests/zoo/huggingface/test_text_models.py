"""Decoder-only models compute what transformers computes."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from tests.zoo.huggingface.models import TEXT_CASES, WITHOUT_POSITIONS, imported, make, padded, places
from transformer_zoo.models import DecoderOnly
from transformer_zoo.zoo.families import FAMILIES
from transformer_zoo.zoo.huggingface.save import their_tensors

pytestmark = pytest.mark.parametrize("case", TEXT_CASES)


def their_positions(model: PreTrainedModel, mask: Tensor) -> dict[str, Any]:
    """What most models must be given, and some work out."""
    return {} if model.config.model_type in WITHOUT_POSITIONS else {"position_ids": places(mask)}


def pair(case: str, folder: Path) -> tuple[PreTrainedModel, DecoderOnly]:
    theirs = make(case)
    ours = imported(theirs, folder)
    assert isinstance(ours, DecoderOnly)
    return theirs, ours


def test_logits_are_theirs_whatever_the_padding(case: str, tmp_path: Path) -> None:
    theirs, ours = pair(case, tmp_path)
    ids, mask = padded(3, 13, pad=1)
    with torch.no_grad():
        expected = theirs(ids, attention_mask=mask, **their_positions(theirs, mask)).logits
        got = ours(ids, mask.bool())
    real = mask.bool()
    assert expected[real].std() > 0.1
    torch.testing.assert_close(got[real], expected[real], atol=1e-4, rtol=0)


def test_cached_decoding_is_theirs(case: str, tmp_path: Path) -> None:
    theirs, ours = pair(case, tmp_path)
    ids, mask = padded(3, 13, pad=1)
    mask[1] = 1  # what is generated stands on the right
    has_cache = theirs.config.model_type != "openai-gpt"  # which reads all again at each step
    cache, past, start = ours.new_cache(3, 13), None, 0
    for stop in (6, *range(7, 14)):
        new, seen, read = slice(start, stop), mask[:, :stop], slice(start if has_cache else 0, stop)
        given = {name: value[:, read] for name, value in their_positions(theirs, mask).items()}
        kept = {"past_key_values": past, "use_cache": True} if has_cache else {}
        with torch.no_grad():
            out = theirs(ids[:, read], attention_mask=seen, **kept, **given)
            got = ours(ids[:, new], seen.bool(), cache=cache)
        past, real = out.get("past_key_values"), mask[:, new].bool()
        torch.testing.assert_close(got[real], out.logits[:, start - stop :][real], atol=1e-4, rtol=0)
        start = stop


def test_gradients_of_a_training_step_are_theirs(case: str, tmp_path: Path) -> None:
    theirs, ours = pair(case, tmp_path)
    ids, mask = padded(3, 13, pad=1)
    pad = getattr(theirs.config, "pad_token_id", None)
    ids[2, 3] = pad or 0  # which may stand in a text: its embedding learns from the head only
    labels = ids[:, 1:].masked_fill(mask[:, 1:] * mask[:, :-1] == 0, -100).flatten()
    expected = theirs.train()(ids, attention_mask=mask, **their_positions(theirs, mask)).logits
    got = ours.train()(ids, mask.bool())
    for logits in (expected, got):
        F.cross_entropy(logits[:, :-1].flatten(0, 1), labels).backward()
    family = FAMILIES[theirs.config.model_type]
    gradients = {name: weight.grad for name, weight in ours.named_parameters() if weight.grad is not None}
    named = their_tensors(family, ours.config, gradients)
    for weight in theirs.parameters():
        assert weight.grad is not None
        weight.data = weight.grad
    theirs.save_pretrained(tmp_path / "gradients")  # under the names that files have, which may not be those in memory
    saved = load_file(tmp_path / "gradients" / "model.safetensors")
    weights = {family.renamed.get(name, name): gradient for name, gradient in saved.items()}
    assert weights.keys() == named.keys()
    learned = weights.keys() - dict(theirs.named_buffers()).keys()
    for name, gradient in ((name, weights[name]) for name in learned):
        torch.testing.assert_close(named[name], gradient, atol=1e-4, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")
