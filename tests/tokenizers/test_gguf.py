"""Tokenizers of GGUF files: the ids of transformers, of SentencePiece, and of the model's own pre-tokenizer."""

import io
import json
import random
from pathlib import Path
from typing import Any

import pytest
import sentencepiece as spm
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers.integrations.gguf import convert_gguf_tokenizer
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

from transformer_zoo.errors import UserError
from transformer_zoo.tokenizers import HuggingFaceTokenizer
from transformer_zoo.tokenizers.gguf import PRE_TOKENIZERS, read_gguf_tokenizer
from transformer_zoo.tokenizers.tokenizer import Tokenizer as AnyTokenizer

LINES = [
    "The old house costs 12345 dollars, doesn't it?  It'll be sold in 2024.", "def f(x):\n  return x[3:17] ** 2\r\n\n",
    "Der Käse für 3,50 €: größer als 1½ Äpfel!", "日本語のテキスト、한국어 и русский", "\tTabs  and   blanks \n \n",
    "I'M HERE. We'Ve GONE…",
    "a1b22c333d4444", " leading", "trailing ", "naïve coöperate  ÀÉ", "emoji 🎉🎊 and\u00a0space", "",
]  # fmt: skip
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6


def of_bytes(pre: str | None, *, special: tuple[str, ...] = ("<|end|>",), own: tuple[str, ...] = ()) -> dict[str, Any]:
    """Keys of a byte-level BPE that was learned from these lines."""
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    learned.train_from_iterator([*LINES, *LINES], trainer)
    vocabulary = learned.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    merges = json.loads(learned.to_str())["model"]["merges"]
    types = [NORMAL] * len(tokens) + [CONTROL] * len(special) + [USER_DEFINED] * len(own)
    keys = {"model": "gpt2", "pre": pre, "tokens": [*tokens, *special, *own], "token_type": types}
    keys |= {"merges": [" ".join(pair) for pair in merges], "eos_token_id": len(tokens), "bos_token_id": len(tokens)}
    return {f"tokenizer.ggml.{key}": value for key, value in keys.items() if value is not None}


def of_pieces(lines: list[str], **changes: Any) -> tuple[dict[str, Any], spm.SentencePieceProcessor]:
    """Keys of a SentencePiece model as Llama's are, and it."""
    made = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(lines * 3), model_writer=made, vocab_size=400, model_type="bpe", byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, hard_vocab_limit=False, minloglevel=2,
        **changes,
    )  # fmt: skip
    model = spm.SentencePieceProcessor(model_proto=made.getvalue())
    kinds = {"unknown": UNKNOWN, "control": CONTROL, "byte": BYTE}
    types = [
        next((n for kind, n in kinds.items() if getattr(model, f"is_{kind}")(i)), NORMAL) for i in range(len(model))
    ]
    keys = {"model": "llama", "tokens": [model.id_to_piece(i) for i in range(len(model))], "token_type": types}
    keys |= {"scores": [model.get_score(i) for i in range(len(model))], "bos_token_id": 1, "eos_token_id": 2}
    keys |= {"unknown_token_id": 0}
    return {f"tokenizer.ggml.{key}": value for key, value in keys.items()}, model


def read(keys: dict[str, Any], **model: Any) -> HuggingFaceTokenizer:
    return HuggingFaceTokenizer.of(read_gguf_tokenizer(Path("m.gguf"), keys, model))


def random_lines(n: int) -> list[str]:
    """Bits of the lines, in any order."""
    whole = "".join(LINES)
    starts = [[random.randrange(len(whole)) for _ in range(5)] for _ in range(n)]
    return ["".join(whole[i : i + random.randrange(9)] for i in row) for row in starts]


@pytest.mark.parametrize("pre", sorted(PRE_TOKENIZERS.keys() & GGUF_PRE_TOKENIZER_SPLITS.keys()))
def test_pre_tokenizers_that_transformers_knows_give_its_ids(pre: str) -> None:
    keys = of_bytes(pre)
    told = {key.removeprefix("tokenizer.ggml."): value for key, value in keys.items()}
    theirs, _ = convert_gguf_tokenizer("llama", {**told, "tokenizer_type": "gpt2", "pre_tokenizer_type": pre})
    ours = read(keys)
    for line in [*LINES, *random_lines(50)]:
        assert ours.encode(line) == theirs.encode(line, add_special_tokens=False).ids, line
        assert ours.decode(ours.encode(line)) == line


