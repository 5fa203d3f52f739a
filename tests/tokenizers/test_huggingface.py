"""Tokenizers of decoder-only models: the ids, the text and the start of a prompt that `transformers` has."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors

from transformer_zoo.errors import UserError
from transformer_zoo.inference.text import TextStream
from transformer_zoo.tokenizers import HuggingFaceTokenizer, TokenizerSettings, make_tokenizer

Hub = Callable[..., Path]
TEXTS = [
    "hello world, ein Wort",
    "größer 漢字 🎉 12345 1.5 don't e\u0301",
    "two  blanks\n\nand\tlines ",
    "",
    " not",
    "one <|endoftext|> two </s>three",
]


def llama3(folder: Path) -> None:
    """Byte-level with its own way of splitting, and a template that begins with <s>."""
    tokenizer = Tokenizer(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
    split = pre_tokenizers.Split(Regex(r"\p{N}{1,3}| ?[^\s\p{N}]+|\s+"), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A $B", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    fast.save_pretrained(folder)


def saved(folder: Path, hub: Hub, kind: str) -> Path:
    """A folder of this kind; "-json" as `transformers` saves it today."""
    name, _, form = kind.partition("-")
    if name == "llama3":
        shutil.copytree(hub("opt"), folder, dirs_exist_ok=True)
        (folder / "tokenizer_config.json").unlink()
        (folder / "config.json").unlink()
        llama3(folder)
    elif kind == "qwen2-slow":
        shutil.copytree(hub("gpt2"), folder, dirs_exist_ok=True)
        (folder / "config.json").unlink()
        fields = {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|endoftext|>"}
        (folder / "tokenizer_config.json").write_text(json.dumps(fields), encoding="utf-8")
    elif name in ("neox", "qwen2"):
        shutil.copytree(hub("gpt2"), folder, dirs_exist_ok=True)
        cls = {"neox": transformers.GPTNeoXTokenizer, "qwen2": transformers.Qwen2Tokenizer}[name]
        tokenizer = cls.from_pretrained(folder)
        tokenizer.add_tokens(["  ", "<kept>"])  # such as GPT-NeoX has for runs of blanks: no special ones
        (folder / "config.json").unlink()
        tokenizer.save_pretrained(folder)
    elif form:
        transformers.AutoTokenizer.from_pretrained(hub(name)).save_pretrained(folder)
    else:
        shutil.copytree(hub(name), folder, dirs_exist_ok=True)
    return folder


KINDS = {
    "gpt2": ((), 0),
    "gpt2-json": ((), 0),
    "neox": ((), 0),
    "qwen2": ((), 0),
    "qwen2-slow": ((), 0),
    "opt": ((2,), 2),
    "opt-json": ((2,), 2),
    "llama": ((1,), 2),
    "llama-json": ((1,), 2),
    "llama3": ((0,), 2),
    "gemma": ((2,), 1),
    "gemma-json": ((2,), 1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_gives_what_transformers_gives(kind: str, hub: Hub, tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", hub, kind)
    theirs, ours = transformers.AutoTokenizer.from_pretrained(folder), HuggingFaceTokenizer.read(folder)
    assert (ours.start_ids, ours.eos_id) == KINDS[kind]
    assert ours.eos_id == theirs.eos_token_id
    for text in TEXTS:
        if kind == "llama" and ("</s>" in text or text.startswith(" ")):
            continue  # there SentencePiece itself is followed, which `transformers` only imitates
        ids = [*ours.start_ids, *ours.encode(text)]
        end = [2] if kind == "llama3" else []
        assert [*ids, *end] == theirs(text)["input_ids"], text
        if not (kind == "llama3" and "</s>" in text):
            assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True), text
        assert ours.encode_array(text).tolist() == ours.encode_batch([text, "x"])[0] == ours.encode(text)


@pytest.mark.parametrize("kind", KINDS)
def test_streamed_bytes_only_ever_grow_and_are_the_text(kind: str, hub: Hub, tmp_path: Path) -> None:
    tokenizer = HuggingFaceTokenizer.read(saved(tmp_path / "model", hub, kind))
    for text in TEXTS:
        ids = [*tokenizer.start_ids, *tokenizer.encode(text)]
        for n in range(len(ids)):
            assert tokenizer.decode_bytes(ids[: n + 1]).startswith(tokenizer.decode_bytes(ids[:n]))
        prompt = [*tokenizer.start_ids, *tokenizer.encode("ein")]
        answer = tokenizer.encode(text)
        stream = TextStream(tokenizer, prompt[-1])
        for token in answer:
            stream.add(token)
        whole = tokenizer.decode_bytes([*prompt, *answer])
        assert whole == tokenizer.decode_bytes(prompt) + stream.take(last=True).encode()


@pytest.mark.parametrize("kind", ["gpt2", "opt", "llama", "llama3"])
def test_a_run_keeps_the_files_and_gives_the_same_ids(kind: str, hub: Hub, tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", hub, kind)
    imported = HuggingFaceTokenizer.read(folder)
    imported.save(tmp_path / "run")
    again = HuggingFaceTokenizer.load(tmp_path / "run")
    assert isinstance(again, HuggingFaceTokenizer)
    for name, content in imported.files.contents.items():
        assert (tmp_path / "run" / name).read_bytes() == content
    for field in ("vocab_size", "eos_id", "start_ids", "fingerprint", "name", "kind"):
        assert getattr(again, field) == getattr(imported, field)
    assert again.encode_batch(TEXTS) == imported.encode_batch(TEXTS)


def test_rows_of_the_model_without_a_token_stand_for_nothing(hub: Hub) -> None:
    tokenizer = HuggingFaceTokenizer.read(hub("gpt2"))
    assert tokenizer.vocab_size == 311
    assert tokenizer.decode([*tokenizer.encode("hello"), 309, 310]) == "hello"


def edited(hub: Hub, folder: Path, kind: str, **changes: dict[str, Any] | None) -> Path:
    """A copy of a model's folder with other JSON files; None removes one."""
    shutil.copytree(hub(kind), folder)
    for name, fields in changes.items():
        path = folder / f"{name}.json"
        path.unlink(missing_ok=True) if fields is None else path.write_text(json.dumps(fields), encoding="utf-8")
    return folder


