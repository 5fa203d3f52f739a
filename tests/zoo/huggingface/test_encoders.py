"""BERT and its relatives against transformers: logits and hidden states, padded rows, gradients, in and out again."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.testing import assert_close

import transformer_zoo as tz
from tests.zoo.huggingface.models import VOCAB, padded, places, randomize
from transformer_zoo import EncoderOnly, UserError
from transformer_zoo.config import EncoderConfig, TextsSpec, TokensSpec
from transformer_zoo.files import json_object, write_json
from transformer_zoo.zoo.families import FAMILIES

_BERT: dict[str, Any] = {"vocab_size": VOCAB, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4}
_BERT |= {"intermediate_size": 29, "max_position_embeddings": 31, "hidden_dropout_prob": 0.0}
_BERT |= {"attention_probs_dropout_prob": 0.0}
_OTHER = {"hidden_act": "gelu_new", "layer_norm_eps": 1e-2, "type_vocab_size": 3, "tie_word_embeddings": False}
_DISTIL = {"vocab_size": VOCAB, "dim": 24, "n_layers": 3, "n_heads": 4, "hidden_dim": 29, "max_position_embeddings": 31}
_DISTIL |= {"dropout": 0.0, "attention_dropout": 0.0}

_MODERN = {"vocab_size": VOCAB, "hidden_size": 24, "num_hidden_layers": 5, "num_attention_heads": 3}
_MODERN |= {"intermediate_size": 29, "max_position_embeddings": 31, "pad_token_id": 0, "local_attention": 6}
_MODERN |= {"bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
_ROPES = {"full_attention": {"rope_type": "linear", "rope_theta": 300.0, "factor": 2.0}}
_ROPES |= {"sliding_attention": {"rope_type": "default", "rope_theta": 70.0}}

_SMALL: dict[str, Any] = {"vocab_size": VOCAB, "d_model": 24, "n_heads": 2, "d_ff": 29, "n_layers": 2, "n_segments": 2}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", _BERT),
    "bert-other": ("Bert", {**_BERT, **_OTHER, "pad_token_id": 5}),
    "roberta": ("Roberta", _BERT),
    "roberta-other": ("Roberta", {**_BERT, **_OTHER, "pad_token_id": 5, "hidden_act": "relu"}),
    "xlm-roberta": ("XLMRoberta", _BERT),
    "xlm-roberta-other": ("XLMRoberta", {**_BERT, **_OTHER, "pad_token_id": 0}),
    "distilbert": ("DistilBert", _DISTIL),
    "distilbert-other": (
        "DistilBert",
        {
            **_DISTIL,
            "activation": "relu",
            "tie_word_embeddings": False,
            "pad_token_id": 5,
            "sinusoidal_pos_embds": True,
        },
    ),
    "modernbert": ("ModernBert", _MODERN),
    "modernbert-other": (
        "ModernBert",
        {
            **_MODERN,
            "layer_types": ["sliding_attention", "full_attention"] * 2 + ["sliding_attention"],
            "local_attention": 3,
            "rope_parameters": _ROPES,
            "norm_bias": True,
            "attention_bias": True,
            "mlp_bias": True,
            "norm_eps": 1e-2,
            "hidden_activation": "silu",
            "classifier_activation": "relu",
            "classifier_bias": True,
            "classifier_pooling": "mean",
            "tie_word_embeddings": False,
            "pad_token_id": 5,
        },
    ),
    "electra": ("Electra", {**_BERT, "embedding_size": 16}),
    "electra-other": ("Electra", {**_BERT, **_OTHER, "embedding_size": 24, "hidden_act": "silu"}),
}
cases = pytest.mark.parametrize("case", CASES)
HEADS = ("ForMaskedLM", "ForSequenceClassification", "ForTokenClassification")
heads = pytest.mark.parametrize("head", HEADS)
LABELS = ("bad", "so so", "good")


def make(case: str, head: str = "ForMaskedLM") -> Any:
    name, fields = CASES[case]
    about: dict[str, Any] = {"architectures": [name + head], "attn_implementation": "eager"}
    about["id2label"] = dict(enumerate(LABELS))
    config = getattr(transformers, f"{name}Config")(**fields, **about)
    model = getattr(transformers, name + head)(config)
    randomize(model)
    return model.eval()


def imported(model: Any, folder: Path) -> EncoderOnly:
    model.save_pretrained(folder)
    ours = tz.from_huggingface(folder)
    assert isinstance(ours, EncoderOnly)
    return ours


def batch(model: Any, *, left: bool = True) -> tuple[Tensor, Tensor]:
    return padded(3, 11, pad=model.config.pad_token_id, left=left)


def theirs(model: Any, ids: Tensor, mask: Tensor) -> Any:
    """What transformers gives where padding has no places."""
    offset = model.config.pad_token_id + 1 if "roberta" in model.config.model_type else 0
    return model(ids, attention_mask=mask, position_ids=places(mask) + offset)


def masked_logits(ours: EncoderOnly, model: Any) -> tuple[Tensor, Tensor]:
    """Logits of real tokens, ours and theirs, of rows padded left and right; hidden states where there is no head.

    Logits of texts of rows padded right: what is padded left has no first token for theirs.
    """
    ids, mask = batch(model, left=ours.text_head is None)
    real = mask.bool()
    out = theirs(model, ids, mask)
    if ours.config.head is None:
        return ours.hidden(ids, real)[real], out.last_hidden_state[real]
    of = slice(None) if ours.text_head is not None else real
    return ours(ids, real)[of], out.logits[of]


@cases
@heads
def test_logits_and_gradients(case: str, head: str, tmp_path: Path) -> None:
    model = make(case, head)
    ours = imported(model, tmp_path)
    got, wanted = masked_logits(ours, model)
    assert_close(got, wanted, rtol=1e-4, atol=1e-4)
    wanted.square().mean().backward()
    got.square().mean().backward()
    found, grad = ours.embedding.weight.grad, model.get_input_embeddings().weight.grad
    few = 1.0 if head == "ForMaskedLM" else max(1.0, 2 * grad.abs().max().item())  # logits, of which each counts more
    assert_close(found, grad, rtol=1e-4, atol=1e-5 * few)


@cases
@heads
@torch.no_grad()
def test_out_again(case: str, head: str, tmp_path: Path) -> None:
    model = make(case, head)
    ours = imported(model, tmp_path / "in")
    tz.to_huggingface(ours, tmp_path / "out", family=model.config.model_type)
    reader = getattr(transformers, f"AutoModel{head}")
    again, problems = reader.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(problems.values()), problems
    assert_close(*masked_logits(ours, again.eval()), rtol=1e-4, atol=1e-4)
    assert not (tmp_path / "out" / "generation_config.json").exists()
    assert tz.from_huggingface(tmp_path / "out").config == ours.config
    if head != "ForMaskedLM":
        assert tuple(again.config.id2label.values()) == tuple(again.config.label2id) == LABELS
        assert isinstance(ours.config.head, TextsSpec | TokensSpec)
        assert ours.config.head.labels == LABELS


@cases
@torch.no_grad()
def test_without_a_head(case: str, tmp_path: Path) -> None:
    model = make(case, "Model")
    ours = imported(model, tmp_path / "in")
    assert ours.config.head is None
    assert_close(*masked_logits(ours, model), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="this encoder has no head for words"):
        ours(batch(model)[0])
    tz.to_huggingface(ours, tmp_path / "out", family=model.config.model_type)
    again = transformers.AutoModel.from_pretrained(tmp_path / "out").eval()
    assert_close(*masked_logits(ours, again), rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize(
    "case", [case for case in CASES if not case.startswith(("distilbert", "roberta", "xlm-roberta", "modernbert"))]
)
def test_two_texts_in_one_input(case: str, tmp_path: Path) -> None:
    model = make(case)
    ours = imported(model, tmp_path)
    ids = batch(model)[0]
    segments = (torch.arange(11) > 4).long().expand(3, -1)
    wanted = model(ids, token_type_ids=segments).logits
    assert_close(ours(ids, segments=segments), wanted, rtol=1e-4, atol=1e-4)


def test_what_has_no_segments_is_given_none(tmp_path: Path) -> None:
    ids = torch.ones(1, 3, dtype=torch.long)
    with pytest.raises(ValueError, match="segments are given, and this model has no n_segments"):
        imported(make("distilbert"), tmp_path)(ids, segments=ids)


@torch.no_grad()
def test_names_of_before(tmp_path: Path) -> None:
    """gamma and beta of a norm, buffers, and heads for other tasks than words."""
    model = make("bert", "ForPreTraining")
    ours = imported(model, tmp_path)
    wanted = ours.state_dict()
    held = load_file(tmp_path / "model.safetensors")
    assert "cls.seq_relationship.weight" in held
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): weight
        for name, weight in held.items()
    }
    old["bert.embeddings.position_ids"] = torch.arange(31.0)[None]
    old["cls.predictions.decoder.bias"] = old["cls.predictions.bias"].clone()
    save_file(old, tmp_path / "model.safetensors")
    again = tz.from_huggingface(tmp_path).state_dict()
    assert all(torch.equal(wanted[name], again[name]) for name in wanted)


@cases
@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("relative_attention", True, "relative_attention is not known for {} and may change the result"),
        ("is_encoder_decoder", True, "is_encoder_decoder is True; only False is supported"),
        ("pad_token_id", None, "pad_token_id is null"),
    ],
)
def test_fields_that_are_refused(case: str, field: str, value: Any, said: str, tmp_path: Path) -> None:
    model = make(case)
    model.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    write_json(path, {**json_object(path.read_bytes(), path, ""), field: value})
    with pytest.raises(UserError, match=said.format(model.config.model_type)):
        tz.from_huggingface(tmp_path)


def test_a_head_for_another_task_is_named(tmp_path: Path) -> None:
    make("bert", "ForQuestionAnswering").save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"qa_outputs\.bias, qa_outputs\.weight are not expected in a bert model"):
        tz.from_huggingface(tmp_path)


def read_head(**fields: Any) -> TextsSpec | TokensSpec:
    about = {"architectures": ["BertForSequenceClassification"], "model_type": "bert"}
    config = FAMILIES["bert"].read(about | fields)
    assert isinstance(config, EncoderConfig)
    assert isinstance(config.head, TextsSpec | TokensSpec)
    return config.head


@pytest.mark.parametrize(
    ("fields", "labels", "problem"),
    [
        ({}, ("LABEL_0", "LABEL_1"), "one"),
        ({"num_labels": 3}, ("LABEL_0", "LABEL_1", "LABEL_2"), "one"),
        ({"id2label": {"1": "b", "0": "a"}, "num_labels": 2}, ("a", "b"), "one"),
        ({"id2label": {str(i): chr(65 + i) for i in range(11)}}, tuple("ABCDEFGHIJK"), "one"),
        ({"id2label": {"0": "a"}}, ("a",), "several"),
        ({"id2label": {"0": "a"}, "problem_type": "regression"}, ("a",), "values"),
        ({"problem_type": "multi_label_classification"}, ("LABEL_0", "LABEL_1"), "several"),
        ({"problem_type": "single_label_classification"}, ("LABEL_0", "LABEL_1"), "one"),
    ],
)
def test_labels(fields: dict[str, Any], labels: tuple[str, ...], problem: str) -> None:
    head = read_head(**fields)
    assert isinstance(head, TextsSpec)
    assert (head.labels, head.problem) == (labels, problem)
    assert read_head(**fields, architectures=["BertForTokenClassification"]).labels == labels
    theirs = transformers.BertConfig(**fields).id2label
    assert tuple(theirs[i] for i in range(len(theirs))) == labels


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"id2label": {"0": "a", "2": "b"}}, "id2label must number its labels from 0 on, and has 0, 2"),
        ({"id2label": {"a": "0"}}, "architectures, id2label, num_labels, problem_type cannot be understood"),
        ({"id2label": {}}, "labels is empty"),
        ({"id2label": ["a"]}, r"id2label is \['a'\], expected dict"),
        ({"num_labels": 0}, "labels is empty"),
        ({"num_labels": 3, "id2label": {"0": "a", "1": "b"}}, "num_labels is 3, and id2label has 2"),
        ({"problem_type": "ranking"}, "problem_type is 'ranking', which is not supported"),
        ({"problem_type": "single_label_classification", "id2label": {"0": "a"}}, "there is only one label"),
    ],
)
def test_labels_that_are_none(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_head(**fields)


@pytest.mark.parametrize(("field", "value"), [("classifier_pooling", "max"), ("classifier_activation", "laplace")])
def test_fields_of_modernbert_s_head(field: str, value: str) -> None:
    about = {"architectures": ["ModernBertForSequenceClassification"], field: value}
    with pytest.raises(UserError, match=f"{field} is '{value}', which is not supported"):
        FAMILIES["modernbert"].read(about)


def test_what_a_family_s_head_cannot_be_is_named(tmp_path: Path) -> None:
    head = TextsSpec(labels=("a", "b"), pooling="mean")
    model = EncoderOnly(EncoderConfig.of(**_SMALL, head=head))
    with pytest.raises(UserError, match=r"bert, which has no counterpart of head\.pooling 'mean' \(it has 'first'\)"):
        tz.to_huggingface(model, tmp_path, family="bert")


def test_a_missing_head_is_named(tmp_path: Path) -> None:
    make("bert").save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    write_json(path, {**json_object(path.read_bytes(), path, ""), "architectures": ["BertForTokenClassification"]})
    with pytest.raises(UserError, match=r"classifier\.bias, classifier\.weight are missing"):
        tz.from_huggingface(tmp_path)
