"""`transformer-zoo import` and `export`: whole folders or none, the same results before and after."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from sentencepiece import SentencePieceProcessor
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig

import transformer_zoo as tz
from tests import gguf_files
from tests.flat import beam_search, generate
from transformer_zoo.checksums import read_fields, write_fields
from transformer_zoo.cli import main
from transformer_zoo.data import ParallelText, collate, encode_corpus
from transformer_zoo.models import DecoderOnly, EncoderDecoder
from transformer_zoo.runs.load import EncoderRun, Run, TextRun, save_run
from transformer_zoo.tokenizers import CharacterTokenizer, TranslationTokenizer, TranslationTokenizerSettings
from transformer_zoo.tokenizers.imported import ImportedTranslationTokenizer
from transformer_zoo.training.tasks.objectives import TranslationObjective
from transformer_zoo.training.tasks.translation import special_ids
from transformer_zoo.zoo.ctranslate2.said import ACTIVATIONS
from transformer_zoo.zoo.huggingface.common import DRAWN, FOLLOWED, TEXT_STAYS, WRITTEN_WITHOUT
from transformer_zoo.zoo.huggingface.generation import drawn_by, written_without

from .. import hub

LINES, REFERENCES = hub.pairs(7, 5)
Models = dict[str, tuple[Path, Any]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """Folders as they are downloaded, and what transformers makes of them."""
    folder = tmp_path_factory.mktemp("hub")
    makers = (hub.marian, hub.nllb, hub.bart, hub.gpt2)
    return {make.__name__: (folder / make.__name__, make(folder / make.__name__)) for make in makers}


@pytest.fixture(scope="module")
def runs(models: Models, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same as runs."""
    folder = tmp_path_factory.mktemp("runs")
    for name, (downloaded, _) in models.items():
        languages = ["--source-lang", "eng_Latn", "--target-lang", "deu_Latn"] if name == "nllb" else []
        assert main(["import", str(downloaded), str(folder / name), *languages]) == 0
    return {name: folder / name for name in models}


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "lines.en"
    path.write_text("".join(line + "\n" for line in LINES), encoding="utf-8")
    (tmp_path / "lines.de").write_text("".join(line + "\n" for line in REFERENCES), encoding="utf-8")
    return path


def translated(run: Path, text: Path, *words: str) -> list[str]:
    out = text.with_name("out")
    options = ["--beam", "1", "--max-extra", "9", *words]
    assert main(["translate", str(run), "--input", str(text), "--output", str(out), *options]) == 0
    return out.read_text("utf-8").splitlines()


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
@pytest.mark.parametrize("name", ["marian", "nllb", "bart"])
def test_an_imported_run_translates_as_transformers_does(
    name: str, models: Models, runs: dict[str, Path], text: Path
) -> None:
    folder, theirs = models[name]
    languages = {"src_lang": "eng_Latn", "tgt_lang": "deu_Latn"} if name == "nllb" else {}
    tokenizer = AutoTokenizer.from_pretrained(folder, **languages)
    first = {"nllb": tokenizer.convert_tokens_to_ids("deu_Latn"), "bart": 0, "marian": None}[name]
    wanted = []
    for line in LINES:
        ids = tokenizer(line, return_tensors="pt")["input_ids"]
        how = {"num_beams": 1, "do_sample": False, "max_new_tokens": ids.size(1) + 9}
        [found] = theirs.generate(input_ids=ids, forced_bos_token_id=first, **how)
        wanted.append(tokenizer.decode(found, skip_special_tokens=True).strip())
    assert translated(runs[name], text) == wanted
    assert any(wanted)


def test_a_run_says_what_was_imported(models: Models, runs: dict[str, Path]) -> None:
    recipe = yaml.safe_load((runs["nllb"] / "config.yaml").read_text())
    data = {"source_lang": "eng_Latn", "target_lang": "deu_Latn"}
    assert recipe == {"imported": str(models["nllb"][0]), "data": data}
    loaded = tz.load_run(runs["nllb"])
    assert isinstance(loaded, Run)
    assert loaded.max_source_tokens == 64
    assert yaml.safe_load((runs["gpt2"] / "config.yaml").read_text())["data"] == {}


