"""Tokenizers of encoder-decoders: the ids of `transformers`, except for the last token, which the model decides."""

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import transformers

from transformer_zoo.checksums import write_fields
from transformer_zoo.data import encode_corpus
from transformer_zoo.data.parallel import ParallelText
from transformer_zoo.errors import UserError
from transformer_zoo.tokenizers import (
    HuggingFaceTokenizer,
    Tokenizer,
    TranslationTokenizer,
    TranslationTokenizerSettings,
    import_translation_tokenizer,
)
from transformer_zoo.tokenizers.families import LANGUAGES, family_of
from transformer_zoo.tokenizers.files import TokenizerFiles
from transformer_zoo.tokenizers.imported import ImportedTranslationTokenizer
from transformer_zoo.tokenizers.saved import Saved

pytestmark = pytest.mark.filterwarnings("ignore:Recommended")  # pip install sacremoses, which it does not use

Hub = Callable[..., Path]
TEXTS = ["hello world, ein Wort", "größer 漢字 🎉 12345 don't", "two  blanks and\tmore", "HELLO", "not"]
CODES = (">>fra<<", ">>deu<<", ">>deu_Latn<<")
FAIRSEQ = {
    "mbart": ("MBartTokenizer", "en_XX", "ro_RO"),
    "mbart50": ("MBart50Tokenizer", "de_DE", "sl_SI"),
    "nllb": ("NllbTokenizer", "deu_Latn", "eng_Latn"),
}


def compare(ours: ImportedTranslationTokenizer, theirs: Any, texts: list[str] = TEXTS) -> None:
    """Ids of both sides and text of the target."""
    end = ours.eos_id if ours.source_end_id is None else ours.source_end_id
    labels = [theirs(text_target=text)["input_ids"] for text in texts]
    if ours.bos_id is not None:  # `transformers` puts it last, and moves it to the start later
        assert all(row.pop() == ours.bos_id for row in labels)
    targets = ours.target.encode_batch(texts)
    assert [[*row, end] for row in ours.source.encode_batch(texts)] == theirs(texts)["input_ids"]
    assert [[*row, ours.eos_id] for row in targets] == labels
    for row, text in zip(targets, texts, strict=True):
        pieces = [i for i in row if i not in (ours.target.before or [None])]
        assert (
            ours.target.decode([*row, theirs.eos_token_id, theirs.pad_token_id])
            == theirs.decode(pieces, skip_special_tokens=True).strip()
        ), text


def fairseq(hub: Hub, folder: Path, family: str, **more: Any) -> Path:
    """tokenizer.json of a multilingual model; NLLB's languages are added tokens."""
    cls, source, target = FAIRSEQ[family]
    if family == "nllb":
        more["extra_special_tokens"] = list(LANGUAGES["nllb"])
    theirs = transformers.AutoTokenizer.from_pretrained(hub("fairseq", cls), src_lang=source, tgt_lang=target, **more)
    theirs.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("separate", [False, True])
def test_marian(separate: bool, hub: Hub) -> None:
    folder = hub("marian", separate=separate)
    theirs, ours = transformers.AutoTokenizer.from_pretrained(folder), import_translation_tokenizer(folder)
    compare(ours, theirs)
    assert (ours.joint, ours.languages, ours.eos_id) == (not separate, (), 0)
    assert (ours.bos_id, ours.source_end_id) == (None, None)
    assert ours.source.vocab_size == len(theirs.encoder)
    assert ours.source.encode("hello") != ours.target.encode("hello")
    with pytest.raises(UserError, match="no languages to choose from"):
        ours.with_languages(target="fra")


