"""Tokenizers of plain text: what comes back, what is saved, what is refused."""

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import requests
import tiktoken

from transformer_zoo.checksums import write_fields
from transformer_zoo.data import text
from transformer_zoo.errors import UserError
from transformer_zoo.tokenizers import (
    ByteTokenizer,
    CharacterTokenizer,
    SentencePieceTokenizer,
    TiktokenTokenizer,
    Tokenizer,
    TokenizerSettings,
    TranslationTokenizer,
    WordTokenizer,
    make_tokenizer,
)
from transformer_zoo.tokenizers.saved import Saved
from transformer_zoo.tokenizers.translation import LineTokenizer

TEXT = "def f(x):\n    return  x + 1  # größer\n\n\tTo be, or not to be: that is the question.\r\n 漢字 🎉 end\n"
GPT2 = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""


def small_bpe() -> tiktoken.Encoding:
    """Bytes and a few merges, with GPT-2's pattern; id 263 is not used."""
    ranks = {bytes([i]): i for i in range(256)}
    ranks |= {piece: 256 + i for i, piece in enumerate([b" t", b" to", b"th", b" be", b"\n\n", b"  "])}
    return tiktoken.Encoding("small", pat_str=GPT2, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 264})


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Tokenizer]:
    lines = [TEXT, *(f"word{i % 17} and {i}\n" for i in range(97))]
    return {
        "characters": CharacterTokenizer.make(lines),
        "words": WordTokenizer.make(lines),
        "bytes": ByteTokenizer(),
        "tiktoken": TiktokenTokenizer(small_bpe()),
        "sentencepiece": SentencePieceTokenizer.make(lines, TokenizerSettings(vocab_size=347)),
    }


KINDS = ["characters", "words", "bytes", "tiktoken", "sentencepiece"]
LOSSLESS = [kind for kind in KINDS if kind != "words"]


@pytest.mark.parametrize("kind", LOSSLESS)
def test_text_comes_back_as_it_was(kind, tokenizers):
    tokenizer = tokenizers[kind]
    for sample in (TEXT, "", " ", "\n", "  be\n\n be ", "to be"):
        ids = tokenizer.encode(sample)
        assert tokenizer.decode(ids) == sample
        assert tokenizer.encode_array(sample).tolist() == ids
        assert all(0 <= i < tokenizer.vocab_size for i in ids)
        assert tokenizer.eos_id not in ids
    assert tokenizer.encode_batch([TEXT, "to"]) == [tokenizer.encode(TEXT), tokenizer.encode("to")]


@pytest.mark.parametrize("kind", ["bytes", "tiktoken", "sentencepiece"])
def test_these_spell_any_text(kind, tokenizers):
    sample = "ж ñ <unk> <s> </s> <|endoftext|> \0 \x7f"
    ids = tokenizers[kind].encode(sample)
    assert tokenizers[kind].decode(ids) == sample
    assert tokenizers[kind].eos_id not in ids


def test_words_come_back_up_to_runs_of_blanks(tokenizers):
    words = tokenizers["words"]
    assert words.decode(words.encode("  To  be,\tor \n\nthe end\n")) == "To be, or\n\nthe end\n"
    assert words.decode(words.encode("To zzz be,")) == "To <unk> be,"
    assert words.encode("<unk>") == words.encode("zzz") == [0]


def test_the_most_frequent_words_are_kept():
    texts = ["b a c a b a <unk>", "d c"]
    words = WordTokenizer.make(texts, TokenizerSettings(vocab_size=5))
    assert (words.words, words.vocab_size, words.eos_id) == (["a", "b"], 5, 4)
    assert WordTokenizer.make(texts, TokenizerSettings(end_of_text=False)).words == ["a", "b", "c", "d"]
    with pytest.raises(UserError, match="vocab_size: 3 leaves no room for words"):
        WordTokenizer.make(texts, TokenizerSettings(vocab_size=3))


def test_characters_are_numbered_in_order():
    characters = CharacterTokenizer.make(["hello", "abc"], TokenizerSettings(end_of_text=False))
    assert (characters.characters, characters.vocab_size, characters.eos_id) == ("abcehlo", 7, None)
    assert characters.encode("ace") == [0, 2, 3]
    with pytest.raises(UserError, match=r"character 'é' \(U\+00E9\) is not among the 7 of the vocabulary"):
        characters.encode("caé")
    with pytest.raises(UserError, match="'d'"):  # between two that are known
        characters.encode("d")


