"""Encoder-decoders compute, learn and search as transformers does."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from tests.flat import beam_search
from tests.zoo.huggingface.models import TRANSLATION_CASES, imported, is_wave, make, padded
from transformer_zoo.models import EncoderDecoder
from transformer_zoo.zoo.families import FAMILIES
from transformer_zoo.zoo.huggingface.save import their_tensors

every_case = pytest.mark.parametrize("case", TRANSLATION_CASES)


def pair(case: str, folder: Path) -> tuple[PreTrainedModel, EncoderDecoder]:
    theirs = make(case)
    ours = imported(theirs, folder)
    assert isinstance(ours, EncoderDecoder)
    return theirs, ours


def batch(ours: EncoderDecoder) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sources and targets, padded on either side, each with its mask."""
    source, source_mask = padded(3, 11, pad=ours.config.pad_id)
    target, target_mask = padded(3, 9, pad=ours.config.pad_id)
    target[1:, 0], target[0, 4] = ours.config.bos_id, ours.config.bos_id
    return source, source_mask, target, target_mask


def their_logits(theirs: PreTrainedModel, data: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    source, source_mask, target, target_mask = data
    out = theirs(
        input_ids=source, attention_mask=source_mask, decoder_input_ids=target, decoder_attention_mask=target_mask,
        use_cache=False,  # with one FSMT lets each token see those that follow
    )  # fmt: skip
    logits: Tensor = out.logits
    return logits


def our_logits(ours: EncoderDecoder, data: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    source, source_mask, target, target_mask = data
    logits: Tensor = ours(source, target, source_mask.bool(), target_mask.bool())
    return logits


@every_case
def test_logits_are_theirs_whatever_the_padding(case: str, tmp_path: Path) -> None:
    theirs, ours = pair(case, tmp_path)
    data = batch(ours)
    with torch.no_grad():
        expected, got = their_logits(theirs, data), our_logits(ours, data)
    real = data[-1].bool()
    assert expected[real].std() > 0.1
    torch.testing.assert_close(got[real], expected[real], atol=1e-4, rtol=0)


@every_case
def test_cached_decoding_is_theirs(case: str, tmp_path: Path) -> None:
    theirs, ours = pair(case, tmp_path)
    source, source_mask, target, _ = batch(ours)
    target[:2] = target[2].clamp_max(70) + torch.tensor([[3], [7]])  # nothing padded
    is_fsmt = theirs.config.model_type == "fsmt"  # several tokens see each other there; of a pad the place is kept
    if not is_fsmt:
        target[0, 6] = ours.config.pad_id  # but written as any token may be
    with torch.no_grad():
        memory = ours.encode(source, source_mask.bool())
        cache, past, start = ours.new_cache(memory, 9), None, 0
        encoded = theirs.get_encoder()(input_ids=source, attention_mask=source_mask)
        for stop in range(1 if is_fsmt else 4, 10):
            new = target[:, start:stop]
            out = theirs(
                encoder_outputs=encoded, attention_mask=source_mask, decoder_input_ids=new, past_key_values=past,
                use_cache=True,
            )  # fmt: skip
            got = ours.decode(new, source_mask=source_mask.bool(), cache=cache)
            torch.testing.assert_close(got, out.logits, atol=1e-4, rtol=0)
            past, start = out.past_key_values, stop


@every_case
def test_gradients_of_a_training_step_are_theirs(case: str, tmp_path: Path) -> None:
    theirs, ours = pair(case, tmp_path)
    data = batch(ours)
    target, mask = data[2:]
    labels = target[:, 1:].masked_fill(mask[:, 1:] * mask[:, :-1] == 0, -100).flatten()
    for logits in (their_logits(theirs.train(), data), our_logits(ours.train(), data)):
        F.cross_entropy(logits[:, :-1].flatten(0, 1), labels).backward()
    family = FAMILIES[theirs.config.model_type]
    gradients = {name: weight.grad for name, weight in ours.named_parameters() if weight.grad is not None}
    named = their_tensors(family, ours.config, gradients)
    every = theirs.named_parameters(remove_duplicate=False)  # what is shared may go by any of its names
    learned = {name: weight for name, weight in every if weight.grad is not None and not is_wave(theirs, name)}
    copies = {"final_logits_bias", "model.shared.weight" if ours.config.share_embeddings == "none" else ""}
    shared = named.keys() - copies
    assert {id(learned[name]) for name in shared} == {id(weight) for weight in learned.values()}
    for name in shared:
        weight = learned[name]
        torch.testing.assert_close(named[name], weight.grad, atol=1e-4, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


def head_of(theirs: PreTrainedModel) -> Tensor:
    """The output projection; FSMT says that it is the target embedding, which it need not be."""
    decoder = theirs.get_decoder()
    head: Tensor = getattr(decoder, "output_projection", theirs.get_output_embeddings()).weight
    return head


@torch.no_grad()
def make_it_end(theirs: PreTrainedModel, strength: float) -> None:
    """The end of a sentence becomes likelier at every place: its logit rises by about so much."""
    end, head = theirs.config.eos_token_id, head_of(theirs)
    if hasattr(theirs, "final_logits_bias"):
        theirs.final_logits_bias[0, end] += strength
    elif theirs.config.model_type in ("m2m_100", "fsmt"):
        decoder = theirs.model.decoder
        last = decoder.layers[-1].final_layer_norm if theirs.config.model_type == "fsmt" else decoder.layer_norm
        last.bias += strength * head[end] / head[end].square().sum()
    else:  # no bias anywhere: what all embeddings have in common, the end has more of
        common = torch.linspace(-1, 1, head.size(1))
        theirs.shared.weight += common
        scaled = getattr(theirs.config, "scale_decoder_outputs", theirs.config.model_type == "umt5")
        head[end] += strength * common / (1 if scaled else 10)


def make_searched(case: str) -> PreTrainedModel:
    """A model of theirs with as many decoder layers as encoder layers: their cache takes that for granted."""
    layers = "num_decoder_layers" if "t5" in case else "decoder_layers"
    return make(case, **{layers: 2})


def their_sequences(theirs: PreTrainedModel, source: Tensor, mask: Tensor, **options: Any) -> list[list[int]]:
    """What they find for each source, best first, from the start to the end, both excluded."""
    found = theirs.generate(
        input_ids=source, attention_mask=mask, do_sample=False, early_stopping="never", **options
    )  # fmt: skip
    end = theirs.config.eos_token_id
    return [row[: row.index(end)] if end in row else row for row in found[:, 1:].tolist()]


@every_case
def test_beam_search_finds_their_sequences(case: str, tmp_path: Path) -> None:
    theirs = make_searched(case)
    config, limit = theirs.config, 40
    end, start = config.eos_token_id, config.decoder_start_token_id
    source, mask = padded(5, 11, pad=config.pad_token_id, left=False)
    with torch.no_grad():
        head_of(theirs)[end] *= 3  # whether a sentence ends depends on what is in it
    expected = [[0] * limit]
    while max(map(len, expected)) > limit / 2:  # until all end long before the limit
        make_it_end(theirs, 1.0)
        theirs.generation_config.bad_words_ids = [[token] for token in {config.pad_token_id, start} - {end, None}]
        expected = their_sequences(
            theirs, source, mask, num_beams=4, num_return_sequences=4, length_penalty=0.9, max_new_tokens=limit
        )
    assert len(set(map(tuple, expected))) > 3
    ours = imported(theirs, tmp_path)
    assert isinstance(ours, EncoderDecoder)
    hypotheses = beam_search(
        ours, source, mask.bool(), beam=4, n_best=4, length_penalty=0.9, penalty="length", max_extra=limit,
        max_length=limit,
    )  # fmt: skip
    assert [one.tokens for best in hypotheses for one in best] == expected


@pytest.mark.parametrize(("forced", "penalties"), [(False, (0.0, 1.0)), (True, (0.6, 2.0))])
@every_case
def test_up_to_the_length_limit_the_search_is_theirs_too(
    case: str, forced: bool, penalties: tuple[float, float], tmp_path: Path
) -> None:
    """Any token may be written, pad and the start in the middle of a sentence too, but those that are suppressed."""
    theirs, limit = make_searched(case), 20
    if forced:
        theirs.generation_config.suppress_tokens = [3, 13]
    theirs.generation_config.forced_eos_token_id = theirs.config.eos_token_id if forced else None
    ours = imported(theirs, tmp_path)
    assert isinstance(ours, EncoderDecoder)
    source, mask = padded(3, 11, pad=theirs.config.pad_token_id, left=False)
    for beam, n_best in ((4, 4), (4, 1), (1, 1)):
        for penalty in penalties[: beam // 2 or 1]:
            expected = their_sequences(
                theirs, source, mask, num_beams=beam, num_return_sequences=n_best, length_penalty=penalty,
                max_new_tokens=limit,
            )  # fmt: skip
            hypotheses = beam_search(
                ours, source, mask.bool(), beam=beam, n_best=n_best, length_penalty=penalty, penalty="length",
                max_extra=limit, max_length=limit,
            )  # fmt: skip
            assert [one.tokens for best in hypotheses for one in best] == expected
            assert limit - forced in map(len, expected)