def test_a_marian_with_several_target_languages(hub: Hub) -> None:
    folder = hub("marian", codes=CODES)
    theirs, ours = transformers.AutoTokenizer.from_pretrained(folder), import_translation_tokenizer(folder)
    coded = [f">>deu<< {text}" for text in TEXTS]
    assert [[*row, 0] for row in ours.source.encode_batch(coded)] == theirs(coded)["input_ids"]
    assert ours.languages == ("fra", "deu", "deu_Latn")
    for code in ("deu", ">>deu<<"):
        chosen = ours.with_languages(target=code)
        assert chosen.target_language == "deu"
        assert chosen.source.encode_batch(TEXTS) == ours.source.encode_batch(coded)
        assert chosen.target.encode_batch(TEXTS) == ours.target.encode_batch(TEXTS)
    mixed = [">>fra<< hello", "not"]  # a line's own tag counts
    assert chosen.source.encode_batch(mixed) == ours.source.encode_batch([mixed[0], f">>deu<< {mixed[1]}"])
    with pytest.raises(UserError, match=r"no target language is chosen.*begin each line with >>fra<<"):
        ours.source.encode_batch([">>deu<< a", "b"])
    assert ours.source.encode_batch(["", "  "]) == [[], []]
    with pytest.raises(UserError, match="'>>de<<' is none of the 3 of the model; near ones are >>deu<<"):
        ours.source.encode(">>de<< a")
    with pytest.raises(UserError, match="'deu_latn' is none of the 3 of the model; near ones are deu_Latn"):
        ours.with_languages(target="deu_latn")
    with pytest.raises(UserError, match="told the target language only"):
        ours.with_languages("eng", "deu")


@pytest.mark.parametrize("form", ["files", "json"])
@pytest.mark.parametrize("family", ["bart", "t5"])
def test_models_of_one_language(family: str, form: str, hub: Hub, tmp_path: Path) -> None:
    folder = hub(family)
    if form == "json":
        transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
        folder = tmp_path
    theirs, ours = transformers.AutoTokenizer.from_pretrained(folder), import_translation_tokenizer(folder)
    texts = [*TEXTS, "hello <extra_id_0> world <extra_id_99>, not"] if family == "t5" else TEXTS
    compare(ours, theirs, texts)
    assert ours.family == family
    assert ours.source.encode("")[:1] == ours.target.encode("") == ([0] if family == "bart" else [])
    if form == "files":
        assert ours.source.vocab_size == {"bart": 311, "t5": 192}[family]


BYTES = ["<extra_id_0>", " a <extra_id_124>  b", "a </s> b<pad>c", "<extra_id_125>", "\n\t ", "", "caf\u00e9 \u20ac"]


def test_byt5(hub: Hub) -> None:
    theirs, ours = transformers.AutoTokenizer.from_pretrained(hub("byt5")), import_translation_tokenizer(hub("byt5"))
    assert ours.family == "byt5"
    assert ours.source.vocab_size == 384
    compare(ours, theirs, TEXTS)
    for text in BYTES:
        assert [*ours.source.encode(text), 1] == theirs(text)["input_ids"], text
    for row in ([], [3], [258], [200, 70], [70, 259, 71], [0, 71, 1, 2]):
        assert ours.target.decode(row) == theirs.decode(row, skip_special_tokens=True).strip()


@pytest.mark.parametrize("form", ["files", "json"])
def test_pegasus(form: str, hub: Hub, tmp_path: Path) -> None:
    folder = hub("pegasus")
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    if form == "json":
        theirs.save_pretrained(tmp_path)
        folder = tmp_path
    ours = import_translation_tokenizer(folder)
    assert ours.family == "pegasus"
    compare(ours, theirs)


@pytest.mark.parametrize("form", ["files", "json"])
@pytest.mark.parametrize("family", FAIRSEQ)
def test_models_with_tags(family: str, form: str, hub: Hub, tmp_path: Path) -> None:
    cls, source, target = FAIRSEQ[family]
    if form == "json":
        ours = import_translation_tokenizer(fairseq(hub, tmp_path, family))
        compare(ours, transformers.AutoTokenizer.from_pretrained(tmp_path))
    else:
        ours = import_translation_tokenizer(hub("fairseq", cls)).with_languages(source, target)
        if family != "nllb":  # of such files `transformers` 5 does not give NLLB's tags their ids
            more = {"src_lang": source, "tgt_lang": target}
            compare(ours, transformers.AutoTokenizer.from_pretrained(hub("fairseq", cls), **more))
    assert (ours.family, ours.source_language, ours.target_language) == (family, source, target)
    assert ours.languages == LANGUAGES[family]