@pytest.mark.parametrize("kind", KINDS)
def test_more_ids_only_add_bytes(kind, tokenizers):
    tokenizer = tokenizers[kind]
    ids = [*tokenizer.encode(TEXT), tokenizer.eos_id, *tokenizer.encode("be to\nbe")]
    whole = tokenizer.decode_bytes(ids)
    assert b"<|endoftext|>" in whole
    pieces = [tokenizer.decode_bytes(ids[:n]) for n in range(len(ids) + 1)]
    assert all(whole.startswith(piece) for piece in pieces)


@pytest.mark.parametrize("kind", KINDS)
def test_save_and_load(kind, tokenizers, tmp_path):
    tokenizers["sentencepiece"].save(tmp_path)  # what another kind leaves behind does no harm
    tokenizers[kind].save(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    assert type(loaded) is type(tokenizers[kind])
    assert loaded.fingerprint == tokenizers[kind].fingerprint
    assert (loaded.vocab_size, loaded.eos_id) == (tokenizers[kind].vocab_size, tokenizers[kind].eos_id)
    assert loaded.name == tokenizers[kind].name
    assert loaded.encode(TEXT) == tokenizers[kind].encode(TEXT)


def test_fingerprints_differ_where_ids_do(tokenizers):
    others = [CharacterTokenizer("ab"), CharacterTokenizer("ba"), CharacterTokenizer("ab", end_of_text=False)]
    assert len({tokenizer.fingerprint for tokenizer in [*tokenizers.values(), *others]}) == 8


def test_a_folder_without_a_whole_tokenizer_is_refused(tokenizers, tmp_path):
    with pytest.raises(UserError, match="no tokenizer here"):
        Tokenizer.load(tmp_path)
    tokenizers["tiktoken"].save(tmp_path)
    model, fields = tmp_path / "merges.tiktoken", tmp_path / "tokenizer_kind.json"
    content = model.read_bytes()
    for damaged in (content[:-9], b"x", b""):
        model.write_bytes(damaged)
        with pytest.raises(UserError, match="is damaged, or was changed"):
            Tokenizer.load(tmp_path)
    model.write_bytes(content)
    about = json.loads(fields.read_text())
    for change, message in (({"kind": "new"}, "is damaged, or was changed"), ({"pattern": r"\S+|\s+"}, "is damaged")):
        fields.write_text(json.dumps(about | change))
        with pytest.raises(UserError, match=message):
            Tokenizer.load(tmp_path)
    fields.write_text("[")
    with pytest.raises(UserError, match=r"tokenizer_kind\.json is damaged"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("kind", ["characters", "words"])
@pytest.mark.parametrize("wrong", [10**12, 5, -1, 1.5, "yes", [], None])
def test_an_end_that_is_neither_there_nor_not_is_refused(kind, wrong, tokenizers, tmp_path):
    """A stranger's file may say anything, with a checksum that fits."""
    tokenizers[kind].save(tmp_path)
    index = tmp_path / "tokenizer_kind.json"
    about = json.loads(index.read_text())
    del about["checksum"]
    write_fields(index, {**about, "end_of_text": wrong})
    with pytest.raises(UserError, match=r"tokenizer_kind\.json is damaged"):
        Tokenizer.load(tmp_path)


WRONG = [
    5,
    -1,
    10**30,
    1.5,
    True,
    None,
    "x",
    "",
    [],
    [1],
    ["x", None],
    {},
    {"x": "y"},
    {"x": -1},
    {"kind": "none"},
    "(",
]


@pytest.mark.parametrize("kind", ["characters", "words", "tiktoken", "sentencepiece", "lines", "translation"])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_strangers_file_is_read_or_refused(kind, wrong, tokenizers, tmp_path):
    """Whatever its fields hold: what comes out is a tokenizer that encodes, or is refused."""
    line = LineTokenizer(tokenizers["bytes"])
    made = {**tokenizers, "lines": line, "translation": TranslationTokenizer(line, line)}[kind]
    made.save(tmp_path)
    index = tmp_path / "tokenizer_kind.json"
    about = json.loads(index.read_text())
    del about["checksum"]
    said = []
    for name in ({*about} | {"model"}) - ({"checksums"} if kind in ("tiktoken", "sentencepiece") else set()):
        write_fields(index, {**about, name: wrong})
        try:
            found = Saved.load(tmp_path)
        except UserError as error:
            said.append(str(error))
            continue
        side = found.target if isinstance(found, TranslationTokenizer) else found
        with suppress(UserError):  # which a vocabulary may not know
            assert isinstance(side.decode(side.encode("x y")), str)
    assert all(str(tmp_path) in words for words in said), said


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_unicode_is_refused(kind, tokenizers):
    with pytest.raises(UserError, match="not valid Unicode"):
        tokenizers[kind].encode("be \ud800")


def test_ids_that_nothing_uses_decode_to_nothing(tokenizers):
    assert tokenizers["tiktoken"].decode([104, 263, 105]) == "hi"


def test_pieces_of_a_long_text_have_the_tokens_of_the_whole(tokenizers, tmp_path, monkeypatch):
    sample = TEXT.replace("\r", "") * 7
    (tmp_path / "a").write_bytes(sample.encode())
    monkeypatch.setattr(text, "_PIECE", 40)
    pieces = list(text.TextFiles(path=str(tmp_path / "a")).texts())
    assert len(pieces) > 5
    for kind in KINDS:
        ids = [i for piece in pieces for i in tokenizers[kind].encode(piece)]
        assert ids == tokenizers[kind].encode(sample), kind


def test_settings_make_each_kind():
    made = [
        make_tokenizer(TokenizerSettings(kind=kind, vocab_size=size), iter([TEXT] * 3))
        for kind, size in (("characters", None), ("words", 9), ("bytes", None), ("sentencepiece", 310))
    ]
    assert [tokenizer.kind for tokenizer in made] == ["characters", "words", "bytes", "sentencepiece"]
    assert [tokenizer.vocab_size for tokenizer in made] == [len(set(TEXT)) + 1, 9, 257, 310]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            TokenizerSettings(kind="bytes", vocab_size=9),
            "vocab_size is 9, and has no effect where tokenizer.kind is bytes",
        ),
        (TokenizerSettings(kind="sentencepiece"), "vocab_size: kind 'sentencepiece' needs one"),
        (TokenizerSettings(kind="sentencepiece", vocab_size=9999), "the largest that works is"),
        (TokenizerSettings(kind="tiktoken", encoding="gpt9"), "encoding: tiktoken has no 'gpt9'; it has .*gpt2"),
        (TokenizerSettings(kind="letters"), "kind: no tokenizer 'letters'; there are bytes, characters"),  # type: ignore[arg-type]
    ],
)
def test_settings_that_cannot_be_met(settings, message):
    with pytest.raises(UserError, match=message) as error:
        make_tokenizer(settings, [TEXT])
    assert "\n" not in str(error.value)


