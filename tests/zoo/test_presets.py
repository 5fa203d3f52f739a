"""Every preset against what was published under its name: parameters, and the fields of config.json.

The parameters of BLOOM are in Table 3 of its paper, those of Pythia in Table 1 of its own, to the last digit.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

import transformer_zoo as tz
from tests.zoo.records import PUBLISHED as PUBLISHED_FILES
from transformer_zoo.config.changes import value_at
from transformer_zoo.zoo.counts import recorded_counts
from transformer_zoo.zoo.describe import outline
from transformer_zoo.zoo.families import FAMILIES, SIZES
from transformer_zoo.zoo.huggingface import check_huggingface
from transformer_zoo.zoo.huggingface.compare import differences

COUNTS: dict[str, int] = recorded_counts()
HUB: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("hub_configs.json").read_text())
"""What config.json on the hub says of one model of each family, without what says nothing about the architecture."""
HUB |= {file["preset"]: file["fields"] for file in json.loads(PUBLISHED_FILES.read_text()).values() if "preset" in file}
"""And of other sizes, as published.json has them, with where they were found."""

OURS_ONLY = {"gpt2-untied", *tz.list_models("gpt3-*")}  # of families that transformers has
PUBLISHED = [name for name, family in SIZES.items() if family.model_type and name not in OURS_ONLY]


def model_type(name: str) -> str:
    return SIZES[name].model_type


def test_every_preset_has_a_committed_count() -> None:
    assert list(COUNTS) == tz.list_models()


def test_no_name_is_given_twice() -> None:
    sizes = [family.sizes for family in {id(family): family for family in SIZES.values()}.values()]
    assert len(SIZES) == sum(map(len, sizes))


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts(name: str) -> None:
    with torch.device("meta"):
        model = tz.create_model(name)
    assert sum(weight.numel() for weight in model.parameters()) == COUNTS[name]


def their_count(name: str) -> int:
    """Parameters of the model that transformers makes of a preset's numbers."""
    fields = FAMILIES[model_type(name)].write(tz.get_config(name))
    config = transformers.AutoConfig.for_model(**fields)
    options: dict[str, Any] = {}
    if FAMILIES[model_type(name)].config is not tz.EncoderConfig:
        maker = (transformers.AutoModelForCausalLM, transformers.AutoModelForSeq2SeqLM)[config.is_encoder_decoder]
    elif "ForMaskedLM" in config.architectures[0]:
        maker = transformers.AutoModelForMaskedLM
    else:
        maker, options = transformers.AutoModel, {"add_pooling_layer": False} if config.model_type == "bert" else {}
    with torch.device("meta"):
        model: nn.Module = maker.from_config(config, **options)
    if fields.get("tie_word_embeddings") is False and "t5" in model_type(name):
        # A new T5 1.1 shares its head's matrix, one that is read from a file with two does not.
        model.lm_head.weight = nn.Parameter(model.lm_head.weight.clone())
    # Marian's sinusoids are parameters there that are not trained, and FSMT's are, though they are in no file.
    waves = "embed_positions" if fields["model_type"] == "fsmt" else "none are"
    return sum(w.numel() for name, w in model.named_parameters() if w.requires_grad and waves not in name)


@pytest.mark.parametrize("name", PUBLISHED)
def test_transformers_counts_as_many(name: str) -> None:
    assert their_count(name) == COUNTS[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_their_fields_lose_nothing(name: str) -> None:
    config = tz.get_config(name)
    family = FAMILIES[model_type(name)]
    assert differences(config, family.read(family.write(config))) == {}


def test_a_published_configuration_of_each_family() -> None:
    assert {fields["model_type"] for fields in HUB.values()} == set(map(model_type, PUBLISHED))


@pytest.mark.parametrize("name", HUB)
def test_presets_are_what_was_published(name: str) -> None:
    published, preset = FAMILIES[model_type(name)].read(HUB[name]), tz.get_config(name)
    different = differences(preset, published) | differences(published, preset)
    if getattr(preset, "bos_id", None) is None:  # named there, and yet no text starts with it
        different.pop("bos_id", None)
    if name in ("electra-base", "distilbert-base"):  # the one's weights have none for words, the other's is for texts
        different = {field: both for field, both in different.items() if not field.startswith("head")}
    assert different == {}
    for field in ("max_seq_len", "dropout", "attention_dropout", "activation_dropout", "pad_id", "vocab_size"):
        assert value_at(preset, field) == value_at(published, field), field


def test_an_outline_has_the_names_and_shapes_of_the_model() -> None:
    for name in ("gpt-nano", "transformer-tiny"):
        sketched, built = outline(tz.get_config(name)), tz.create_model(name)
        assert {k: v.shape for k, v in sketched.state_dict().items()} == {
            k: v.shape for k, v in built.state_dict().items()
        }
        assert {weight.device.type for weight in sketched.parameters()} == {"meta"}


@pytest.mark.parametrize("name", ["tinyllama-1.1b", "mistral-7b-v0.3", "phi-4"])
def test_what_is_plain_llama_goes_out_as_that(name: str) -> None:
    """And not as what multiplies too, by 1."""
    assert check_huggingface(tz.get_config(name)) == "llama"