def test_where_the_end_of_a_text_is_told(hub: Hub, tmp_path: Path) -> None:
    def eos(name: str, **files: dict[str, Any] | None) -> int | None:
        return HuggingFaceTokenizer.read(edited(hub, tmp_path / name, "opt", **files)).eos_id

    two: dict[str, Any] = {"eos_token_id": [3, 2]}
    named: dict[str, Any] = {"eos_token": {"content": "<pad>"}}
    unsaid: dict[str, Any] = {"eos_token": None}
    assert eos("a", tokenizer_config=named, special_tokens_map={"eos_token": "<s>"}, config=two) == 1
    assert eos("b", tokenizer_config=unsaid, special_tokens_map={"eos_token": "<s>"}, config=two) == 0
    assert eos("c", tokenizer_config=unsaid, config=two, generation_config={"eos_token_id": 1}) == 3
    assert eos("d", tokenizer_config=unsaid, config=None, generation_config={"eos_token_id": 1}) == 1
    assert eos("e", tokenizer_config=None, config={"model_type": "opt"}) == 2


def test_where_the_start_of_a_prompt_is_told(hub: Hub, tmp_path: Path) -> None:
    def start(name: str, kind: str, **files: dict[str, Any] | None) -> tuple[int, ...]:
        return HuggingFaceTokenizer.read(edited(hub, tmp_path / name, kind, **files)).start_ids

    assert start("a", "opt", tokenizer_config={"bos_token": "<s>", "add_bos_token": True}) == (0,)
    assert start("b", "opt", tokenizer_config={"bos_token": "<s>", "add_bos_token": False}) == ()
    assert start("c", "gpt2", tokenizer_config={"bos_token": "<|endoftext|>"}) == ()
    assert start("d", "llama", tokenizer_config=None) == (1,)
    assert start("e", "llama", tokenizer_config={"add_bos_token": False}) == ()


def test_a_token_that_the_model_has_no_row_for_is_refused(hub: Hub, tmp_path: Path) -> None:
    files = {"config": {"vocab_size": 307}, "added_tokens": {"<new>": 307}}
    tokenizer = HuggingFaceTokenizer.read(edited(hub, tmp_path / "small", "gpt2", **files))
    assert tokenizer.encode("hello") == HuggingFaceTokenizer.read(hub("gpt2")).encode("hello")
    with pytest.raises(UserError, match="token 307, and the model knows only 307"):
        tokenizer.encode("a <new> one")
    with pytest.raises(UserError, match="special id 0 is outside"):
        HuggingFaceTokenizer(tokenizer.files, vocab_size=0, eos_id=0, start_ids=())


def test_text_that_is_no_unicode_is_refused(hub: Hub) -> None:
    for kind in ("gpt2", "llama"):
        with pytest.raises(UserError, match="lone surrogate"):
            HuggingFaceTokenizer.read(hub(kind)).encode("a\ud800")