def test_the_type_of_the_weights(models: Models, tmp_path: Path) -> None:
    assert main(["import", str(models["gpt2"][0]), str(tmp_path / "run"), "--dtype", "bfloat16"]) == 0
    with safe_open(tmp_path / "run" / "model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.bfloat16}  # noqa: SIM118
    assert {p.dtype for p in tz.load_run(tmp_path / "run").model.parameters()} == {torch.float32}


@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
def test_rules_that_nothing_here_follows_are_named(
    file: str, models: Models, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(models["marian"][0], tmp_path / "hub")
    if file == "config.json":  # of before there was the other
        (folder / "generation_config.json").unlink()
    fields = json.loads((folder / file).read_text())
    pad = [fields["pad_token_id"]]
    rules = {"encoder_no_repeat_ngram_size": 3, "typical_p": 0.9, "no_repeat_ngram_size": 3, "suppress_tokens": []}
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"bad_words_ids": [pad]}, []),
        (rules, ["encoder_no_repeat_ngram_size 3, typical_p 0.9"]),
        ({"bad_words_ids": [pad, [3, 5]]}, ["bad_words_ids [[3, 5]]"]),
        ({"bad_words_ids": None, "suppress_tokens": [4]}, []),
    ]
    for number, (more, named) in enumerate(cases):
        (folder / file).write_text(json.dumps(fields | more))
        assert main(["import", str(folder), str(tmp_path / f"run{number}")]) == 0
        said = [line for line in capsys.readouterr().out.splitlines()[1:] if line.endswith("here it writes without")]
        assert [line.partition(" with ")[2].partition(";")[0] for line in said] == named


NEUTRAL: dict[str, Any] = {**WRITTEN_WITHOUT, **DRAWN}


