"""Tokenizers as `transformers.AutoTokenizer` reads them: the same ids, and the same text back."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tiktoken
import transformers

from transformer_zoo.errors import UserError
from transformer_zoo.tokenizers import (
    ByteTokenizer,
    CharacterTokenizer,
    HuggingFaceTokenizer,
    SentencePieceTokenizer,
    TiktokenTokenizer,
    Tokenizer,
    TokenizerSettings,
    TranslationTokenizer,
    TranslationTokenizerSettings,
    WordTokenizer,
    import_translation_tokenizer,
)
from transformer_zoo.tokenizers.settings import ModelType

pytestmark = pytest.mark.filterwarnings("ignore:Recommended")

GPT2 = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
CL100K = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]"""
    r"|\s+(?!\S)|\s"
)
TEXT = "def f(x):\n    return  x + 1  # größer\n\n\tTo be, or not to be: that is the question.\r\n 漢字 🎉 end\n"
DRAW = random.Random(1)
LINES = [
    " ".join(DRAW.choices(["house", "hound", "horse", "mouse", "mound", "round", "ground", "grind"], k=9))
    for _ in range(50)
]
LINES += [TEXT, *(f"word{i % 17} and {i}" for i in range(50))]
SAMPLES = [
    TEXT,
    "",
    " ",
    "\n",
    "  be\n\n be ",
    "1234567 round",
    "a  \n  b",
    "don't DON'T\u00a0x",
    "aaaaaaa",
    "x\u0085y\x1cz",
]
SAMPLES += ["".join(DRAW.choices("  \n\t\rabeth12ou nd34'sß漢🎉.-", k=DRAW.randint(1, 40))) for _ in range(97)]


def byte_pairs(pattern: str) -> TiktokenTokenizer:
    """Bytes, some merges that overlap, and numbers that are not used before the end of text."""
    pieces = b"ou ound ro round or us use nd th 12 123 234 23 4567 aa aaa aaaa".split()
    ranks = {piece: i for i, piece in enumerate([bytes([i]) for i in range(256)] + [b" h", b" ho", b"\n\n", *pieces])}
    special = {"<|endoftext|>": 300}
    return TiktokenTokenizer(tiktoken.Encoding("s", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special))


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Tokenizer]:
    characters = "".join(sorted(set("".join([*LINES, *SAMPLES[:20]]))))
    return {
        "characters": CharacterTokenizer(characters),
        "characters without end": CharacterTokenizer(characters, end_of_text=False),
        "words": WordTokenizer.make(LINES),
        "bytes": ByteTokenizer(),
        "gpt2": byte_pairs(GPT2),
        "cl100k": byte_pairs(CL100K),
        "bpe": SentencePieceTokenizer.make(LINES, TokenizerSettings(vocab_size=337)),
        "unigram": SentencePieceTokenizer.make(LINES, TokenizerSettings(vocab_size=331, model_type="unigram")),
    }


TEXT_KINDS = ["characters", "characters without end", "words", "bytes", "gpt2", "cl100k", "bpe", "unigram"]


def exported(tokenizer: Tokenizer | TranslationTokenizer, folder: Path, model_type: str, vocab_size: int) -> Path:
    tokenizer.export(folder, model_type=model_type)
    config = {"model_type": model_type, "vocab_size": vocab_size}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.mark.parametrize("model_type", ["gpt2", "llama", "gemma2"])
@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_text_tokenizers(kind: str, model_type: str, tokenizers: dict[str, Tokenizer], tmp_path: Path) -> None:
    ours = tokenizers[kind]
    exported(ours, tmp_path, model_type, ours.vocab_size)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.eos_token_id == ours.eos_id
    for text in SAMPLES:
        try:
            ids = ours.encode(text)
        except UserError:  # characters that it does not know
            continue
        assert theirs(text)["input_ids"] == ids, text
        assert theirs.decode(ids) == ours.decode(ids), text


@pytest.mark.parametrize("model_type", ["gpt_neox", "opt", "bloom", "mistral", "qwen3", "gemma"])
def test_every_family_takes_them(model_type: str, tokenizers: dict[str, Tokenizer], tmp_path: Path) -> None:
    ours = tokenizers["gpt2"]
    exported(ours, tmp_path, model_type, 301)
    assert transformers.AutoTokenizer.from_pretrained(tmp_path)(TEXT)["input_ids"] == ours.encode(TEXT)


def test_a_family_that_would_ignore_it_is_refused(tokenizers: dict[str, Tokenizer], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="model_type qwen2: transformers takes its own tokenizer"):
        tokenizers["gpt2"].export(tmp_path, model_type="qwen2")