def test_nllbs_tags_follow_the_pieces_and_the_mask_follows_the_tags(hub: Hub) -> None:
    ours = import_translation_tokenizer(hub("fairseq", "NllbTokenizer")).with_languages("ace_Arab", "zul_Latn")
    n = 61 + 1  # SentencePiece's, one later
    assert ours.source.encode("hello")[0] == n
    assert ours.target.encode("hello")[0] == n + 201
    assert ours.source.vocab_size == n + 202 + 1


def test_a_model_that_was_trained_with_the_tag_behind_the_sentence(hub: Hub, tmp_path: Path) -> None:
    folder = fairseq(hub, tmp_path, "nllb", legacy_behaviour=True)
    theirs, ours = transformers.AutoTokenizer.from_pretrained(folder), import_translation_tokenizer(folder)
    for text in TEXTS:
        ids = theirs(text)["input_ids"]
        assert [*ours.source.encode(text), ours.source_end_id] == ids
        assert ours.source.encode(text)[-1] == ours.eos_id
        assert ours.target.encode(text) == [theirs.convert_tokens_to_ids("eng_Latn"), *ids[:-2]]


def test_m2m_100(hub: Hub) -> None:
    folder = hub("m2m")
    theirs = transformers.AutoTokenizer.from_pretrained(folder, src_lang="en", tgt_lang="ro")
    ours = import_translation_tokenizer(folder)
    assert ours.languages == LANGUAGES["m2m100"]
    compare(ours.with_languages("en", "__ro__"), theirs)


def test_a_language_must_be_chosen_and_known(hub: Hub) -> None:
    ours = import_translation_tokenizer(hub("m2m"))
    for side in (ours.source, ours.target):
        with pytest.raises(
            UserError, match=r"100 languages \(af, am, ar, ast, \.\.\.\), and no (source|target) language"
        ):
            side.encode("hello")
    with pytest.raises(UserError, match="no target language"):
        ours.with_languages(source="en").target.encode("hello")
    nllb = import_translation_tokenizer(hub("fairseq", "NllbTokenizer"))
    with pytest.raises(UserError, match="'eng' is none of the 202 of the model; near ones are eng_Latn"):
        nllb.with_languages("eng", "deu_Latn")
    assert nllb.with_languages("eng_Latn").with_languages(target="deu_Latn").source_language == "eng_Latn"


def test_the_models_configuration_may_choose_the_target_language(hub: Hub, tmp_path: Path) -> None:
    cases = (("mbart50", "forced_bos_token_id"), ("mbart", "decoder_start_token_id"))
    for family, name in cases:
        folder = shutil.copytree(hub("fairseq", FAIRSEQ[family][0]), tmp_path / family)
        tags = import_translation_tokenizer(folder).vocabulary.languages
        fields = {"model_type": "mbart", name: tags["cs_CZ"]}
        (folder / "config.json").write_text(json.dumps(fields), encoding="utf-8")
        ours = import_translation_tokenizer(folder)
        assert (ours.source_language, ours.target_language) == (None, "cs_CZ")
        assert ours.bos_id == (tags["cs_CZ"] if family == "mbart" else None)
        (folder / "generation_config.json").write_text(json.dumps({name: tags["ro_RO"]}), encoding="utf-8")
        assert import_translation_tokenizer(folder).target_language == "ro_RO"  # as `generate` has it


@pytest.mark.parametrize("kind", ["marian", "bart", "t5", "m2m", "fairseq", "byt5", "pegasus"])
def test_a_run_keeps_the_files_and_the_choice(kind: str, hub: Hub, tmp_path: Path) -> None:
    folder = hub(kind, "MBartTokenizer") if kind == "fairseq" else hub(kind)
    imported = import_translation_tokenizer(folder)
    if imported.languages:
        imported = imported.with_languages(*imported.languages[:2])
    imported.save(tmp_path)
    again = TranslationTokenizer.load(tmp_path)
    assert isinstance(again, ImportedTranslationTokenizer)
    for name, content in imported.files.contents.items():
        assert (tmp_path / name).read_bytes() == content == (folder / name).read_bytes()
    for field in ("family", "joint", "languages", "eos_id", "bos_id", "source_end_id", "source_language"):
        assert getattr(again, field) == getattr(imported, field)
    for side in ("source", "target"):
        ours, theirs = getattr(imported, side), getattr(again, side)
        assert ours.vocab_size == theirs.vocab_size
        assert ours.encode_batch(TEXTS) == theirs.encode_batch(TEXTS)