def test_every_field_of_their_generation_is_followed_or_named(models: Models, tmp_path: Path) -> None:
    folder = shutil.copytree(models["gpt2"][0], tmp_path / "hub")
    config = folder / "generation_config.json"
    fields = json.loads(config.read_text())
    theirs = {name for name in vars(GenerationConfig()) if name[0] != "_"} - {"transformers_version"}
    silent = theirs & {*TEXT_STAYS, "use_cache", "output_attentions", "output_hidden_states", "output_scores"}
    assert theirs - silent == (theirs & {*DRAWN, *WRITTEN_WITHOUT}) | {*FOLLOWED}
    for name in [*sorted(theirs - {*FOLLOWED}), "not_there_yet"]:
        value = 7 if NEUTRAL.get(name) is None else NEUTRAL[name] + 0.5
        config.write_text(json.dumps({**fields, "do_sample": True, name: value}))
        named = {**written_without(folder), **drawn_by(folder)[0]}
        assert (name in named) == (name not in silent), name
    config.write_text(json.dumps({**fields, **{name: NEUTRAL[name] for name in NEUTRAL}}))
    assert not written_without(folder)
    assert not drawn_by(folder)[0]


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
def test_the_options_that_import_names_write_as_transformers_does(
    models: Models, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(models["marian"][0], tmp_path / "hub")
    config = folder / "generation_config.json"
    own = {"num_beams": 4, "early_stopping": "never", "max_length": 12}
    config.write_text(json.dumps({**json.loads(config.read_text()), **own}))
    assert main(["import", str(folder), str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert "num_beams 4, early_stopping 'never', max_length 12; here" in said
    options = said.partition("which say ")[2].split()
    assert options == ["--beam", "4", "--penalty", "length", "--length-penalty", "1.0"]
    tokenizer, theirs = AutoTokenizer.from_pretrained(folder), AutoModelForSeq2SeqLM.from_pretrained(folder)
    wanted = []
    for line in LINES:
        ids = tokenizer(line, return_tensors="pt")["input_ids"]
        [found] = theirs.generate(input_ids=ids, max_new_tokens=ids.size(1) + 9)
        wanted.append(tokenizer.decode(found, skip_special_tokens=True).strip())
    assert translated(tmp_path / "run", text, *options) == wanted


def test_a_model_that_draws_says_with_what(models: Models, tmp_path: Path) -> None:
    folder = shutil.copytree(models["gpt2"][0], tmp_path / "hub")
    config = folder / "generation_config.json"
    config.write_text(json.dumps({"do_sample": True, "top_p": 0.9, "top_k": 40, "max_new_tokens": 9}))
    own, options = drawn_by(folder)
    assert own == {"do_sample": True, "top_k": 40, "top_p": 0.9, "max_new_tokens": 9}
    assert options == "--temperature 1.0 --top-k 40 --top-p 0.9 --max-new-tokens 9"
    defaults = GenerationConfig._get_default_generation_params()
    for given, said in (({}, f"--temperature 1.0 --top-k {defaults['top_k']}"), ({"top_k": 0}, "--temperature 1.0")):
        config.write_text(json.dumps({"do_sample": True, **given}))
        assert drawn_by(folder) == ({"do_sample": True}, said)
    config.write_text(json.dumps({"do_sample": False, "top_p": 0.9}))
    assert drawn_by(folder) == ({"do_sample": False}, "--temperature 0")
    assert main(["import", str(folder), str(tmp_path / "run")]) == 0
    assert main(["generate", str(tmp_path / "run"), "--prompt", "a", *options.split()]) == 0


def test_languages_of_a_multilingual_run(
    models: Models, runs: dict[str, Path], text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    german = translated(runs["nllb"], text)
    assert translated(runs["nllb"], text, "--target-lang", "deu_Latn") == german
    assert translated(runs["nllb"], text, "--target-lang", "fra_Latn") != german
    assert translated(runs["nllb"], text, "--source-lang", "fra_Latn") != german
    assert main(["import", str(models["nllb"][0]), str(tmp_path / "open")]) == 0
    both = ("--source-lang", "eng_Latn", "--target-lang", "deu_Latn")
    assert translated(tmp_path / "open", text, *both) == german
    files = {"--source": str(text), "--target": str(text.with_suffix(".de"))}
    scores = []
    for words in ([], ["--target-lang", "fra_Latn"]):
        assert main(["score", str(runs["nllb"]), *(w for pair in files.items() for w in pair), *words]) == 0
        scores.append(capsys.readouterr().out)
    assert scores[0] != scores[1]
    files["--reference"] = files.pop("--target")
    how = ["--beam", "1", "--max-extra", "9", "--target-lang", "fra_Latn"]
    assert main(["evaluate", str(runs["nllb"]), *(w for pair in files.items() for w in pair), *how]) == 0
    french = translated(runs["nllb"], text, "--target-lang", "fra_Latn")
    assert (runs["nllb"] / "evaluation" / "lines.en.hyp").read_text("utf-8").splitlines() == french


def test_a_gpt_writes_as_transformers_does(
    models: Models, runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, theirs = models["gpt2"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("a red cat", return_tensors="pt")["input_ids"]
    [wanted] = theirs.generate(input_ids=ids, do_sample=False, max_new_tokens=11)
    options = ["--prompt", "a red cat", "--temperature", "0", "--max-new-tokens", "11"]
    assert main(["generate", str(runs["gpt2"]), *options]) == 0
    assert capsys.readouterr().out == tokenizer.decode(wanted, skip_special_tokens=True) + "\n"


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
@pytest.mark.parametrize("name", ["marian", "nllb", "bart", "gpt2"])
def test_an_exported_run_is_the_same_in_transformers(
    name: str, models: Models, runs: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "deep" / "out"
    assert main(["export", str(runs[name]), str(out)]) == 0
    assert not out.with_name("out.part").exists()
    kind = AutoModelForCausalLM if name == "gpt2" else AutoModelForSeq2SeqLM
    theirs, again = models[name][1], kind.from_pretrained(out).eval()
    ids = AutoTokenizer.from_pretrained(models[name][0])(LINES[0], return_tensors="pt")["input_ids"]
    assert AutoTokenizer.from_pretrained(out)(LINES[0])["input_ids"] == ids[0].tolist()
    given = {"input_ids": ids} if name == "gpt2" else {"input_ids": ids, "decoder_input_ids": ids.flip(1)}
    with torch.no_grad():
        torch.testing.assert_close(again(**given).logits, theirs(**given).logits, atol=1e-4, rtol=0)
    if name == "gpt2":
        assert again.config.embd_pdrop == theirs.config.embd_pdrop == 0.0
    elif name != "marian":  # which has no such token
        assert again.config.bos_token_id == again.generation_config.bos_token_id == theirs.config.bos_token_id == 0


@pytest.mark.parametrize("pad", [None, "<|pad|>"])
def test_an_exported_gpt_has_the_pad_of_its_tokenizer(pad: str | None, models: Models, tmp_path: Path) -> None:
    folder = shutil.copytree(models["gpt2"][0], tmp_path / "hub")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if pad is not None:
        tokenizer.add_special_tokens({"pad_token": pad})
    tokenizer.save_pretrained(folder)
    wide = models["gpt2"][1].from_pretrained(folder)
    wide.resize_token_embeddings(len(tokenizer))
    wide.config.pad_token_id = tokenizer.pad_token_id
    wide.save_pretrained(folder)
    assert main(["import", str(folder), str(tmp_path / "run")]) == 0
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "out")]) == 0
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert again.config.pad_token_id == again.generation_config.pad_token_id == tokenizer.pad_token_id


@pytest.mark.parametrize("name", ["nllb", "bart"])
def test_an_exported_run_starts_in_the_chosen_language(name: str, models: Models, tmp_path: Path) -> None:
    chosen = ("fra_Latn", "deu_Latn") if name == "nllb" else (None, None)
    options = ["--source-lang", "fra_Latn", "--target-lang", "deu_Latn"] if name == "nllb" else []
    assert main(["import", str(models[name][0]), str(tmp_path / "run"), *options]) == 0
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "out")]) == 0
    ours, tokenizer = tz.load_run(tmp_path / "run"), AutoTokenizer.from_pretrained(tmp_path / "out")
    assert isinstance(ours, Run)
    ids = tokenizer(LINES[0], return_tensors="pt")["input_ids"]
    assert ids[0].tolist() == [*ours.tokenizer.source.encode(LINES[0]), ours.model.config.eos_id]
    found = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out").generate(input_ids=ids, max_new_tokens=3)
    assert found[0, :2].tolist() == [ours.model.config.bos_id, ours.tokenizer.target.encode("")[0]]
    assert main(["import", str(tmp_path / "out"), str(tmp_path / "again")]) == 0
    again = tz.load_run(tmp_path / "again")
    assert isinstance(again, Run)
    assert isinstance(again.tokenizer, ImportedTranslationTokenizer)
    assert (again.tokenizer.source_language, again.tokenizer.target_language) == chosen


def test_an_exported_marian_is_told_its_language_by_each_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.marian(tmp_path / "hub", codes=(">>deu<<", ">>fra<<"))
    for words in ([], ["--target-lang", "deu"]):
        run, out = tmp_path / f"run{len(words)}", tmp_path / f"out{len(words)}"
        assert main(["import", str(tmp_path / "hub"), str(run), *words]) == 0
        capsys.readouterr()
        assert main(["export", str(run), str(out)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [">>deu<<" in line for line in lines] == ([False, True] if words else [False])


def teach(run: Run, folder: Path) -> Path:
    """The run in a folder after a short training: its translations end, and differ from each other."""
    special = special_ids(run.model.config)
    corpus = encode_corpus(ParallelText(*hub.pairs(200, 0)), run.tokenizer)
    objective, adam = TranslationObjective(run.model), torch.optim.Adam(run.model.parameters(), lr=0.01)
    draw = np.random.default_rng(0)
    for _ in range(60):
        batch = collate(corpus, draw.permutation(200)[:40], special)
        (objective(batch)[0] / batch.n_tokens).backward()
        adam.step()
        adam.zero_grad()
    folder.mkdir()
    save_run(run, folder, {})
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Marian as our recipe makes it: pad is its first id, and its targets start with it."""
    english, german = hub.pairs(200, 0)
    tokenizer = TranslationTokenizer.train(english, german, TranslationTokenizerSettings(vocab_size=61))
    shape = {"d_model": 24, "n_heads": 3, "d_ff": 29, "n_encoder_layers": 1, "n_decoder_layers": 1, "dropout": 0.0}
    torch.manual_seed(0)
    model = tz.create_model("opus-mt", vocab_size=61, pad_id=0, bos_id=0, eos_id=3, forced_last_id=3, **shape)
    assert isinstance(model, EncoderDecoder)
    return teach(Run(model, tokenizer, {}, 64), tmp_path_factory.mktemp("trained") / "run")


@pytest.fixture(scope="module")
def tuned(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Marian that was imported: pad is its last id."""
    run = tz.load_run(runs["marian"])
    assert isinstance(run, Run)
    return teach(run, tmp_path_factory.mktemp("tuned") / "run")


@pytest.mark.parametrize("beam", [1, 4])
@pytest.mark.parametrize("which", ["trained", "tuned"])
def test_ctranslate2_translates_as_we_do(which: str, beam: int, trained: Path, tuned: Path, tmp_path: Path) -> None:
    run = trained if which == "trained" else tuned
    assert main(["export", str(run), str(tmp_path / "out"), "--format", "ctranslate2"]) == 0
    assert main(["export", str(run), str(tmp_path / "names")]) == 0
    names = {i: token for token, i in json.loads((tmp_path / "names" / "vocab.json").read_text()).items()}
    loaded = tz.load_run(run)
    assert isinstance(loaded, Run)
    translator, config = ctranslate2.Translator(str(tmp_path / "out")), loaded.model.config
    rule: dict[str, Any] = {"beam": beam, "length_penalty": 1.0, "penalty": "length", "max_extra": 20}
    lengths = set()
    for ids in loaded.tokenizer.source.encode_batch(LINES):
        pieces = [names[i] for i in [*ids, config.eos_id]]
        how = {"beam_size": beam, "length_penalty": 1.0, "max_decoding_length": len(pieces) + 19, "patience": 3.0}
        [theirs] = translator.translate_batch([pieces], **how)
        [[ours]] = beam_search(loaded.model, torch.tensor([[*ids, config.eos_id]]), **rule)
        assert theirs.hypotheses[0] == [names[i] for i in ours.tokens]
        lengths.add(len(ours.tokens))
    assert len(lengths) > 1


@pytest.mark.parametrize("format", ["huggingface", "ctranslate2"])
def test_the_models_of_the_sides_lie_beside_the_export(format: str, trained: Path, tmp_path: Path) -> None:
    assert main(["export", str(trained), str(tmp_path / "out"), "--format", format]) == 0
    tokenizer = tz.load_run(trained).tokenizer
    assert isinstance(tokenizer, TranslationTokenizer)
    for name, side in {"source": tokenizer.source, "target": tokenizer.target}.items():
        theirs = SentencePieceProcessor(model_file=str(tmp_path / "out" / f"{name}.spm"))
        for line in [*LINES, *REFERENCES, "½ ﬁ\u3000Ｆ", "▁ ▅"]:
            ids = side.encode(line)
            assert (theirs.encode(line), theirs.decode(ids)) == (ids, side.decode(ids))


def test_ctranslate2_of_a_gpt_and_in_eight_bits(models: Models, runs: dict[str, Path], tmp_path: Path) -> None:
    for name, words in (("whole", []), ("small", ["--quantization", "int8"])):
        command = ["export", str(runs["gpt2"]), str(tmp_path / name), "--format", "ctranslate2", *words]
        assert main(command) == 0
    ids = [5, 7, 11, 13]
    with torch.no_grad():
        wanted = models["gpt2"][1](torch.tensor([ids])).logits
    logits = torch.tensor(np.array(ctranslate2.Generator(str(tmp_path / "whole")).forward_batch([ids])))
    torch.testing.assert_close(logits, wanted, atol=1e-3, rtol=0)
    sizes = [(tmp_path / name / "model.bin").stat().st_size for name in ("small", "whole")]
    assert sizes[0] < sizes[1]
    assert json.loads((tmp_path / "small" / "config.json").read_text())["unk_token"] is not None


def write_run(folder: Path, preset: str, **fields: Any) -> None:
    tokenizer = CharacterTokenizer("abcdefghijk")
    size = {"d_model": 24, "n_heads": 3, "d_ff": 96, "n_layers": 2, "max_seq_len": 32, "eos_id": 11}
    torch.manual_seed(0)
    model = tz.create_model(preset, **{"vocab_size": 12, **size, **fields})
    assert isinstance(model, DecoderOnly)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    folder.mkdir(exist_ok=True)
    save_run(TextRun(model, tokenizer, {}), folder, {})


@pytest.mark.parametrize(
    ("preset", "fields", "format", "message"),
    [
        ("gpt2", {"sliding_window": 4}, "ctranslate2", "ctranslate2 has no counterpart of attention.window '4 beside"),
        ("gpt2", {"ngrams": {"n": 3}}, "huggingface", "transformers has no such model"),
    ],
)
def test_what_has_no_counterpart_is_named_and_leaves_nothing(
    preset: str, fields: Any, format: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "run", preset, **fields)
    capsys.readouterr()
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "out"), "--format", format]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert message in line
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_what_ctranslate2_would_compute_otherwise_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "run", "gpt2")
    monkeypatch.setitem(ACTIVATIONS, "gelu_tanh", "RELU")
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "out"), "--format", "ctranslate2"]) == 1
    assert "ctranslate2 computes something else than this model" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("preset", ["gpt-modern", "gpt-char", "opt-125m"])
