"""What is written here, transformers reads without a word, and computes the same."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, PreTrainedModel

from tests.flat import beam_search
from tests.zoo.huggingface.models import TEXT_CASES, TRANSLATION_CASES, imported, make, text_logits, translation_logits
from tests.zoo.huggingface.test_encoders import masked_logits
from transformer_zoo.config import (
    DecoderConfig,
    EncoderDecoderConfig,
    LayerNormSpec,
    LearnedSpec,
    NgramSpec,
    RMSNormSpec,
    RotarySpec,
    SinusoidalSpec,
)
from transformer_zoo.errors import UserError
from transformer_zoo.models import AnyModel, DecoderOnly, EncoderDecoder, EncoderOnly
from transformer_zoo.zoo import build, get_config
from transformer_zoo.zoo.huggingface import from_huggingface, to_huggingface
from transformer_zoo.zoo.huggingface.save import choose


def theirs(model: DecoderOnly | EncoderDecoder, folder: Path, *, family: str | None = None) -> PreTrainedModel:
    """Written here, read by transformers."""
    to_huggingface(model, folder, family=family)
    return read_theirs(model, folder)


READERS = {
    DecoderOnly: AutoModelForCausalLM, EncoderDecoder: AutoModelForSeq2SeqLM, EncoderOnly: AutoModelForMaskedLM,
}  # fmt: skip


def _has_pooler(folder: Path) -> bool:
    """Whether transformers has a pooler for the model, which it makes itself where the files have none."""
    return '"model_type": "bert"' in (folder / "config.json").read_text("utf-8")


def read_theirs(model: AnyModel, folder: Path) -> PreTrainedModel:
    """Read by transformers, which must find every tensor it wants and no other."""
    kind, options = READERS[type(model)], {"output_loading_info": True, "attn_implementation": "eager"}
    if isinstance(model, EncoderOnly) and model.config.head is None:
        kind, options = AutoModel, options | ({"add_pooling_layer": False} if _has_pooler(folder) else {})
    loaded, report = kind.from_pretrained(folder, **options)
    assert not any(report.values()), report
    read: PreTrainedModel = loaded
    return read


@torch.no_grad()
def assert_same_logits(model: AnyModel, read: PreTrainedModel) -> None:
    compute = {DecoderOnly: text_logits, EncoderDecoder: translation_logits, EncoderOnly: masked_logits}[type(model)]
    got, expected = compute(model, read)  # type: ignore[operator]
    assert got.std() > 0.01
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("case", {**TEXT_CASES, **TRANSLATION_CASES})
def test_what_was_imported_comes_out_as_it_was(case: str, tmp_path: Path) -> None:
    original = make(case)
    model = imported(original, tmp_path / "in")
    read = theirs(model, tmp_path / "out", family=original.config.model_type)
    assert type(read) is type(original)
    assert_same_logits(model, read)
    again = from_huggingface(tmp_path / "out")
    assert again.config == model.config
    state = again.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def fresh(config: DecoderConfig | EncoderDecoderConfig) -> DecoderOnly | EncoderDecoder:
    """A model with noise on every weight."""
    model = build(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.2 * torch.randn_like(weight)
    return model


TRANSLATOR = EncoderDecoderConfig.of(
    vocab_size=97, d_model=24, n_heads=3, d_ff=29, n_encoder_layers=2, n_decoder_layers=2, max_seq_len=41
)
WRITER = DecoderConfig.of(vocab_size=97, d_model=24, n_heads=3, d_ff=29, n_layers=2, max_seq_len=31)
LLAMA = WRITER.changed(
    norm="rmsnorm", gated=True, activation="silu", bias=False, positions=RotarySpec(layout="interleaved")
)
T5 = get_config("t5-small", vocab_size=97)
HALVES = SinusoidalSpec(layout="halves")
NORMED = {"attention.qk_norm": "rmsnorm"}
PLAIN = LayerNormSpec(learned="weight")
DECODER = {"decoder.layer.attention.n_heads": 4, "decoder.layer.ffn.d_ff": 31}

OURS: dict[str, tuple[str, DecoderConfig | EncoderDecoderConfig]] = {
    # The paper's model, as the translation recipe trains it: sine and cosine lie side by side, no bias of logits.
    "recipe": ("marian", TRANSLATOR),
    "two vocabularies": ("marian", TRANSLATOR.changed(target_vocab_size=89, share_embeddings="decoder")),
    "nothing shared": ("marian", TRANSLATOR.changed(share_embeddings="none", positions=HALVES)),
    "pre-norm": ("pegasus", TRANSLATOR.changed(norm_position="pre")),
    "no biases": ("marian", TRANSLATOR.changed(bias=False, norm=PLAIN, **DECODER)),
    "gpt-2": ("gpt2", WRITER),
    "padded vocabulary": ("gpt2", WRITER.changed(vocab_multiple=64, tie_embeddings=False, bias=False)),
    "nanoGPT's": ("gpt2", WRITER.changed(bias=False, norm=PLAIN, activation="gelu")),
    "interleaved rotation": ("llama", LLAMA),
    "interleaved with norms of heads": ("qwen3", LLAMA.changed(n_kv_heads=1, head_dim=10, **NORMED)),
    "part of it": (
        "gpt_neox",
        WRITER.changed(positions=RotarySpec(layout="interleaved", dim=6), norm_position="parallel"),
    ),
    "gemma 2 of our own": (
        "gemma2",
        LLAMA.changed(
            norm=RMSNormSpec(unit_offset=True), norm_position="both", scale_embeddings=True, activation="gelu_tanh",
            logit_softcap=5.0, **{"attention.softcap": 3.0},
        ),
    ),
    "alibi": ("bloom", WRITER.changed(positions="alibi", embedding_norm=True, d_ff=96)),
}  # fmt: skip


@pytest.mark.parametrize("name", OURS)
def test_our_own_models_have_counterparts(name: str, tmp_path: Path) -> None:
    family, config = OURS[name]
    model = fresh(config)
    read = theirs(model, tmp_path)
    assert read.config.model_type == family
    assert_same_logits(model, read)
    again = from_huggingface(tmp_path)
    assert_same_logits(again, read)


ONE_SIDE: dict[str, list[Any]] = {
    "positions": [SinusoidalSpec(), HALVES, LearnedSpec(), RotarySpec(), RotarySpec(layout="interleaved"), None],
    "norm": [LayerNormSpec(eps=0.1), RMSNormSpec(eps=0.1), PLAIN],
    "norm_position": ["pre", "post"],
    "embedding_norm": [True],
}
ONE_LAYER: dict[str, list[Any]] = {
    "positions": [None, RotarySpec(base=50.0), RotarySpec(layout="interleaved"), RotarySpec(dim=4)],
    "attention": [{"n_heads": 6}, {"window": 2}, {"scale": 0.9}, {"softcap": 1.0}, {"bias": False}],
    "ffn": [{"activation": "silu"}, {"activation": "relu"}, {"d_ff": 17}, {"bias": False}],
}


def changed_in_part(config: DecoderConfig | EncoderDecoderConfig) -> Iterator[Any]:
    """A configuration of which one stack or one layer is another, wherever such a model can be built."""
    for name, stack in config.stacks():
        first = stack.layers[0]
        sides = [replace(stack, **{field: value}) for field, values in ONE_SIDE.items() for value in values]
        for field, values in ONE_LAYER.items():
            old = getattr(first, field)
            layers = [replace(old, **value) if isinstance(value, dict) else value for value in values]
            sides += [replace(stack, layer=(first, replace(first, **{field: value}))) for value in layers]
        for side in sides:
            try:
                yield build(replace(config, **{name: side})).config
            except (UserError, ValueError):  # a rotation of half of the heads, and so on
                continue


@pytest.mark.parametrize("name", OURS)
def test_what_differs_in_one_stack_or_layer_is_the_same_or_refused(name: str, tmp_path: Path) -> None:
    configs = list(changed_in_part(OURS[name][1]))
    assert len(configs) > 10
    refused = 0
    for i, config in enumerate(configs):
        model, folder = fresh(config), tmp_path / str(i)
        try:
            to_huggingface(model, folder)
        except UserError:
            refused += 1
            continue
        assert_same_logits(model, theirs(model, folder))
    assert refused > len(configs) // 2


@pytest.mark.parametrize("share", ["inputs", "decoder"])
@pytest.mark.parametrize("case", ["bart", "mbart", "m2m_100", "marian"])
def test_what_cannot_be_shared_in_part_is_copied(case: str, share: str, tmp_path: Path) -> None:
    config = imported(make(case), tmp_path / "in").config
    model = fresh(replace(config, share_embeddings=share))
    assert_same_logits(model, theirs(model, tmp_path / "out", family=make(case).config.model_type))


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (
            TRANSLATOR.changed(**NORMED),
            "marian, which has no counterpart of attention.qk_norm",
        ),
        (T5.changed(logit_scale=0.5), "nearest is t5, which has no counterpart of logit_scale 0.5"),
        (TRANSLATOR.changed(**{"norm.eps": 1e-3}), "marian, which has no counterpart of .*norm.eps 0.001"),
        (TRANSLATOR.changed(activation="relu", gated=True), "gated True"),
        (WRITER.changed(activation="relu_squared", logit_softcap=15.0), "gpt2, which has no counterpart of logit"),
        (WRITER.changed(ngrams=NgramSpec(n=3)), "gpt2, which has no counterpart of ngrams"),
        (
            LLAMA.changed(logit_softcap=15.0, positions=RotarySpec()),
            "llama, which has no counterpart of logit_softcap 15.0",
        ),
        (WRITER.changed(sliding_window=4), "gpt2, which has no counterpart of attention.window 4"),
    ],
)
def test_what_has_no_counterpart_is_named(config: DecoderConfig | EncoderDecoderConfig, named: str) -> None:
    with pytest.raises(UserError, match=named) as refusal:
        choose(config)
    assert "\n" not in str(refusal.value)


def test_the_wanted_family_or_none(tmp_path: Path) -> None:
    model = fresh(LLAMA.changed(positions=RotarySpec()))
    assert theirs(model, tmp_path / "a").config.model_type == "llama"
    assert theirs(model, tmp_path / "b", family="mistral").config.model_type == "mistral"
    with pytest.raises(
        UserError, match=r"gemma, which has no counterpart of scale_embeddings False .*unit_offset False"
    ):
        to_huggingface(model, tmp_path / "c", family="gemma")
    with pytest.raises(UserError, match="marian is a family of another kind"):
        to_huggingface(model, tmp_path / "c", family="marian")
    with pytest.raises(UserError, match="no family is called 'lama'"):
        to_huggingface(model, tmp_path / "c", family="lama")
    assert not (tmp_path / "c").exists()


def test_the_dtype_is_kept(tmp_path: Path) -> None:
    model = fresh(WRITER).bfloat16()
    read = theirs(model, tmp_path)
    assert read.dtype == torch.bfloat16
    assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == "bfloat16"


def test_writing_again_replaces_what_was_there(tmp_path: Path) -> None:
    to_huggingface(fresh(WRITER), tmp_path)
    second = fresh(LLAMA)
    assert_same_logits(second, theirs(second, tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json", "generation_config.json", "model.safetensors",
    }  # fmt: skip


@pytest.mark.parametrize("forced_eos", [False, True])
def test_generate_searches_as_here_without_being_told_of_special_tokens(forced_eos: bool, tmp_path: Path) -> None:
    model = fresh(TRANSLATOR.changed(vocab_size=23, forced_last_id=3 if forced_eos else None))
    assert isinstance(model, EncoderDecoder)
    with torch.no_grad():
        model.head_weight[3] *= 2  # some sentences end
    read = theirs(model, tmp_path)
    source = torch.randint(4, 23, (5, 7))
    found: Any = read.generate(input_ids=source, num_beams=4, length_penalty=0.6, early_stopping="never")
    rows = [row.tolist()[1:] for row in found]
    hypotheses = beam_search(model, source, beam=4, length_penalty=0.6, penalty="length", max_extra=50, max_length=40)
    assert [best[0].tokens for best in hypotheses] == [row[: row.index(3)] if 3 in row else row for row in rows]
    assert {best[0].ended for best in hypotheses} == {False, True}
