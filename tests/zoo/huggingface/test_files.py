"""Folders of weights: every form that transformers has written, and what is refused."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.zoo.huggingface.models import imported, make
from transformer_zoo.errors import UserError
from transformer_zoo.models import DecoderOnly
from transformer_zoo.zoo.huggingface import from_huggingface, read_config, resolve

Weights = dict[str, Tensor]
State = dict[str, Tensor]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A GPT-2 as transformers writes it."""
    make("gpt2").save_pretrained(tmp_path / "gpt2")
    return tmp_path / "gpt2"


@pytest.fixture
def state(folder: Path) -> State:
    """The weights of the model that is read from it."""
    return from_huggingface(folder).state_dict()


def weights(folder: Path) -> Weights:
    return load_file(folder / "model.safetensors")


def rewrite(folder: Path, change: Callable[[Weights], object]) -> None:
    held = weights(folder)
    change(held)
    save_file(held, folder / "model.safetensors")


def change_fields(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def assert_same(folder: Path, state: State) -> None:
    read = from_huggingface(folder).state_dict()
    assert read.keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(read[name], tensor), name


def halves(folder: Path, save: Callable[[Weights, Path], object], kind: str) -> None:
    """The weights in two files and an index, instead of one."""
    held = weights(folder)
    base, suffix = {"safetensors": ("model", "safetensors"), "bin": ("pytorch_model", "bin")}[kind]
    names, index = sorted(held), {}
    for i, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"{base}-0000{i}-of-00002.{suffix}"
        save({name: held[name] for name in part}, folder / file)
        index |= dict.fromkeys(part, file)
    (folder / f"{base}.{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    (folder / "model.safetensors").unlink()


def test_weights_in_parts(folder: Path, state: State) -> None:
    halves(folder, save_file, "safetensors")
    assert_same(folder, state)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_weights(folder: Path, state: State, zipped: bool) -> None:
    held = weights(folder)
    held["lm_head.weight"] = held["transformer.wte.weight"]  # as torch.save keeps what is tied
    torch.save(held, folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    (folder / "model.safetensors").unlink()
    assert_same(folder, state)


def test_pickled_weights_in_parts(folder: Path, state: State) -> None:
    halves(folder, torch.save, "bin")
    assert_same(folder, state)


def test_a_model_without_its_head_has_no_prefix(folder: Path, state: State) -> None:
    held = {name.removeprefix("transformer."): tensor for name, tensor in weights(folder).items()}
    held |= {"h.0.attn.bias": torch.ones(1, 1, 31, 31), "h.2.attn.masked_bias": torch.tensor(-1e4)}  # as the first had
    save_file(held, folder / "model.safetensors")
    assert_same(folder, state)


@pytest.mark.parametrize("case", ["bart", "m2m_100", "marian", "mbart", "llama-3", "gpt_neox-linear", "opt", "bloom"])
def test_the_base_model_of_each_kind(case: str, tmp_path: Path) -> None:
    model = make(case, tie_word_embeddings=True)
    if hasattr(model, "final_logits_bias"):
        model.final_logits_bias.zero_()  # which only the head has
    state = imported(model, tmp_path / "whole").state_dict()
    model.base_model.save_pretrained(tmp_path / "base")
    assert_same(tmp_path / "base", state)


def test_the_head_of_gpt_neox_has_two_names(tmp_path: Path) -> None:
    state = imported(make("gpt_neox"), tmp_path).state_dict()
    rewrite(tmp_path, lambda held: held.update({"lm_head.weight": held.pop("embed_out.weight")}))
    assert_same(tmp_path, state)


def test_marian_may_bring_its_sinusoids(tmp_path: Path) -> None:
    model = make("marian")
    state = imported(model, tmp_path).state_dict()
    name = "model.encoder.embed_positions.weight"
    waves = model.state_dict()[name].clone()
    rewrite(tmp_path, lambda held: held.update({name: waves}))
    assert_same(tmp_path, state)
    rewrite(tmp_path, lambda held: held[name].mul_(1.1))
    with pytest.raises(UserError, match=name):
        from_huggingface(tmp_path)


def test_what_is_tied_is_one_unless_the_files_differ(folder: Path) -> None:
    tied = from_huggingface(folder)
    rewrite(folder, lambda held: held.update({"lm_head.weight": held["transformer.wte.weight"].clone()}))
    assert read_config(folder) == tied.config
    rewrite(folder, lambda held: held["lm_head.weight"].add_(1))
    untied = from_huggingface(folder)
    assert isinstance(untied, DecoderOnly)
    assert not untied.config.tie_embeddings
    assert torch.equal(untied.head_weight, untied.embedding.weight + 1)


def test_only_the_tied_copy_may_be_there(folder: Path, state: State) -> None:
    rewrite(folder, lambda held: held.update({"lm_head.weight": held.pop("transformer.wte.weight")}))
    assert_same(folder, state)


def test_bart_whose_embeddings_are_saved_once_and_its_head_apart(tmp_path: Path) -> None:
    """As transformers 4 saved it: without tied words, the two embeddings were one still."""
    model = make("bart-untied")
    imported(model, tmp_path)

    def merge(held: Weights) -> None:
        del held["model.encoder.embed_tokens.weight"], held["model.decoder.embed_tokens.weight"]

    rewrite(tmp_path, merge)
    ours = from_huggingface(tmp_path)
    assert ours.config.share_embeddings == "inputs"  # type: ignore[union-attr]
    assert torch.equal(ours.state_dict()["embedding.weight"], model.state_dict()["model.shared.weight"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_dtype_that_is_asked_for(folder: Path, state: State, dtype: torch.dtype) -> None:
    rewrite(folder, lambda held: held.update({name: tensor.half() for name, tensor in held.items()}))
    read = from_huggingface(folder, dtype=dtype)
    assert {weight.dtype for weight in read.parameters()} == {dtype}
    expected = state["head.weight" if "head.weight" in state else "embedding.weight"].half().to(dtype)
    assert torch.equal(read.state_dict()["embedding.weight"], expected)
    assert read(torch.tensor([[3, 5]])).dtype == dtype
    assert next(from_huggingface(folder, dtype=None).parameters()).dtype == torch.float16


def test_nothing_is_left_in_training_mode_or_without_gradient(folder: Path) -> None:
    read = from_huggingface(folder)
    assert not read.training
    assert all(weight.requires_grad for weight in read.parameters())
    assert torch.get_default_dtype() == torch.float32


def refused(folder: Path, named: str) -> None:
    with pytest.raises(UserError, match=named) as refusal:
        from_huggingface(folder)
    assert "\n" not in str(refusal.value)


def test_missing_extra_and_misshapen_tensors_are_named(folder: Path) -> None:
    whole = weights(folder)
    rewrite(folder, lambda held: held.pop("transformer.h.1.ln_2.bias"))
    refused(folder, r"transformer\.h\.1\.ln_2\.bias is missing")
    save_file({**whole, "transformer.h.1.extra": torch.ones(2)}, folder / "model.safetensors")
    refused(folder, r"transformer\.h\.1\.extra is not expected")
    save_file({**whole, "transformer.h.7.ln_2.bias": torch.ones(21)}, folder / "model.safetensors")
    refused(folder, r"transformer\.h\.7\.ln_2\.bias is not expected")
    fused = "transformer.h.1.attn.c_attn.weight"
    save_file({**whole, fused: whole[fused].T.contiguous()}, folder / "model.safetensors")
    refused(folder, r"c_attn\.weight has shape \[63, 21\], but \[21, 63\] by the configuration")
    save_file({**whole, fused: whole[fused].to(torch.int8)}, folder / "model.safetensors")
    refused(folder, r"c_attn\.weight holds no floating-point numbers")


@pytest.mark.parametrize("name", ["lm_head", "model.encoder.embed_tokens", "model.decoder.embed_tokens"])
@pytest.mark.parametrize("case", ["marian-untied", "bart-untied", "mbart-scaled", "m2m_100-unscaled"])
def test_what_is_missing_of_an_untied_model_is_not_the_shared_matrix(case: str, name: str, tmp_path: Path) -> None:
    imported(make(case), tmp_path)
    rewrite(tmp_path, lambda held: held.pop(f"{name}.weight"))
    refused(tmp_path, rf"{name}\.weight is missing")


@pytest.mark.parametrize("case", ["marian-unshared", "marian-two-vocabularies", "bart"])
def test_an_embedding_that_nothing_uses_must_be_a_copy(case: str, tmp_path: Path) -> None:
    state = imported(make(case), tmp_path).state_dict()
    whole = weights(tmp_path)
    names = [f"model.{name}.weight" for name in ("encoder.embed_tokens", "decoder.embed_tokens", "shared")]
    used = whole[next(name for name in names if name in whole)]
    rewrite(tmp_path, lambda held: held.update({name: held.get(name, used.clone()) for name in names}))
    assert_same(tmp_path, state)
    if case == "bart":  # all three differ from what is there for all of them
        apart = {name: used + i for i, name in enumerate((*names, "lm_head.weight"), start=1)}
    else:
        apart = {"model.shared.weight": used + 1}
    rewrite(tmp_path, lambda held: held.update(apart))
    refused(tmp_path, r"model\.shared\.weight is not expected in a")


def test_a_head_that_is_the_embedding_of_the_source_only_is_named(tmp_path: Path) -> None:
    imported(make("marian"), tmp_path)

    def part(held: Weights) -> None:
        held["model.decoder.embed_tokens.weight"] = held["model.shared.weight"] + 1

    rewrite(tmp_path, part)
    refused(tmp_path, r"the head is model\.shared\.weight, .* not model\.decoder\.embed_tokens\.weight")


def test_another_architecture_than_config_json_says(folder: Path) -> None:
    change_fields(folder, n_layer=2)
    refused(folder, r"transformer\.h\.2\.")
    change_fields(folder, n_layer=3, vocab_size=101)
    refused(folder, r"wte\.weight has shape \[97, 21\], but \[101, 21\]")


def test_numbers_that_no_block_can_have(tmp_path: Path) -> None:
    make("t5").save_pretrained(tmp_path)
    change_fields(tmp_path, relative_attention_max_distance=3)
    refused(tmp_path, "config.json of a t5 model: positions.buckets 32")


class _Runs:
    """What, unpickled, would call a function."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return print, ("this must not run",)


def test_a_pickle_that_would_run_code_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = {name: tensor.to("meta") for name, tensor in weights(folder).items()}
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    refused(folder, "pytorch_model.bin has no tensors")
    torch.save({"transformer.wte.weight": _Runs()}, folder / "pytorch_model.bin")
    refused(folder, "pytorch_model.bin holds more than tensors")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Runs(), protocol=2))
    refused(folder, "pytorch_model.bin")
    torch.save({"model": {"wte": torch.ones(2)}}, folder / "pytorch_model.bin")
    refused(folder, "something else than plain tensors")
    odds: tuple[dict[Any, Tensor], ...] = {1: torch.ones(2)}, {"a": torch.eye(2).to_sparse()}, nowhere
    for odd in odds:
        torch.save(odd, folder / "pytorch_model.bin")
        refused(folder, "something else than plain tensors")
    torch.save({"a": torch.ones(2)}, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    whole = (folder / "pytorch_model.bin").read_bytes()
    for end in (0, 30, len(whole) // 2):
        (folder / "pytorch_model.bin").write_bytes(whole[:end])
        refused(folder, "pytorch_model.bin")
    assert "must not run" not in capsys.readouterr().out


def test_code_of_a_model_s_own_is_refused(folder: Path) -> None:
    change_fields(folder, auto_map={"AutoModelForCausalLM": "modeling.Model"})
    refused(folder, "auto_map")


def test_damaged_and_missing_files_are_named(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-5])
    refused(folder, "model.safetensors: no weights can be read")
    (folder / "model.safetensors").unlink()
    refused(folder, "neither model.safetensors nor pytorch_model.bin")
    (folder / "pytorch_model.bin").write_bytes(b"PK\x03\x04 and no more")
    refused(folder, "pytorch_model.bin")
    (folder / "config.json").write_text("{")
    refused(folder, "config.json is not JSON")
    (folder / "config.json").unlink()
    refused(folder, "config.json: no such file")
    with pytest.raises(UserError, match="no such folder"):
        from_huggingface(tmp_path / "nowhere")


def test_an_index_that_does_not_fit_is_refused(folder: Path) -> None:
    halves(folder, save_file, "safetensors")
    index = folder / "model.safetensors.index.json"
    places = json.loads(index.read_text())["weight_map"]
    name = "transformer.wte.weight"
    for place, named in (("../elsewhere.safetensors", "not a weight file beside it"), ("model.py", "weight file")):
        index.write_text(json.dumps({"weight_map": {**places, name: place}}))
        refused(folder, named)
    index.write_text(json.dumps({"weight_map": {**places, name: "model-00003-of-00003.safetensors"}}))
    refused(folder, "which is not there")
    index.write_text(json.dumps({"weight_map": {**places, "transformer.more": places[name]}}))
    refused(folder, "has no tensor transformer.more")
    index.write_text(json.dumps({"weight_map": {other: place for other, place in places.items() if other != name}}))
    refused(folder, f"{places[name]} has {name}, which the index of .* does not name")
    for nothing in ("{}", '{"weight_map": {"transformer.wte.weight": ["model.safetensors"]}}', "[" * 100_000):
        index.write_text(nothing)
        refused(folder, "index.json .*(weight_map|JSON)")


def test_a_name_is_looked_up_on_the_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: list[tuple[str, bool]] = []

    def fetch(name: str, *, allow_patterns: list[str]) -> str:
        asked.append((name, any(".bin" in pattern for pattern in allow_patterns)))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert resolve("gpt2") == folder
    assert asked == [("gpt2", False)]
    (folder / "model.safetensors").unlink()
    assert resolve("openai-community/gpt2") == folder
    assert asked[1:] == [("openai-community/gpt2", False), ("openai-community/gpt2", True)]
    assert resolve(folder) == folder
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("kind", "said", "message"),
    [
        ("GatedRepoError", "401 Client Error. (Request ID: 7)", "accepted: do so at https://huggingface.co/some/model"),
        ("RepositoryNotFoundError", "401 Client Error.", "the hub has no model of that name, or a private one"),
        ("HfHubHTTPError", "(Request ID: 7)\n\n429 Client Error: wait", "does not give it (429 Client Error: wait)"),
    ],
)
def test_what_the_hub_refuses_is_said_in_one_line(
    kind: str, said: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    class Error(getattr(huggingface_hub.errors, kind)):  # type: ignore[misc]
        def __init__(self) -> None:  # without the answer that it was made of
            Exception.__init__(self, said)

        __str__ = Exception.__str__

    def fetch(name: str, *, allow_patterns: list[str]) -> str:
        raise Error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    with pytest.raises(UserError) as refusal:
        resolve("some/model")
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_without_the_hub_a_name_is_an_error_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_for = r"nobody/nothing: there is no folder /.*/nobody/nothing, and the hub does not give it"
    with pytest.raises(UserError, match=looked_for) as refusal:
        resolve("nobody/nothing")
    assert "\n" not in str(refusal.value)