def test_ctranslate2_of_texts_without_a_counterpart_in_transformers(preset: str, tmp_path: Path) -> None:
    write_run(tmp_path / "run", preset, bos_id=None, pad_id=None)
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "out"), "--format", "ctranslate2"]) == 0
    run = tz.load_run(tmp_path / "run")
    assert isinstance(run, TextRun)
    generator, tokenizer = ctranslate2.Generator(str(tmp_path / "out")), AutoTokenizer.from_pretrained(tmp_path / "out")
    words = tokenizer.convert_ids_to_tokens(run.tokenizer.encode("badge"))
    how = {"max_length": 9, "sampling_topk": 1, "include_prompt_in_result": False}
    [theirs] = generator.generate_batch([words], **how)
    assert theirs.sequences_ids == generate(run.model, [run.tokenizer.encode("badge")], temperature=0, max_new_tokens=9)


def test_ctranslate2_of_an_encoder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = {"vocab_size": 12, "d_model": 24, "n_heads": 3, "d_ff": 96, "n_layers": 2, "max_seq_len": 32}
    model = tz.create_model("bert-tiny", **size).eval()
    assert isinstance(model, tz.EncoderOnly)
    (tmp_path / "run").mkdir()
    save_run(EncoderRun(model, CharacterTokenizer("abcdefghijk"), {}), tmp_path / "run", {})
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "out"), "--format", "ctranslate2"]) == 0
    assert f"{tmp_path / 'out'}: Encoder, for ctranslate2\n" in capsys.readouterr().out
    encoder, ids = ctranslate2.Encoder(str(tmp_path / "out")), [1, 0, 3, 6, 4]
    by_name, by_id = (encoder.forward_batch([row]).last_hidden_state for row in (list("badge"), ids))
    assert np.array_equal(np.array(by_name), np.array(by_id))
    with torch.no_grad():
        ours = model.hidden(torch.tensor([ids]))
    torch.testing.assert_close(torch.tensor(np.array(by_id)), ours, atol=1e-5, rtol=1e-4)