def parts_of(*steps: Any) -> Any:
    return pre_tokenizers.Sequence([*steps])


DIGITS = pre_tokenizers.Digits(individual_digits=True)
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False)


@pytest.mark.parametrize(
    ("pre", "own"), [("smollm", parts_of(DIGITS, BYTES)), ("starcoder", parts_of(DIGITS, BYTES)), ("gpt-2", BYTES)]
)
def test_the_others_cut_as_the_models_own_files_do(pre: str, own: Any) -> None:
    ours = read(of_bytes(pre)).vocabulary.tokenizer.pre_tokenizer  # type: ignore[attr-defined]
    for line in [*LINES, *random_lines(50)]:
        assert [part for part, _ in ours.pre_tokenize_str(line)] == [part for part, _ in own.pre_tokenize_str(line)]


@pytest.mark.parametrize("pre", [None, *sorted(PRE_TOKENIZERS)])
def test_every_pre_tokenizer_loses_nothing(pre: str | None) -> None:
    ours = read(of_bytes(pre))
    for line in LINES:
        assert ours.decode(ours.encode(line)) == line


def test_pieces_are_those_of_sentencepiece() -> None:
    keys, model = of_pieces(LINES)
    ours = read(keys)
    assert ours.start_ids == (1,)
    assert ours.eos_id == 2
    for line in [*LINES, *random_lines(300)]:
        assert ours.encode(line) == model.encode(line), line
        assert ours.decode(ours.encode(line)) == line


def test_pieces_without_a_blank_before_the_first_word() -> None:
    keys, model = of_pieces(LINES, add_dummy_prefix=False)
    ours = read({**keys, "tokenizer.ggml.add_space_prefix": False, "tokenizer.ggml.add_bos_token": False})
    assert ours.start_ids == ()
    for line in [*LINES, *random_lines(300)]:
        assert ours.encode(line) == model.encode(line), line
        assert ours.decode(ours.encode(line)) == line


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("eos", [False, True])
def test_what_stands_around_a_text_is_what_the_file_says(bos: bool, eos: bool, tmp_path: Path) -> None:
    for keys in (of_bytes("gpt-2"), of_pieces(LINES)[0]):
        ours = read({**keys, "tokenizer.ggml.add_bos_token": bos, "tokenizer.ggml.add_eos_token": eos})
        start, end = keys["tokenizer.ggml.bos_token_id"], keys["tokenizer.ggml.eos_token_id"]
        ours.save(tmp_path)
        for tokenizer in (ours, AnyTokenizer.load(tmp_path)):
            assert (tokenizer.start_ids, tokenizer.end_ids) == ((start,) * bos, (end,) * eos)
            assert tokenizer.encode("a b") == read(keys).encode("a b")
    assert read(of_bytes("gpt-2")).end_ids == ()


@pytest.mark.parametrize("make", [of_bytes, of_pieces])
def test_keys_that_may_change_the_ids_are_named(make: Any) -> None:
    keys = of_bytes("gpt-2") if make is of_bytes else of_pieces(LINES)[0]
    off = {"remove_extra_whitespaces": False, "precompiled_charsmap": [], "add_sep_token": False}
    harmless = {**off, "fim_pre_token_id": 3, "seperator_token_id": 4, "token_type_count": 1}
    full = {**keys, **{f"tokenizer.ggml.{key}": value for key, value in harmless.items()}}
    assert [read(full).encode(line) for line in LINES] == [read(keys).encode(line) for line in LINES]
    on = {"remove_extra_whitespaces": True, "precompiled_charsmap": [1], "add_sep_token": True, "normalizer": "NFC"}
    for key, value in on.items():
        with pytest.raises(UserError) as caught:
            read({**full, f"tokenizer.ggml.{key}": value})
        assert str(caught.value) == (f"m.gguf: tokenizer.ggml.{key} is not supported, and may change the ids of a text")