def test_a_run_that_was_trained_here_is_loaded_as_before(tmp_path: Path) -> None:
    lines = ["ein Wort", "zwei Worte"]
    trained = TranslationTokenizer.train(lines, lines, TranslationTokenizerSettings(vocab_size=17))
    trained.save(tmp_path)
    again = TranslationTokenizer.load(tmp_path)
    assert isinstance(again, TranslationTokenizer)
    assert again.source.encode("ein Wort") == trained.source.encode("ein Wort")
    with pytest.raises(UserError, match="no tokenizer here"):
        TranslationTokenizer.load(tmp_path / "none")


def test_a_tokenizer_that_is_trained_takes_the_place_of_an_imported_one(hub: Hub, tmp_path: Path) -> None:
    import_translation_tokenizer(hub("marian", separate=False)).save(tmp_path)
    lines = ["ein Wort", "zwei Worte"]
    TranslationTokenizer.train(lines, lines, TranslationTokenizerSettings(vocab_size=17)).save(tmp_path)
    assert isinstance(TranslationTokenizer.load(tmp_path), TranslationTokenizer)


def test_a_corpus_is_encoded_with_its_tags_and_pieces_are_not_drawn(hub: Hub) -> None:
    ours = import_translation_tokenizer(hub("m2m")).with_languages("en", "ro")
    text = ParallelText(TEXTS, list(reversed(TEXTS)))
    corpus = encode_corpus(text, ours)
    assert [corpus.source[i] for i in range(len(TEXTS))] == ours.source.encode_batch(TEXTS)
    assert [corpus.target[i] for i in range(len(TEXTS))] == ours.target.encode_batch(TEXTS[::-1])
    with pytest.raises(UserError, match="sample_alpha"):
        encode_corpus(text, ours, sample_alpha=0.1)


def copied(hub: Hub, folder: Path, kind: str, name: str, content: bytes | None) -> Path:
    shutil.copytree(hub(kind), folder)
    (folder / name).unlink(missing_ok=True) if content is None else (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("kind", "name", "content", "message"),
    [
        ("marian", "vocab.json", b"[1]", "vocab.json is damaged"),
        ("marian", "vocab.json", b'{"</s>": 0}', "has no <unk>"),
        ("marian", "vocab.json", b'{"<unk>": 0}', "has no </s>"),
        ("marian", "target.spm", None, "needs target.spm"),
        ("marian", "source.spm", b"x", r"source\.spm: not a SentencePiece model"),
        ("m2m", "sentencepiece.bpe.model", None, r"needs sentencepiece\.bpe\.model"),
        ("m2m", "tokenizer_config.json", b'{"language_codes": "other"}', "neither m2m100 nor wmt21"),
        ("bart", "config.json", b'{"model_type": "bert"}', "none of the families that translate"),
        ("bart", "config.json", b"{}", "model_type not given"),
        ("t5", "spiece.model", b"", "not a SentencePiece model"),
    ],
)
def test_damage_is_named_in_one_line(
    kind: str, name: str, content: bytes | None, message: str, hub: Hub, tmp_path: Path
) -> None:
    folder = copied(hub, tmp_path / "model", kind, name, content)
    with pytest.raises(UserError, match=message) as caught:
        import_translation_tokenizer(folder)
    assert "\n" not in str(caught.value)