def test_ctranslate2_of_a_translation_by_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    english, german = hub.pairs(200, 0)
    tokenizer = TranslationTokenizer.train(english, german, TranslationTokenizerSettings(kind="bytes"))
    shape = {"d_model": 24, "n_heads": 3, "d_ff": 29, "n_layers": 1, "norm_position": "pre"}
    torch.manual_seed(0)
    model = tz.create_model("transformer-tiny", vocab_size=tokenizer.source.vocab_size, **shape)
    assert isinstance(model, EncoderDecoder)
    run = Run(model.eval(), tokenizer, {}, 64)
    (tmp_path / "run").mkdir()
    save_run(run, tmp_path / "run", {})
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "out"), "--format", "ctranslate2"]) == 0
    assert "transformers has no counterpart" in capsys.readouterr().out
    assert TranslationTokenizer.load(tmp_path / "out" / "tokenizer").fingerprint == tokenizer.fingerprint
    names = json.loads((tmp_path / "out" / "shared_vocabulary.json").read_text())
    source = [*tokenizer.source.encode(LINES[0]), model.config.eos_id]
    [[ours]] = beam_search(model, torch.tensor([source]), beam=1)
    translator = ctranslate2.Translator(str(tmp_path / "out"))
    [found] = translator.translate_batch(
        [[names[i] for i in source]], beam_size=1, max_decoding_length=len(ours.tokens)
    )
    assert found.hypotheses[0] == [names[i] for i in ours.tokens]


