"""What takes a model of one family says so when it is given one of the other: every function there is."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import transformer_zoo as tz
from tests.flat import generate
from tests.models.helpers import small_gpt, small_model
from transformer_zoo import DecoderOnly, EncoderDecoder, UserError
from transformer_zoo.models import DecodingModel, check_decoder_only, check_encoder_decoder


def functions() -> Iterator[tuple[str, Callable[..., Any], str, type]]:
    """Name, function, parameter and kind of model of everything public that takes one kind."""
    for info in pkgutil.walk_packages(tz.__path__, "transformer_zoo."):
        if "__main__" in info.name or any(part.startswith("_") for part in info.name.split(".")):
            continue
        module = importlib.import_module(info.name)
        for name, thing in vars(module).items():
            if name.startswith("_") or getattr(thing, "__module__", None) != info.name or not callable(thing):
                continue
            for parameter in signature(thing):
                for family in (DecoderOnly, EncoderDecoder, DecodingModel):
                    if parameter.annotation in (family, family.__name__):
                        yield f"{info.name}.{name}", thing, parameter.name, family


def signature(thing: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(thing).parameters.values())
    except ValueError:
        return []


FOUND = list(functions())
# A run is read by its own loader, which refuses the other family; the others are called by functions that have asked.
INSIDE = {"Run", "TextRun", "Engine", "TranslationCodec", "PromptCodec", "codec_of", "evaluating", "encode_prompt"}
INSIDE |= {"processors", "check_never", "forced_tokens", "check_draft", "highest_logits"}
INSIDE |= {"answer"}  # of `write` and `Chat`, which ask
INSIDE |= {"get_prompt", "write_samples"}  # of a task, which asks
INSIDE |= {"start_search", "read_newest", "Finder", "stop_strings", "unwritten"}  # of `translate`, `write`: they ask
INSIDE |= {"Beams", "new_row", "most_tokens", "Prefill", "Writing"}  # of `serving.Engine`, whose methods ask
INSIDE |= {"next_scores", "generate_plainly"}  # which show what is done, and nothing else


def test_the_search_finds_them() -> None:
    names = {name.rpartition(".")[2] for name, *_ in FOUND}
    assert {"generate", "generate_stream", "write", "first_token", "beam_search", "score", "score_ids"} <= names
    assert {"translate", "translate_n_best", "text_score", "GptObjective"} <= names


def begin(function: Callable[..., Any], *by_place: Any, **given: Any) -> None:
    result = function(*by_place, **given)
    if isinstance(result, Iterator):
        next(result)


@pytest.mark.parametrize("found", FOUND, ids=[name for name, *_ in FOUND])
def test_the_other_family_is_refused(found: tuple[str, Callable[..., Any], str, type]) -> None:
    name, function, model_name, family = found
    if name.rpartition(".")[2] in INSIDE:
        return
    others = {DecoderOnly: small_model, EncoderDecoder: small_gpt, DecodingModel: object}
    wanted = {DecoderOnly: "decoder-only model", EncoderDecoder: "encoder-decoder", DecodingModel: "DecoderOnly"}[
        family
    ]
    for wrong in (others[family](), torch.nn.Linear(2, 2), None, "gpt2"):
        required = [p for p in signature(function) if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
        given = {p.name: [["a"]] for p in required} | {model_name: wrong}
        by_place = [given.pop(p.name) for p in required if p.kind is p.POSITIONAL_ONLY]
        with pytest.raises(UserError, match=f"takes an? {wanted}"):
            begin(function, *by_place, **given)


@pytest.mark.parametrize(("check", "right"), [(check_decoder_only, small_gpt), (check_encoder_decoder, small_model)])
def test_the_right_family_passes(check: Callable[..., None], right: Callable[[], Any]) -> None:
    check(right(), "this")


@pytest.mark.parametrize("function", [tz.pack, tz.quantize, lambda m: tz.to_huggingface(m, "nowhere")])
def test_what_takes_both_says_so(function: Callable[[Any], object]) -> None:
    for wrong in (torch.nn.Linear(2, 2), None, "gpt2"):
        with pytest.raises(UserError, match="takes a DecoderOnly or an EncoderDecoder"):
            function(wrong)
    assert not Path("nowhere").exists()


def test_a_draft_of_the_other_family() -> None:
    with pytest.raises(UserError, match="give quantize"):
        generate(small_gpt(), [[1]], draft=small_model())
    with pytest.raises(UserError, match="give quantize"):
        generate(small_model(), [[4, 3]], draft=small_gpt())


def test_the_arguments_of_the_other_family() -> None:
    source, target = torch.tensor([[4, 5, 3]]), torch.tensor([[2, 6]])
    with pytest.raises(ValueError, match=r"mask is .*booleans|mask is \(B, T\) booleans"):
        small_gpt()(source, target)
    with pytest.raises(TypeError, match="target"):
        small_model()(source)
    with pytest.raises(ValueError, match="2 sources and 1 targets"):
        small_model()(source.expand(2, -1), target)
