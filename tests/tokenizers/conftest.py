"""Small tokenizers, made on the spot, in the files that downloaded models have."""

import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece as spm
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

WORDS = [
    "hund",
    "katze",
    "straße",
    "brücke",
    "groß",
    "klein",
    "laufen",
    "schlafen",
    "schnell",
    "hello",
    "world",
    "be",
    "not",
    "ein",
    "Wort",
]
WORDS += [start + stem for start in ("ver", "an", "un") for stem in ("machen", "geben", "sehen", "gang")]


def sentences(n: int) -> list[str]:
    draw = random.Random(0)
    return [" ".join(draw.choices(WORDS, k=9)) + "," for _ in range(n)]


def sentencepiece(path: Path, *, upper: bool = False, **options: Any) -> spm.SentencePieceProcessor:
    """Trains a model into the file."""
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter([line.upper() if upper else line for line in sentences(199)]),
        model_writer=model,
        minloglevel=2,
        hard_vocab_limit=options.get("model_type") == "bpe",
        **options,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.getvalue())
    return spm.SentencePieceProcessor(model_proto=model.getvalue())


def byte_level(*special: str) -> Tokenizer:
    """GPT-2's kind, with these tokens before the others."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=307, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(sentences(199), trainer)
    return tokenizer


def write_json(path: Path, fields: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(fields), encoding="utf-8")


def byte_level_files(folder: Path, *special: str) -> None:
    """vocab.json and merges.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    byte_level(*special).model.save(str(folder))


def marian_files(folder: Path, *, separate: bool = False, codes: tuple[str, ...] = ()) -> None:
    """source.spm, target.spm, and vocabularies that are in no order of theirs."""
    sides = [
        sentencepiece(folder / "source.spm", vocab_size=60, model_type="unigram"),
        sentencepiece(folder / "target.spm", vocab_size=59, model_type="bpe", upper=True),
    ]
    pieces = [[side.id_to_piece(i) for i in reversed(range(3, len(side)))] for side in sides]
    lists = pieces if separate else [[*pieces[0], *pieces[1], *codes]]
    for name, tokens in zip(("vocab.json", "target_vocab.json"), lists, strict=False):
        vocabulary = list(dict.fromkeys(["</s>", "<unk>", "<pad>", *tokens]))
        write_json(folder / name, {token: i for i, token in enumerate(vocabulary)})
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "MarianTokenizer", "separate_vocabs": separate})
    n = len(json.loads((folder / "vocab.json").read_bytes()))
    write_json(folder / "config.json", {"model_type": "marian", "vocab_size": n})


def bart_files(folder: Path) -> None:
    byte_level_files(folder, "<s>", "<pad>", "</s>", "<unk>", "<mask>")
    write_json(folder / "config.json", {"model_type": "bart", "vocab_size": 311})


def fairseq_files(folder: Path, tokenizer_class: str) -> None:
    """sentencepiece.bpe.model of an mBART, an mBART-50 or an NLLB."""
    kind = "bpe" if tokenizer_class == "NllbTokenizer" else "unigram"
    sentencepiece(folder / "sentencepiece.bpe.model", vocab_size=61, model_type=kind)
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": tokenizer_class})
    write_json(folder / "config.json", {"model_type": "m2m_100" if kind == "bpe" else "mbart"})


def m2m_files(folder: Path) -> None:
    pieces = sentencepiece(folder / "sentencepiece.bpe.model", vocab_size=61, model_type="bpe")
    others = [pieces.id_to_piece(i) for i in reversed(range(5, len(pieces)))]
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *others]
    write_json(folder / "vocab.json", {token: i for i, token in enumerate(tokens)})
    write_json(folder / "config.json", {"model_type": "m2m_100", "vocab_size": len(tokens) + 108})


def t5_files(folder: Path) -> None:
    ids = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
    sentencepiece(folder / "spiece.model", vocab_size=61, model_type="unigram", **ids)
    write_json(folder / "config.json", {"model_type": "t5", "vocab_size": 192})


def byt5_files(folder: Path) -> None:
    transformers.ByT5Tokenizer().save_pretrained(folder)
    write_json(folder / "config.json", {"model_type": "t5", "vocab_size": 384})


def pegasus_files(folder: Path) -> None:
    ids = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
    sentencepiece(folder / "spiece.model", vocab_size=61, model_type="unigram", **ids)
    write_json(folder / "config.json", {"model_type": "pegasus", "vocab_size": 61 + 103})


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """hub(function, *arguments) is a folder that the function has filled, once for all tests."""
    made: dict[tuple[Any, ...], Path] = {}

    def folder(name: str, *arguments: Any, **options: Any) -> Path:
        key = (name, arguments, tuple(sorted(options.items())))
        if key not in made:
            path = tmp_path_factory.mktemp(name)
            globals()[f"{name}_files"](path, *arguments, **options)
            made[key] = path
        return made[key]

    return folder


def gpt2_files(folder: Path) -> None:
    byte_level_files(folder, "<|endoftext|>")
    write_json(folder / "config.json", {"model_type": "gpt2", "vocab_size": 311, "eos_token_id": 0})


def opt_files(folder: Path) -> None:
    byte_level_files(folder, "<s>", "<pad>", "</s>", "<unk>")
    names = {"unk_token": "</s>", "bos_token": "</s>", "eos_token": "</s>", "pad_token": "<pad>"}
    more = {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False, "add_bos_token": True}
    write_json(folder / "tokenizer_config.json", {**names, **more})
    write_json(folder / "config.json", {"model_type": "opt", "vocab_size": 308})


def llama_files(folder: Path) -> None:
    options: dict[str, Any] = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
    sentencepiece(folder / "tokenizer.model", vocab_size=331, model_type="bpe", byte_fallback=True, **options)
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, **names})


def gemma_files(folder: Path) -> None:
    options: dict[str, Any] = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
    options |= {"pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3, "add_dummy_prefix": False}
    options |= {"pad_piece": "<pad>", "eos_piece": "<eos>", "bos_piece": "<bos>", "user_defined_symbols": ["\n"]}
    sentencepiece(folder / "tokenizer.model", vocab_size=331, model_type="bpe", byte_fallback=True, **options)
    names = {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>"}
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "GemmaTokenizer", "add_bos_token": True, **names})