def test_a_missing_package_is_asked_for(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    monkeypatch.delitem(sys.modules, "transformer_zoo.zoo.ctranslate2.write", raising=False)
    assert main(["export", str(trained), str(tmp_path / "out"), "--format", "ctranslate2"]) == 1
    assert capsys.readouterr().err.endswith("pip install ctranslate2\n")
    assert list(tmp_path.iterdir()) == []


def test_folders_are_whole_or_not_there(models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, marian = tmp_path / "run", models["marian"][0]
    (tmp_path / "run.part").mkdir()
    (tmp_path / "run.part" / "model.json").write_text("of somebody's own")
    run.mkdir()  # empty, so it may be filled
    assert main(["import", str(marian), str(run)]) == 0
    names = {"config.yaml", "model.json", "model.safetensors", "tokenizer"}
    assert {path.name for path in run.iterdir()} == names

    def fail(*words: object, **options: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("transformer_zoo.tokenizers.imported.ImportedTranslationTokenizer.export", fail)
    assert main(["export", str(run), str(tmp_path / "out")]) == 1
    monkeypatch.setattr("transformer_zoo.runs.load.save_recipe", fail)
    assert main(["import", str(marian), str(tmp_path / "other")]) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"run", "run.part"}
    assert (tmp_path / "run.part" / "model.json").read_text() == "of somebody's own"


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ("import MARIAN RUN/marian", 1, "there is something already"),
        ("export RUN/marian RUN/gpt2", 1, "there is something already"),
        ("export RUN/marian RUN/gpt2/model.json", 1, "there is something already"),
        ("import nowhere/at/all TMP", 1, "nowhere/at/all: no such folder"),
        ("import RUN/marian TMP", 1, "config.json"),
        ("import MARIAN TMP --dtype int8", 2, "--dtype"),
        ("import MARIAN TMP --target-lang de", 1, "has no languages to choose from"),
        ("import NLLB TMP --target-lang de", 1, "language 'de'"),
        ("translate RUN/marian --target-lang de", 1, "has no languages to choose from"),
        ("evaluate RUN/gpt2 --file x --target-lang de", 2, "--file excludes"),
        ("export RUN/marian TMP --format onnx", 2, "--format"),
        ("export RUN/marian TMP --quantization int8", 2, "--quantization is for --format ctranslate2"),
        ("export nowhere TMP", 1, "nowhere: no such run folder"),
    ],
)
def test_mistakes_end_in_one_line(
    words: str,
    status: int,
    message: str,
    models: Models,
    runs: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"MARIAN": models["marian"][0], "NLLB": models["nllb"][0], "RUN": runs["marian"].parent}
    for name, path in {**places, "TMP": tmp_path / "new"}.items():
        words = words.replace(name, str(path))
    capsys.readouterr()
    try:
        ended = main(words.split())
    except SystemExit as exit_:
        ended = exit_.code
    captured = capsys.readouterr()
    assert ended == status
    [line] = captured.err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["model.json", "tokenizer"])