def test_scores_that_say_nothing_leave_the_order_of_the_tokens() -> None:
    keys, _ = of_pieces(LINES)
    level = {**keys, "tokenizer.ggml.scores": [0.0] * len(keys["tokenizer.ggml.scores"])}
    assert [read(level).encode(line) for line in LINES] == [read(keys).encode(line) for line in LINES]


def test_tokens_of_control_and_of_users_are_found_in_a_text(tmp_path: Path) -> None:
    keys = of_bytes("llama-bpe", special=("<|end|>", "<|user|>"), own=("<think>", "  "))
    n = keys["tokenizer.ggml.eos_token_id"]
    ours = read({**keys, "tokenizer.chat_template": "{{ x }}"}, vocab_size=n + 9)
    assert ours.start_ids == (n,)
    assert ours.vocab_size == n + 9  # as the model has
    assert ours.encode("<|user|><think>  <|end|>") == [n + 1, n + 2, n + 3, n]
    assert ours.decode([n + 1, n + 2, n + 3, n]) == "<think>  "  # control tokens are not text
    assert ours.files.contents["chat_template.jinja"] == b"{{ x }}"
    ours.save(tmp_path)
    again = AnyTokenizer.load(tmp_path)
    assert again.encode("<|user|> 1234567") == ours.encode("<|user|> 1234567")


def test_a_word_that_is_a_token_is_not_merged() -> None:
    keys = of_bytes("llama-bpe")
    keys["tokenizer.ggml.merges"] = []
    word = keys["tokenizer.ggml.tokens"].index("Ġold")
    assert read(keys).encode("it old")[-1] == word
    assert read({**keys, "tokenizer.ggml.pre": "gpt-2"}).encode("it old")[-1] != word


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({}, "its tokenizer is None; only gpt2 and llama are read"),
        ({"model": "t5", "tokens": ["a"]}, "its tokenizer is 't5'"),
        ({**of_bytes("gpt-5")}, "its pre-tokenizer is 'gpt-5', which is not known; default, gpt-2, "),
        ({"model": "gpt2", "tokens": ["a", "b"], "token_type": [1]}, "its tokens are not each there once"),
        ({"model": "gpt2", "tokens": ["a", "a"]}, "its tokens are not each there once"),
        ({"model": "gpt2", "tokens": ["a", "b"], "merges": ["a x"]}, "its tokenizer is damaged"),
        ({"model": "gpt2", "tokens": ["a", "b"], "bos_token_id": 7}, "its tokenizer is damaged"),
        ({"model": "llama", "tokens": ["a", "b"]}, "its tokenizer is damaged"),
        ({"model": "llama", "tokens": ["a", "b"], "scores": [1.0]}, "its tokenizer is damaged"),
    ],
)
def test_what_is_wrong_with_it_is_named(keys: dict[str, Any], said: str) -> None:
    full = {key if "." in key else f"tokenizer.ggml.{key}": value for key, value in keys.items()}
    with pytest.raises(UserError) as caught:
        read(full)
    assert str(caught.value).startswith(f"m.gguf: {said}")


def test_tokens_of_phi_3_take_the_blanks_that_follow() -> None:
    keys, _ = of_pieces(LINES, user_defined_symbols=["<|user|>", "<|end|>", "<|endoftext|>"])
    tokens = keys["tokenizer.ggml.tokens"]
    own = [tokens.index(token) for token in ("<|user|>", "<|end|>", "<|endoftext|>")]
    for i in own:
        keys["tokenizer.ggml.token_type"][i] = CONTROL
    phi = read({**keys, "general.architecture": "phi3"})
    assert phi.encode("<|user|>\n red<|end|>\n") == [own[0], *phi.encode("red"), own[1]]
    assert phi.encode("<|endoftext|>\n") == [own[2], *phi.encode("\n")]
    assert read({**keys, "general.architecture": "llama"}).encode("<|end|>\n") == [own[1], *phi.encode("\n")]