def test_a_multilingual_tokenizer_without_its_languages_is_refused(hub: Hub, tmp_path: Path) -> None:
    theirs = transformers.AutoTokenizer.from_pretrained(hub("fairseq", "NllbTokenizer"))
    theirs.save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    fields["added_tokens"] = [t for t in fields["added_tokens"] if t["content"] not in LANGUAGES["nllb"]]
    (tmp_path / "tokenizer.json").write_text(json.dumps(fields), encoding="utf-8")
    with pytest.raises(UserError, match="has no languages"):
        import_translation_tokenizer(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"family": "none"},
        {"vocab_sizes": [1]},
        {"vocab_sizes": ["1", 2]},
        {"checksums": ["../vocab.json"]},
        {"chosen": 3},
    ],
)
def test_a_damaged_run_is_named(change: dict[str, Any], hub: Hub, tmp_path: Path) -> None:
    import_translation_tokenizer(hub("marian")).save(tmp_path)
    path = tmp_path / "tokenizer_kind.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **change}), encoding="utf-8")
    with pytest.raises(UserError, match=r"damaged|no file of a tokenizer"):
        TranslationTokenizer.load(tmp_path)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="damaged"):
        TranslationTokenizer.load(tmp_path)


WRONG: list[Any] = [5, -1, 10**30, 1.5, True, None, "x", "", [], [1], ["x", None], [[1], [2]], {}, {"x": "y"}]


@pytest.mark.parametrize("kind", ["gpt2", "llama", "marian", "m2m", "t5"])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_strangers_file_is_read_or_refused(wrong: Any, kind: str, hub: Hub, tmp_path: Path) -> None:
    """Whatever its fields hold: what comes out is a tokenizer that encodes, or is refused."""
    folder = hub(kind)
    made = HuggingFaceTokenizer.read(folder) if kind in ("gpt2", "llama") else import_translation_tokenizer(folder)
    made.save(tmp_path)
    index = tmp_path / "tokenizer_kind.json"
    about = json.loads(index.read_text("utf-8"))
    del about["checksum"]
    said = []
    for name in {*about, "new"} - {"checksums"}:
        write_fields(index, {**about, name: wrong})
        try:
            found = Saved.load(tmp_path)
        except UserError as error:
            said.append(str(error))
            continue
        side = found.target if isinstance(found, TranslationTokenizer) else found
        assert isinstance(side, Tokenizer)
        with suppress(UserError):  # which a vocabulary may not know
            assert isinstance(side.decode(side.encode("hello")), str)
    assert all(str(tmp_path) in words for words in said), said


@pytest.mark.parametrize(
    ("names", "model", "family"),
    [
        (["source.spm", "vocab.json"], {}, "marian"),
        (["spiece.model"], {}, "t5"),
        (["spiece.model"], {"model_type": "umt5"}, "umt5"),
        (["spiece.model"], {"model_type": "mt5", "tokenizer_class": "T5Tokenizer"}, "t5"),
        (["vocab.json", "merges.txt"], {"model_type": "bart"}, "bart"),
        (["vocab.json", "sentencepiece.bpe.model"], {"model_type": "m2m_100"}, "m2m100"),
        (["sentencepiece.bpe.model"], {"model_type": "m2m_100"}, "nllb"),
        (["sentencepiece.bpe.model"], {"model_type": "mbart"}, "mbart"),
        (["sentencepiece.bpe.model"], {"model_type": "mbart", "tokenizer_class": "MBart50TokenizerFast"}, "mbart50"),
    ],
)
def test_how_a_family_is_known(names: list[str], model: dict[str, Any], family: str) -> None:
    assert family_of(TokenizerFiles(Path("model"), dict.fromkeys(names, b"{}"), model)) == family


def test_every_id_has_a_piece_and_a_language_is_called_by_its_code(hub: Hub) -> None:
    for kind, arguments, languages in (
        ("m2m", (), ("en", "ro")),
        ("fairseq", ("MBart50Tokenizer",), ("de_DE", "sl_SI")),
    ):
        ours = import_translation_tokenizer(hub(kind, *arguments)).with_languages(*languages)
        for side, language in zip((ours.source, ours.target), languages, strict=True):
            shown = [side.pieces[i] for i in side.encode("hello")]
            assert shown[0] == language
            assert "".join(shown[1:]).replace("▁", " ").strip() == "hello"