def test_a_tokenizer_that_does_not_fit_is_refused(name: str, models: Models, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert main(["import", str(models["marian"][0]), str(run)]) == 0
    if name == "model.json":
        fields = read_fields(run / name)
        write_fields(run / name, {**fields, "vocab_size": 40, "pad_id": 39, "bos_id": 39})
        with pytest.raises(tz.UserError, match=r"does not fit model\.json"):
            tz.load_run(run)
    else:
        assert main(["import", str(models["nllb"][0]), str(tmp_path / "other")]) == 0
        for path in (run / name).iterdir():
            path.unlink()
        for path in (tmp_path / "other" / name).iterdir():
            path.rename(run / name / path.name)
        with pytest.raises(tz.UserError, match=r"tokenizer does not fit the model: \d+ tokens for \d+"):
            tz.load_run(run)


def test_a_gguf_file_is_imported_with_its_tokenizer_and_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = hub.gpt2(tmp_path / "theirs", n_embd=32, n_head=4)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "theirs")
    gguf_files.write(tmp_path / "m.gguf", theirs, "Q8_0", **gguf_files.byte_level_keys(tmp_path / "theirs"))
    assert main(["import", str(tmp_path / "m.gguf"), str(tmp_path / "run")]) == 0
    assert "from " + str(tmp_path / "m.gguf") in capsys.readouterr().out
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "out")]) == 0
    again, ids = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval(), tokenizer("a red dog and")["input_ids"]
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("a red dog and")["input_ids"] == ids
    with torch.no_grad():
        torch.testing.assert_close(again(torch.tensor([ids])).logits, theirs(torch.tensor([ids])).logits)
    capsys.readouterr()
    words = ["--prompt", "a red dog and", "--temperature", "0", "--max-new-tokens", "8"]
    assert main(["generate", str(tmp_path / "run"), *words]) == 0
    wanted = theirs.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=8, pad_token_id=0)[0]
    assert capsys.readouterr().out == tokenizer.decode(wanted, skip_special_tokens=True) + "\n"
