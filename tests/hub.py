"""Tiny models as they lie on the Hugging Face hub: random weights by transformers, vocabularies trained on the spot."""

import io
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sentencepiece as spm
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from transformer_zoo.tokenizers.families import LANGUAGES

transformers.logging.disable_progress_bar()
WORDS = {
    "red": "rot", "green": "grün", "blue": "blau", "cat": "Katze", "dog": "Hund", "a": "ein", "old": "alt",
    "house": "Haus", "water": "Wasser", "seven": "sieben", "and": "und", "sees": "sieht",
}  # fmt: skip
SIZE = {"d_model": 24, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 3}
SIZE |= {"decoder_attention_heads": 3, "encoder_ffn_dim": 29, "decoder_ffn_dim": 31, "max_position_embeddings": 64}
STILL = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}


def pairs(n: int, seed: int) -> tuple[list[str], list[str]]:
    """Sentences of both languages, word for word."""
    draw = random.Random(seed)
    lines = [draw.choices(list(WORDS), k=draw.randint(2, 7)) for _ in range(n)]
    return [" ".join(words) for words in lines], [" ".join(WORDS[word] for word in words) for words in lines]


def write_pairs(folder: Path, name: str, n: int, seed: int) -> dict[str, str]:
    """Both sides as files, and their names."""
    sides = dict(zip(("en", "de"), pairs(n, seed), strict=True))
    for side, lines in sides.items():
        (folder / f"{name}.{side}").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return {"source": str(folder / f"{name}.en"), "target": str(folder / f"{name}.de")}


def train_pieces(
    path: Path, lines: Sequence[str], vocab_size: int, kind: str = "unigram"
) -> spm.SentencePieceProcessor:
    """A SentencePiece model of at most `vocab_size` pieces in the file."""
    made = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=made, vocab_size=vocab_size, model_type=kind,
        hard_vocab_limit=kind == "bpe", minloglevel=2,
    )  # fmt: skip
    path.write_bytes(made.getvalue())
    return spm.SentencePieceProcessor(model_proto=made.getvalue())


def write_json(path: Path, fields: Any) -> None:
    path.write_text(json.dumps(fields), encoding="utf-8")


def save(model: Any, folder: Path) -> Any:
    """The model with its weights three times as large, so that probabilities are not all alike, as saved."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    model.save_pretrained(folder)
    return type(model).from_pretrained(folder).eval()


def marian(folder: Path, codes: Sequence[str] = (), **fields: Any) -> Any:
    """An OPUS-MT: two SentencePiece models for one vocabulary, whose last id is pad; `codes` are languages' tags."""
    folder.mkdir(parents=True, exist_ok=True)
    english, german = pairs(200, 0)
    sides = [train_pieces(folder / "source.spm", english, 53), train_pieces(folder / "target.spm", german, 59)]
    pieces = dict.fromkeys(side.id_to_piece(i) for side in sides for i in range(3, len(side)))
    vocabulary = {token: i for i, token in enumerate(["</s>", "<unk>", *pieces, *codes, "<pad>"])}
    pad = len(vocabulary) - 1
    write_json(folder / "vocab.json", vocabulary)
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "MarianTokenizer", "source_lang": "en"})
    ids = {"pad_token_id": pad, "eos_token_id": 0, "decoder_start_token_id": pad, "bad_words_ids": [[pad]]}
    shape = {"activation_function": "swish", "scale_embedding": True, "num_beams": 6, "forced_eos_token_id": 0}
    torch.manual_seed(0)
    config = transformers.MarianConfig(vocab_size=len(vocabulary), **{**SIZE, **STILL, **ids, **shape, **fields})
    model = transformers.MarianMTModel(config)
    model.model.shared.weight.data[pad] = 0
    model.final_logits_bias[0, [0, pad]] = torch.tensor([3.0, -50.0])  # sentences end, and are not padding
    return save(model, folder)


def nllb(folder: Path, **fields: Any) -> Any:
    """An NLLB, with all of its languages."""
    folder.mkdir(parents=True, exist_ok=True)
    english, german = pairs(200, 0)
    train_pieces(folder / "sentencepiece.bpe.model", [*english, *german], 67, "bpe")
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "NllbTokenizer"})
    languages = {"src_lang": "eng_Latn", "extra_special_tokens": list(LANGUAGES["nllb"])}
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **languages)
    tokenizer.save_pretrained(folder)  # with a tokenizer.json
    size = len(tokenizer)
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2}
    torch.manual_seed(0)
    config = transformers.M2M100Config(
        vocab_size=size, scale_embedding=True, **{**SIZE, **STILL, **ids, **fields},
        encoder_layerdrop=0.0, decoder_layerdrop=0.0,
    )  # fmt: skip
    model = transformers.M2M100ForConditionalGeneration(config)
    with torch.no_grad():  # a tag is hardly ever the most likely token
        model.model.shared.weight[tokenizer.convert_tokens_to_ids(list(LANGUAGES["nllb"]))] *= 0.3
    return save(model, folder)


def byte_level(folder: Path, lines: Sequence[str], *special: str) -> int:
    """vocab.json and merges.txt; returns the number of tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=307, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.model.save(str(folder))
    return int(tokenizer.get_vocab_size())


def bart(folder: Path, **fields: Any) -> Any:
    """A BART."""
    folder.mkdir(parents=True, exist_ok=True)
    english, german = pairs(200, 0)
    size = byte_level(folder, [*english, *german], "<s>", "<pad>", "</s>", "<unk>", "<mask>")
    torch.manual_seed(0)
    config = transformers.BartConfig(vocab_size=size, **{**SIZE, **STILL, **fields})
    return save(transformers.BartForConditionalGeneration(config), folder)


def gpt2(folder: Path, **fields: Any) -> Any:
    """A GPT-2."""
    folder.mkdir(parents=True, exist_ok=True)
    n = byte_level(folder, pairs(200, 0)[0], "<|endoftext|>")
    still = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    shape = {"n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 64, "bos_token_id": 0, "eos_token_id": 0}
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=n, **{**shape, **still, **fields})
    return save(transformers.GPT2LMHeadModel(config), folder)


def labels(folder: Path) -> None:
    """A DistilBERT with labels of texts, with a list of words only."""
    word_pieces(folder)
    labels = {0: "NEGATIVE", 1: "POSITIVE"}
    config = transformers.DistilBertConfig(vocab_size=30, dim=24, n_layers=2, n_heads=3, hidden_dim=31, id2label=labels)
    save(transformers.DistilBertForSequenceClassification(config), folder)


def word_pieces(folder: Path) -> None:
    """A list of words."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = ["the", "train", "leaves", "un", "##aff", "##able", "at", "nine", ".", ",", "cafe", "##s", "or", "to", "be"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in (*special, *words)), "utf-8")


def sentences(folder: Path) -> None:
    """A sentence-transformers model as that program writes it: a BERT without a head, with a list of words only."""
    word_pieces(folder)
    config = transformers.BertConfig(
        vocab_size=30, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=31,
        max_position_embeddings=19,
    )  # fmt: skip
    save(transformers.BertModel(config), folder)
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    types = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in modules]
    write_json(folder / "modules.json", [{"idx": i, "name": str(i), **one} for i, one in enumerate(types)])
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 9, "do_lower_case": False})
    modes = dict.fromkeys(("cls_token", "max_tokens", "mean_sqrt_len_tokens"), False) | {"mean_tokens": True}
    (folder / "1_Pooling").mkdir()
    fields = {f"pooling_mode_{name}": on for name, on in modes.items()}
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 24, **fields})
