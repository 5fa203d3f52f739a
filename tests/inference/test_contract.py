"""Sampling, beam search and scoring with every kind of model, each as transformers does it with the same weights."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList, PreTrainedModel

import transformer_zoo as tz
from tests.zoo.huggingface.models import TEXT_CASES, imported, make
from transformer_zoo import BeamSearch, DecoderOnly, Sampling
from transformer_zoo.config import RulesSpec
from transformer_zoo.inference import (
    Speculation,
    beam_search,
    generate,
    generate_plainly,
    processors,
    rules,
    score_ids,
)
from transformer_zoo.inference.plain import next_scores
from transformer_zoo.inference.rules import LogitsProcessor

CASES = ["gpt2", "llama", "t5", "bart", "marian"]
FIRST = {name: case for case, (name, _) in reversed(TEXT_CASES.items())}
"""One of each family of decoder-only models."""
every_case = pytest.mark.parametrize("case", CASES)
LIMIT = 12


def pair(case: str, folder: Path) -> tuple[PreTrainedModel, Any]:
    layers = {"t5": "num_decoder_layers", "bart": "decoder_layers", "marian": "decoder_layers"}.get(case)
    theirs = make(case, **({layers: 2} if layers else {}))  # their cache takes as many as in the encoder for granted
    theirs.generation_config = GenerationConfig(
        eos_token_id=theirs.config.eos_token_id,
        pad_token_id=getattr(theirs.config, "pad_token_id", None) or 0,  # CodeGen has none
        decoder_start_token_id=getattr(theirs.config, "decoder_start_token_id", None),
    )
    return theirs, imported(theirs, folder)


def prompts(n: int, ours: Any) -> list[list[int]]:
    end = [ours.config.source_end] if ours.facts.has_source else []
    return [[*torch.randint(12, 80, (3 + 2 * i,)).tolist(), *end] for i in range(n)]


def their_logits(theirs: Any, ours: Any, given: list[int], text: list[int]) -> Tensor:
    """(1, V): of the token after the text."""
    ids = torch.tensor([text])
    with torch.no_grad():
        if ours.facts.has_source:
            return theirs(input_ids=torch.tensor([given]), decoder_input_ids=ids).logits[:, -1]
        return theirs(input_ids=ids).logits[:, -1]


RULES: list[dict[str, Any]] = [
    {},
    {"temperature": 0.7, "top_k": 9},
    {"top_p": 0.8, "repetition_penalty": 1.7},
    {"no_repeat_ngram_size": 2, "min_new_tokens": 9, "min_p": 0.05},
    {
        "temperature": 1.3,
        "top_k": 30,
        "top_p": 0.9,
        "min_p": 0.01,
        "repetition_penalty": 0.8,
        "no_repeat_ngram_size": 1,
    },
]
FEW = pytest.mark.parametrize(
    "options", [{}, {"no_repeat_ngram_size": 2}, {"repetition_penalty": 1.4, "min_new_tokens": 5}], ids=str
)


@every_case
@pytest.mark.parametrize("options", RULES, ids=str)
def test_the_next_tokens_distribution_is_theirs(case: str, options: dict[str, Any], tmp_path: Path) -> None:
    theirs, ours = pair(case, tmp_path)
    how = Sampling(**options)
    listed_rules = processors(how, ours, ())
    for given in prompts(3, ours):
        written: list[int] = []
        opening = ours.opening(given)
        config = GenerationConfig(**{"top_k": 0, **options}, do_sample=True, max_length=99)
        config._eos_token_tensor = torch.tensor(ours.facts.ends)
        listed: LogitsProcessorList = theirs._get_logits_processor(config, len(opening), None)
        for token in (7, 7, 13, 7, 7, 13):
            text = torch.tensor([[*opening, *written]])
            scores = listed(text, their_logits(theirs, ours, given, text[0].tolist()))
            got = next_scores(ours, given, written, how, listed_rules)
            torch.testing.assert_close(got.softmax(-1), scores.softmax(-1), atol=1e-5, rtol=0)
            written.append(token)


@every_case
@FEW
def test_greedy_writing_is_theirs(case: str, options: dict[str, Any], tmp_path: Path) -> None:
    theirs, ours = pair(case, tmp_path)
    given = prompts(3, ours)
    found = generate(ours, given, Sampling(temperature=0, **options), max_new_tokens=LIMIT, never=())
    for one, row in zip(found, given, strict=True):
        written = theirs.generate(torch.tensor([row]), do_sample=False, max_new_tokens=LIMIT, **options)[0].tolist()
        assert one == without_end(written[len(ours.opening(row)) :], ours)


@pytest.mark.parametrize("case", sorted(set(FIRST.values()) - set(CASES)))
def test_every_family_writes_as_theirs(case: str, tmp_path: Path) -> None:
    test_greedy_writing_is_theirs(case, {}, tmp_path)
    test_the_next_tokens_distribution_is_theirs(case, {"temperature": 0.7, "top_k": 9}, tmp_path)


def without_end(tokens: list[int], ours: Any) -> list[int]:
    ends = [i for i, token in enumerate(tokens) if token in ours.facts.ends]
    return tokens[: ends[0]] if ends else tokens


@every_case
@FEW
def test_beams_find_their_sequences(case: str, options: dict[str, Any], tmp_path: Path) -> None:
    theirs, ours = pair(case, tmp_path)
    given = prompts(3, ours)
    how = BeamSearch(beam=4, n_best=3, length_penalty=0.8, penalty="length", max_extra=99, max_length=LIMIT, **options)
    found = beam_search(ours, given, how, never=())
    for best, row in zip(found, given, strict=True):
        written = theirs.generate(
            torch.tensor([row]), do_sample=False, num_beams=4, num_return_sequences=3, length_penalty=0.8,
            early_stopping="never", max_new_tokens=LIMIT, **options,
        )  # fmt: skip
        start = len(ours.opening(row))
        assert [one.tokens for one in best] == [without_end(tokens[start:], ours) for tokens in written.tolist()]


@every_case
def test_what_is_told_to_stop_leaves_the_beam_as_theirs_does(case: str, tmp_path: Path) -> None:
    theirs, ours = pair(case, tmp_path)

    def stop(tokens: list[int]) -> bool:
        return tokens[-1] % 3 == 0

    def criterion(ids: Tensor, scores: Any) -> Tensor:
        return ids[:, -1] % 3 == 0

    how = BeamSearch(beam=4, n_best=3, length_penalty=0.8, penalty="length", max_extra=99, max_length=LIMIT)
    lengths = set()
    for row in prompts(3, ours):
        written = theirs.generate(
            torch.tensor([row]), do_sample=False, num_beams=4, num_return_sequences=3, length_penalty=0.8,
            early_stopping="never", max_new_tokens=LIMIT, stopping_criteria=[criterion],
        )  # fmt: skip
        expected = []
        for tokens in written[:, len(ours.opening(row)) :].tolist():
            stops = [i + 1 for i, token in enumerate(tokens) if stop([token])]
            expected.append(without_end(tokens[: stops[0] if stops else None], ours))  # padded after it
        [best] = beam_search(ours, [row], how, never=(), stop=stop)
        assert [one.tokens for one in best] == expected
        lengths |= {len(one.tokens) for one in best if one.ended}
    assert lengths


@every_case
def test_scores_are_theirs(case: str, tmp_path: Path) -> None:
    theirs, ours = pair(case, tmp_path)
    pairs = [(given, torch.randint(12, 80, (2 + i,)).tolist()) for i, given in enumerate(prompts(4, ours))]
    for (given, answer), found in zip(pairs, score_ids(ours, pairs, batch_tokens=20), strict=True):
        for i, (token, log_prob) in enumerate(zip(answer, found, strict=True)):
            logits = their_logits(theirs, ours, given, [*ours.opening(given), *answer[:i]])
            assert log_prob == pytest.approx(float(logits.log_softmax(-1)[0, token]), abs=1e-4)


@every_case
@pytest.mark.parametrize("options", RULES, ids=str)
def test_every_way_writes_what_the_plain_one_does(case: str, options: dict[str, Any], tmp_path: Path) -> None:
    _, ours = pair(case, tmp_path)
    given, how = prompts(4, ours), Sampling(**options)
    wanted = [
        generate_plainly(ours, row, how, processors(how, ours), max_new_tokens=LIMIT, seed=5 + i)
        for i, row in enumerate(given)
    ]
    assert generate(ours, given, how, max_new_tokens=LIMIT, seed=5) == wanted
    for i, row in enumerate(given):
        assert generate(ours, [row], how, max_new_tokens=LIMIT, seed=5 + i) == [wanted[i]]


def test_a_model_of_somebodys_own_writes_too(tmp_path: Path) -> None:
    class Own(DecoderOnly):
        """It says itself what ends a text."""

    _, ours = pair("gpt2", tmp_path)
    own = Own(ours.config).eval()
    own.load_state_dict(ours.state_dict())
    given = prompts(2, ours)
    assert generate(own, given, max_new_tokens=5, seed=0) == generate(ours, given, max_new_tokens=5, seed=0)


@every_case
@pytest.mark.parametrize("beam", [1, 3])
def test_generation_config_json_is_followed(case: str, beam: int, tmp_path: Path) -> None:
    theirs, free = pair(case, tmp_path / "free")
    given = prompts(3, free)
    likely = [generate(free, [row], Sampling(temperature=0), max_new_tokens=4, never=())[0] for row in given]
    rules: dict[str, Any] = {
        "repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "min_length": 7, "min_new_tokens": 3,
        "bad_words_ids": [[likely[0][0]], [95, 96]], "suppress_tokens": [likely[1][1]],
        "begin_suppress_tokens": [likely[2][0]],
    }  # fmt: skip
    if free.facts.has_source:
        rules |= {"forced_bos_token_id": 31, "forced_eos_token_id": theirs.config.eos_token_id}
    for name, value in rules.items():
        setattr(theirs.generation_config, name, value)
    ours: Any = imported(theirs, tmp_path / "ruled")
    tz.to_huggingface(ours, tmp_path / "again")
    assert tz.from_huggingface(tmp_path / "again").config == ours.config
    how = BeamSearch(beam=beam, length_penalty=1.0, penalty="length", max_extra=99, max_length=LIMIT)
    found = beam_search(ours, given, how)
    greedy = generate(ours, given, Sampling(temperature=0), max_new_tokens=LIMIT)
    without = beam_search(free, given, how, never=())
    assert [best.tokens for [best] in found] != [best.tokens for [best] in without]
    theirs.generation_config.bad_words_ids = rules["bad_words_ids"][:1]  # one of several tokens is not followed
    for row, [best], written in zip(given, found, greedy, strict=True):
        tokens = theirs.generate(
            torch.tensor([row]), do_sample=False, num_beams=beam, early_stopping="never" if beam > 1 else False,
            length_penalty=1.0, max_new_tokens=LIMIT,
        )[0, len(ours.opening(row)) :].tolist()  # fmt: skip
        assert best.tokens == without_end(tokens, ours)
        assert beam > 1 or written == best.tokens


def test_rules_of_a_model_may_be_left_and_others_taken(tmp_path: Path) -> None:
    _, free = pair("gpt2", tmp_path)
    given = prompts(3, free)
    ruled = DecoderOnly(replace(free.config, rules=RulesSpec(no_repeat_ngram_size=1))).eval()
    ruled.load_state_dict(free.state_dict())
    how = {"max_new_tokens": LIMIT, "seed": 1}
    for row in generate(ruled, given, **how):
        assert len(set(row)) == len(row)
    assert generate(ruled, given, Sampling(no_repeat_ngram_size=0), **how) == generate(free, given, **how)


@dataclass(frozen=True)
class Multiples(LogitsProcessor):
    """A rule of somebody's own: tokens are multiples of a number."""

    option = "multiples_of"
    number: int

    def __call__(self, scores: Tensor, texts: Tensor, n_written: int) -> Tensor:
        return scores.masked_fill(torch.arange(scores.size(1)) % self.number != 0, -torch.inf)


