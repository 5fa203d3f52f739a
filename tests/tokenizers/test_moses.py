"""FSMT's tokenizer: the ids and the text of transformers' FSMTTokenizer, in both directions."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from tests import hub
from transformer_zoo.cli import main
from transformer_zoo.errors import UserError
from transformer_zoo.runs.load import load_translation_run
from transformer_zoo.tokenizers import import_translation_tokenizer
from transformer_zoo.tokenizers.imported import ImportedTranslationTokenizer
from transformer_zoo.tokenizers.saved import Saved

ENGLISH, GERMAN = hub.pairs(300, 0)
TEXTS = [
    *ENGLISH[:40], *GERMAN[:40], "", " ", "Machine learning is great, isn't it?", "A--B ... C . D",
    "Mr. Smith paid $1,234.56 (twice!) at 3 p.m.", 'He said: "It\'s a \u201ctest\u201d", didn\u2019t he\u2026',
    "well-known x-ray e.g. U.S.A. & <b>bold</b> | [a] 50 %", "https://example.org/a?b=c&d=e f@g.de",
    "größer, 漢字。かな １２３ 🎉 ¿qué?", "tab\tand\u00a0blank\u200b end.", "L'été n'est pas là ; voilà : « non »",
    "I'll can't we're o'clock '90s dogs'", "1. erstens 2) zweitens Nr. 5 z.B. bzw. usw.", "</s> <unk> &amp; &lt;",
]  # fmt: skip


@pytest.fixture(scope="module")
def moses() -> Any:
    return pytest.importorskip("sacremoses", reason="the extra `moses` is not installed")


def write_files(folder: Path, moses: Any, *, joint: bool) -> None:
    """merges.txt of both sides' words, and the vocabulary of each side, or of both, without its rarest pieces."""
    folder.mkdir(exist_ok=True)
    cut = {lang: moses.MosesTokenizer(lang=lang) for lang in ("en", "de")}
    words = {
        lang: [" ".join(cut[lang].tokenize(line, aggressive_dash_splits=True)) for line in [*lines, *TEXTS]]
        for lang, lines in (("en", ENGLISH), ("de", GERMAN))
    }
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(vocab_size=400, end_of_word_suffix="</w>", show_progress=False)
    bpe.train_from_iterator([*words["en"], *words["de"]], trainer)
    merges = json.loads(bpe.to_str())["model"]["merges"]
    (folder / "merges.txt").write_text("".join(f"{' '.join(pair)} 7\n" for pair in merges), "utf-8")
    for side, lang in (("src", "en"), ("tgt", "de")):
        lines = [*words["en"], *words["de"]] if joint else words[lang]
        pieces = sorted({piece for line in lines for piece in bpe.encode(line).tokens})[3:]
        numbered = enumerate(["<s>", "<pad>", "</s>", "<unk>", *pieces])
        hub.write_json(folder / f"vocab-{side}.json", {piece: i for i, piece in numbered})
    hub.write_json(folder / "tokenizer_config.json", {"langs": ["en", "de"], "tokenizer_class": "FSMTTokenizer"})
    sizes = {
        f"{side}_vocab_size": len(json.loads((folder / f"vocab-{side}.json").read_text())) for side in ("src", "tgt")
    }
    hub.write_json(folder / "config.json", {"model_type": "fsmt", **sizes})


def their_tokenizer(folder: Path, *, back: bool = False) -> Any:
    """The tokenizer of the folder, or of the same files in the other direction: it reads what this one writes."""
    names = ("tgt", "src") if back else ("src", "tgt")
    files = {
        f"{side}_vocab_file": str(folder / f"vocab-{of}.json") for side, of in zip(("src", "tgt"), names, strict=True)
    }
    langs = ["de", "en"] if back else ["en", "de"]
    return transformers.FSMTTokenizer(langs=langs, merges_file=str(folder / "merges.txt"), **files)


@pytest.mark.parametrize("joint", [True, False])
def test_ids_and_text_of_transformers(joint: bool, moses: Any, tmp_path: Path) -> None:
    write_files(tmp_path, moses, joint=joint)
    ours = import_translation_tokenizer(tmp_path)
    assert (ours.family, ours.joint) == ("fsmt", joint)
    assert (ours.language_of_source, ours.language_of_target) == ("en", "de")
    theirs, back = their_tokenizer(tmp_path), their_tokenizer(tmp_path, back=True)
    unknown = 0
    for text in TEXTS[:-1]:
        source, target = ours.source.encode(text), ours.target.encode(text)
        assert [*source, ours.eos_id] == theirs(text)["input_ids"], text
        assert [*target, ours.eos_id] == back(text)["input_ids"], text
        assert ours.target.decode([*target, 2, 1]) == theirs.decode(target, skip_special_tokens=True), text
        unknown += source.count(3)
    assert unknown  # which both have
    assert 2 not in ours.source.encode(TEXTS[-1])  # special tokens that are written are text


def test_a_run_keeps_it_and_it_goes_out_again(moses: Any, tmp_path: Path) -> None:
    write_files(tmp_path / "theirs", moses, joint=False)
    sizes = json.loads((tmp_path / "theirs" / "config.json").read_text())
    shape = {**hub.SIZE, **hub.STILL, "langs": ["en", "de"], "tie_word_embeddings": False}
    config = transformers.FSMTConfig(**{**sizes, **shape})
    transformers.FSMTForConditionalGeneration(config).save_pretrained(tmp_path / "theirs")
    assert main(["import", str(tmp_path / "theirs"), str(tmp_path / "run")]) == 0
    run = load_translation_run(tmp_path / "run")
    assert isinstance(run.tokenizer, ImportedTranslationTokenizer)
    ids = their_tokenizer(tmp_path / "theirs")(TEXTS[2])["input_ids"]
    assert [*run.tokenizer.source.encode(TEXTS[2]), run.tokenizer.eos_id] == ids
    assert isinstance(Saved.load(tmp_path / "run" / "tokenizer"), ImportedTranslationTokenizer)
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "out")]) == 0
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert type(again).__name__ == "FSMTTokenizer"
    assert again(TEXTS[2])["input_ids"] == ids
    assert (
        transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out").config.tgt_vocab_size
        == sizes["tgt_vocab_size"]
    )


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("vocab-src.json", "vocab-tgt.json"):
        hub.write_json(tmp_path / name, {"<unk>": 3, "</s>": 2})
    (tmp_path / "merges.txt").write_text("a b 3\n")
    hub.write_json(tmp_path / "tokenizer_config.json", {"tokenizer_class": "FSMTTokenizer", "langs": ["en", "de"]})
    monkeypatch.setitem(sys.modules, "sacremoses", None)
    with pytest.raises(UserError, match=r"Moses' rules, which a package has: pip install 'transformer-zoo\[moses\]'"):
        import_translation_tokenizer(tmp_path)


@pytest.mark.parametrize("langs", [None, ["en"], "en", ["en", 3]])
def test_two_languages_are_needed(langs: Any, tmp_path: Path) -> None:
    hub.write_json(tmp_path / "tokenizer_config.json", {"tokenizer_class": "FSMTTokenizer", "langs": langs})
    with pytest.raises(UserError, match=r"langs of tokenizer_config\.json is .*, expected two languages"):
        import_translation_tokenizer(tmp_path)