@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_what_is_exported_can_be_imported(kind: str, tokenizers: dict[str, Tokenizer], tmp_path: Path) -> None:
    ours = tokenizers[kind]
    ours.export(tmp_path, model_type="gpt2")
    if kind == "words":  # each blank depends on the word before it
        with pytest.raises(UserError, match="does not give each token its own bytes"):
            HuggingFaceTokenizer.read(tmp_path)
        return
    again = HuggingFaceTokenizer.read(tmp_path)
    assert (again.vocab_size, again.eos_id, again.start_ids) == (ours.vocab_size, ours.eos_id, ())
    ids = ours.encode(SAMPLES[0])
    assert again.encode(SAMPLES[0]) == ids
    assert again.decode(ids) == ours.decode(ids)


@pytest.mark.parametrize("model_type", ["bpe", "unigram"])
@pytest.mark.parametrize("byte_fallback", [False, True])
@pytest.mark.parametrize("joint", [False, True])
def test_translation_tokenizers(joint: bool, byte_fallback: bool, model_type: ModelType, tmp_path: Path) -> None:
    size = 323 if byte_fallback else 71
    settings = TranslationTokenizerSettings(
        vocab_size=size, joint=joint, byte_fallback=byte_fallback, model_type=model_type
    )
    ours = TranslationTokenizer.train(LINES, [line.upper() for line in LINES], settings)
    exported(ours, tmp_path, "marian", size)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert [theirs.pad_token_id, theirs.unk_token_id, theirs.bos_token_id, theirs.eos_token_id] == [0, 1, 2, 3]
    assert theirs.vocab_size == size
    samples = [*SAMPLES, "½ FULL ｗｉｄｔｈ ﬁ e\u0301", "x▁y ▅ z", "ROUND\u3000HOUSE\u00a0m²"]
    assert theirs(samples)["input_ids"] == [[*row, 3] for row in ours.source.encode_batch(samples)]
    targets = ours.target.encode_batch(samples)
    assert theirs(text_target=samples)["input_ids"] == [[*row, 3] for row in targets]
    again = import_translation_tokenizer(tmp_path)
    for row in targets:
        if 1 not in row:
            text = ours.target.decode(row).replace("▁", " ")  # which no Marian writes
            assert theirs.decode([*row, 3], skip_special_tokens=True) == text.strip()
            assert again.target.decode(row) == text
    if byte_fallback:
        decoded = [theirs.decode(row, skip_special_tokens=True).split() for row in targets]
        assert decoded == [line.replace("▁", " ").split() for line in samples]
    assert (again.joint, again.source.vocab_size, again.eos_id) == (joint, size, 3)
    assert again.source.encode_batch(samples) == ours.source.encode_batch(samples)
    assert again.target.encode_batch(samples) == targets


def test_a_vocabulary_need_not_know_any_letter(tmp_path: Path) -> None:
    CharacterTokenizer("01\n").export(tmp_path, model_type="gpt2")
    again = HuggingFaceTokenizer.read(tmp_path)
    assert (again.start_ids, again.encode("10\n")) == ((), [1, 0, 2])
    with pytest.raises(UserError, match="cannot spell the text"):
        again.encode("a")


def test_imported_ones_are_written_as_they_came(hub: Callable[..., Path], tmp_path: Path) -> None:
    for name, read in (("opt", HuggingFaceTokenizer.read), ("m2m", import_translation_tokenizer)):
        folder = hub(name)
        read(folder).export(tmp_path / name, model_type=name)
        written = {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        assert written == {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "config.json"}


@pytest.mark.parametrize(
    ("name", "arguments", "languages"),
    [
        ("fairseq", ("MBartTokenizer",), ("ro_RO", "cs_CZ")),
        ("fairseq", ("MBart50Tokenizer",), ("de_DE", "sl_SI")),
        ("m2m", (), ("fr", "de")),
    ],
)
def test_the_chosen_languages_are_written(
    name: str, arguments: tuple[str, ...], languages: tuple[str, str], hub: Callable[..., Path], tmp_path: Path
) -> None:
    folder = hub(name, *arguments)
    ours = import_translation_tokenizer(folder).with_languages(*languages)
    ours.export(tmp_path, model_type=name)
    shutil.copy(folder / "config.json", tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert (theirs.src_lang, theirs.tgt_lang) == languages
    end = ours.eos_id if ours.source_end_id is None else ours.source_end_id
    assert theirs(LINES[:9])["input_ids"] == [[*row, end] for row in ours.source.encode_batch(LINES[:9])]
    again = import_translation_tokenizer(tmp_path)
    assert (again.source_language, again.target_language) == languages


def test_a_tokenizer_without_a_counterpart(tmp_path: Path) -> None:
    class Other(ByteTokenizer):
        kind = "other"

    class Unknown(Tokenizer):
        kind, vocab_size, eos_id = "unknown", 3, None
        make = encode_array = decode_bytes = content = from_content = None  # type: ignore[assignment]

    Other().export(tmp_path, model_type="gpt2")
    with pytest.raises(UserError, match=r"^unknown: transformers has no counterpart"):
        Unknown().export(tmp_path, model_type="gpt2")