def test_words_without_a_decoder_have_blanks_between(tmp_path: Path) -> None:
    words = Tokenizer(models.WordLevel({"<unk>": 0, "ein": 1, "Wort": 2, "</s>": 3}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>", unk_token="<unk>")
    fast.save_pretrained(tmp_path)
    tokenizer = HuggingFaceTokenizer.read(tmp_path)
    assert tokenizer.encode("ein Wort  ein") == [1, 2, 1]
    assert tokenizer.decode([1, 2, 1, 3]) == "ein Wort ein"


@pytest.mark.parametrize(
    ("kind", "name", "content", "message"),
    [
        ("gpt2", "vocab.json", b"{", "vocab.json is damaged"),
        ("gpt2", "vocab.json", b'{"a": "b"}', "ids are not whole numbers"),
        ("gpt2", "merges.txt", b"q\xff\xff zzz\n", "merges.txt: damaged, or not of this vocab.json"),
        ("gpt2", "vocab.json", None, "the tokenizer needs vocab.json"),
        ("gpt2", "config.json", b"[]", "config.json is damaged"),
        ("gpt2", "added_tokens.json", b'{"<new>": 999}', "<new>' has an id that does not follow"),
        ("opt", "tokenizer_config.json", b'{"added_tokens_decoder": {"x": 1}}', "added tokens are damaged"),
        ("gpt2", "tokenizer.json", b"{}", "tokenizer.json: damaged"),
        ("gpt2", "tokenizer.json", b"\xff", "tokenizer.json: damaged"),
        ("llama", "tokenizer.model", b"", "not a SentencePiece model"),
        ("llama", "tokenizer.model", b"pickle", "not a SentencePiece model"),
        ("llama", "tokenizer.model", None, "no tokenizer of such a model"),
        ("llama", "added_tokens.json", b'{"<|im_start|>": 9999}', "does not know the added token '<|im_start|>'"),
    ],
)
def test_damage_is_named_in_one_line(
    kind: str,
    name: str,
    content: bytes | None,
    message: str,
    hub: Hub,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = edited(hub, tmp_path / "model", kind)
    (folder / name).unlink(missing_ok=True) if content is None else (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        HuggingFaceTokenizer.read(folder)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""  # nor does a library say anything


ENDS = {"type": "Strip", "content": " ", "start": 1, "stop": 1}
BY_REGEX = {"type": "Replace", "pattern": {"Regex": "a +"}, "content": "a"}
WORDS = {"type": "Replace", "pattern": {"String": "_"}, "content": " "}


@pytest.mark.parametrize(
    "decoder",
    [
        {"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": True},
        {"type": "BPEDecoder", "suffix": "</w>"},
        {"type": "Sequence", "decoders": [{"type": "Fuse"}, ENDS]},
        {"type": "Sequence", "decoders": [BY_REGEX, WORDS]},
    ],
)
def test_a_decoder_that_mixes_tokens_is_refused(decoder: dict[str, Any], hub: Hub, tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", hub, "gpt2-json")
    fields = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    fields["decoder"] = decoder
    (folder / "tokenizer.json").write_text(json.dumps(fields), encoding="utf-8")
    with pytest.raises(UserError, match=r"its decoder \((CTC|BPEDecoder|Strip|Replace)\)"):
        HuggingFaceTokenizer.read(folder)


def test_no_folder_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        HuggingFaceTokenizer.read(tmp_path / "none")
    with pytest.raises(UserError, match="no tokenizer here"):
        HuggingFaceTokenizer.read(tmp_path)


def test_a_damaged_run_is_named(hub: Hub, tmp_path: Path) -> None:
    tokenizer = HuggingFaceTokenizer.read(hub("gpt2"))
    tokenizer.save(tmp_path)
    (tmp_path / "merges.txt").write_bytes(b"h e\n")
    with pytest.raises(UserError, match="damaged"):
        HuggingFaceTokenizer.load(tmp_path)
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(UserError, match=r"no tokenizer here \(merges.txt\)"):
        HuggingFaceTokenizer.load(tmp_path)
    tokenizer.save(tmp_path)
    fields = json.loads((tmp_path / "tokenizer_kind.json").read_text("utf-8"))
    fields["checksums"] = {"../secret": 3}
    (tmp_path / "tokenizer_kind.json").write_text(json.dumps(fields), encoding="utf-8")
    with pytest.raises(UserError, match="damaged"):
        HuggingFaceTokenizer.load(tmp_path)


def test_a_folder_of_a_recipe_is_named_by_its_field(hub: Hub, tmp_path: Path) -> None:
    settings = TokenizerSettings(kind="huggingface", folder=str(hub("gpt2")))
    made = make_tokenizer(settings, [])
    assert made.fingerprint == HuggingFaceTokenizer.read(hub("gpt2")).fingerprint
    for folder, message in ((None, "kind 'huggingface' needs one"), (str(tmp_path / "none"), ".*none: no such folder")):
        with pytest.raises(UserError, match=rf"^tokenizer\.folder: {message}"):
            make_tokenizer(TokenizerSettings(kind="huggingface", folder=folder), [])