@dataclass(frozen=True, kw_only=True)
class Drawn(Sampling):
    multiples_of: int = 0


@dataclass(frozen=True, kw_only=True)
class Searched(BeamSearch):
    multiples_of: int = 0


@every_case
def test_a_new_rule_is_one_class(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the table, and with a field, it takes effect with every model and in every way of writing."""
    _, ours = pair(case, tmp_path)
    given = prompts(3, ours)
    monkeypatch.setattr(rules, "RULES", (*rules.RULES, Multiples))
    for temperature in (1, 0):
        how = Drawn(temperature=temperature, multiples_of=7)
        written = generate(ours, given, how, max_new_tokens=LIMIT, seed=1)
        assert any(written)
        assert not any(token % 7 for row in written for token in row)
        listed = processors(how, ours)
        for i, row in enumerate(given):
            assert written[i] == generate_plainly(ours, row, how, listed, max_new_tokens=LIMIT, seed=1 + i)
    draft = Speculation(draft=tz.quantize(ours))
    for i, row in enumerate(given):
        assert [written[i]] == generate(ours, [row], how, max_new_tokens=LIMIT, speculation=draft)
    for hypotheses in beam_search(ours, given, Searched(beam=3, n_best=3, max_length=LIMIT, multiples_of=7)):
        assert not any(token % 7 for one in hypotheses for token in one.tokens)