def test_sentencepiece_reads_no_more_than_it_was_told():
    def endless():
        while True:
            yield TEXT

    settings = TokenizerSettings(kind="sentencepiece", vocab_size=310, training_characters=300)
    assert make_tokenizer(settings, endless()).vocab_size == 310


def test_tiktoken_without_a_network_says_where_to_put_its_file(tmp_path, monkeypatch):
    def refuse(path: str) -> bytes:
        raise requests.exceptions.ConnectionError("nobody there")

    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("tiktoken.load.read_file", refuse)
    monkeypatch.setattr("tiktoken.registry.ENCODINGS", {})
    with pytest.raises(UserError, match="set TIKTOKEN_CACHE_DIR to a folder") as error:
        TiktokenTokenizer.get("gpt2")
    assert "\n" not in str(error.value)
    monkeypatch.setattr("tiktoken.load.read_file", lambda path: b"a page of a proxy\n")
    with pytest.raises(UserError, match="'r50k_base': Hash mismatch"):
        TiktokenTokenizer.get("r50k_base")


def test_a_ready_made_encoding_where_its_file_is_at_hand(tmp_path, monkeypatch):
    try:
        gpt2 = TiktokenTokenizer.get("gpt2")
    except (UserError, RuntimeError):
        pytest.skip("no file of tiktoken's gpt2 here; TIKTOKEN_CACHE_DIR can name its folder")
    assert (gpt2.vocab_size, gpt2.eos_id) == (50257, 50256)
    assert gpt2.encode("hello world") == [31373, 995]
    gpt2.save(tmp_path)
    monkeypatch.setattr(tiktoken, "get_encoding", None)  # the folder is enough
    loaded = Tokenizer.load(Path(tmp_path))
    assert np.array_equal(loaded.encode_array(TEXT), gpt2.encode_array(TEXT))


@pytest.mark.parametrize("pattern", ["x*", "a|", r"\b", "(?=l)", r"\p{L}+|"])
def test_a_pattern_that_matches_nothing_is_named_and_no_traceback(pattern):
    bytes_alone = {bytes([i]): i for i in range(256)}
    damaged = tiktoken.Encoding("small", pat_str=pattern, mergeable_ranks=bytes_alone, special_tokens={})
    with pytest.raises(UserError, match="cuts a text into pieces of nothing; the tokenizer is damaged"):
        TiktokenTokenizer(damaged).encode("hello xx\n")
