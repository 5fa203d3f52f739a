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
from transformer_zoo.zoo import presets
from transformer_zoo.zoo.describe import outline
from transformer_zoo.zoo.huggingface.compare import differences
from transformer_zoo.zoo.huggingface.families import FAMILIES

COUNTS: dict[str, int] = json.loads(Path(__file__).with_name("parameter_counts.json").read_text())
HUB: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("hub_configs.json").read_text())
"""What config.json on the hub says of one model of each family, without what says nothing about the architecture."""

MODEL_TYPES = {  # of the presets whose names begin so
    "opus-mt": "marian", "bart": "bart", "mbart": "mbart", "m2m100": "m2m_100", "nllb": "m2m_100", "t5": "t5",
    "flan-t5": "t5", "gpt2": "gpt2", "pythia": "gpt_neox", "gpt-neox": "gpt_neox", "opt": "opt", "bloom": "bloom",
    "tinyllama": "llama", "llama": "llama", "mistral": "mistral", "qwen2": "qwen2", "qwen3": "qwen3",
    "gemma": "gemma", "gemma-2-": "gemma2",
}  # fmt: skip
OURS_ONLY = ("transformer-*", "gpt-char", "gpt-nano", "gpt-modern", "gpt1", "gpt2-untied", "gpt3-*")
PUBLISHED = sorted(set(tz.list_models()).difference(*map(tz.list_models, OURS_ONLY)), key=list(COUNTS).index)


def model_type(name: str) -> str:
    return MODEL_TYPES[max(filter(name.startswith, MODEL_TYPES), key=len)]


def test_every_preset_has_a_committed_count() -> None:
    assert list(COUNTS) == tz.list_models()


def test_no_name_is_given_twice() -> None:
    families = [vars(presets)[path.stem] for path in Path(presets.__file__).parent.glob("[!_]*.py")]
    assert len(presets.PRESETS) == sum(len(family.PRESETS) for family in families)


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts(name: str) -> None:
    with torch.device("meta"):
        model = tz.create_model(name)
    assert sum(weight.numel() for weight in model.parameters()) == COUNTS[name]


def their_count(name: str) -> int:
    """Parameters of the model that transformers makes of a preset's numbers."""
    fields = FAMILIES[model_type(name)].write(tz.get_config(name))
    config = transformers.AutoConfig.for_model(**fields)
    makers = transformers.AutoModelForCausalLM, transformers.AutoModelForSeq2SeqLM
    with torch.device("meta"):
        model: nn.Module = makers[config.is_encoder_decoder].from_config(config)
    if fields.get("tie_word_embeddings") is False and model_type(name) == "t5":
        # A new T5 1.1 shares its head's matrix, one that is read from a file with two does not.
        model.lm_head.weight = nn.Parameter(model.lm_head.weight.clone())
    # Marian's sinusoids are parameters there that are not trained.
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


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
    if preset.bos_id is None:  # named there, and yet no text starts with it
        different.pop("bos_id")
    assert different == {}
    for field in ("max_seq_len", "dropout", "attention_dropout", "activation_dropout", "pad_id", "vocab_size"):
        assert getattr(preset, field) == getattr(published, field), field


def test_an_outline_has_the_names_and_shapes_of_the_model() -> None:
    for name in ("gpt-nano", "transformer-tiny"):
        sketched, built = outline(tz.get_config(name)), tz.create_model(name)
        assert {k: v.shape for k, v in sketched.state_dict().items()} == {
            k: v.shape for k, v in built.state_dict().items()
        }
        assert {weight.device.type for weight in sketched.parameters()} == {"meta"}
