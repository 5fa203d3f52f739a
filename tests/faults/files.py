"""Wrong files: texts, runs and imported folders, each with every kind of damage that matters to a command."""

import json
import pickle
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformer_zoo.zoo.families import FAMILIES

from . import damages
from .damages import Damage, changed, content, field
from .inputs import Case
from .workplace import GPT, TRANSLATION

ZOO = "transformer-zoo"
TEXT_DAMAGES: dict[str, Damage] = {
    "empty": content(""),
    "blank": content("\n \n\t\n"),
    "not UTF-8": damages.in_the_middle(b"caf\xe9\n"),
    "UTF-16": content("hello\nworld\n".encode("utf-16")),
    "half a character": damages.appended("é".encode()[:1]),
    "missing": damages.missing,
    "folder": damages.folder,
    "pipe": damages.pipe,
    "link to itself": damages.link_to_itself,
}
GZIP_DAMAGES: dict[str, Damage] = {
    "half": damages.half,
    "noise": damages.noise,
    "no gzip": content("hello\n"),
    "wrong sum": damages.gzip_wrong_sum,
    "something after it": damages.appended(b"something"),
    "empty": damages.gzip_of(b""),
    "not UTF-8": damages.gzip_of(b"caf\xe9\n" * 60),
    "endless line": damages.gzip_of(b"a" * (1 << 20), 400),
}
JSONL_DAMAGES: dict[str, Damage] = {
    "not JSON": damages.in_the_middle(b"{'source': 1}\n"),
    "cut": damages.half,
    "a list": damages.in_the_middle(b"[1]\n"),
    "a number": damages.in_the_middle(b"17\n"),
    "no key": damages.in_the_middle(b'{"other": "x"}\n'),
    "a number for text": damages.in_the_middle(b'{"source": 1, "target": 2, "text": 3}\n'),
    "null for text": damages.in_the_middle(b'{"source": null, "target": null, "text": null}\n'),
    "deep": damages.in_the_middle(b"[" * 100_000 + b"\n"),
    "many digits": damages.in_the_middle(b'{"source": ' + b"9" * 5000 + b"}\n"),
    "lone surrogate": damages.in_the_middle(b'{"source": "\\ud800", "target": "\\ud800", "text": "\\ud800"}\n'),
    "escape in a key": damages.in_the_middle(b'{"\\u001b[31mred": "x"}\n'),
    "not UTF-8": damages.in_the_middle(b'{"source": "\xe9"}\n'),
    "empty": content(""),
}


def data_files() -> Iterator[Case]:
    """Texts, for the trainers and for the commands that read some."""

    def gpt(name: str, path: str, damage: Damage) -> Case:
        words = ("gpt.yaml", "--run_dir", "runs/other", "--data.train.path", path)
        return Case("data", f"GPT, {path}: {name}", GPT, words, changed(path, damage), names=path)

    def pairs(name: str, path: str, damage: Damage, *given: str) -> Case:
        fields = {"source": "null", "target": "null"} | dict(field.split(": ") for field in given)
        train = "{" + ", ".join(f"{name}: {value}" for name, value in fields.items()) + "}"
        words = ["mt.yaml", "--run_dir", "runs/other", "--data.train", train]
        return Case("data", f"pairs, {path}: {name}", TRANSLATION, tuple(words), changed(path, damage), names=path)

    def command(name: str, path: str, damage: Damage, *words: str) -> Case:
        return Case("data", f"{words[0]}, {path}: {name}", ZOO, (*words, path), changed(path, damage), names=path)

    two, tsv, jsonl = "texts/train.de", "texts/train.tsv", "texts/train.jsonl"
    for name, damage in TEXT_DAMAGES.items():
        if name != "folder":  # whose files are text
            yield gpt(name, "texts/corpus.txt", damage)
        yield pairs(name, two, damage, "source: texts/train.en", f"target: {two}")
        yield pairs(name, tsv, damage, f"tsv: {tsv}")
        if name not in ("empty", "blank"):
            yield command(name, "texts/val.en", damage, "translate", "runs/mt", "--input")
        if name not in ("blank", "folder"):
            yield command(name, "texts/val.de", damage, "evaluate", "runs/gpt", "--file")
        words = ("evaluate", "runs/mt", "--source", "texts/val.en", "--reference")
        if name != "blank":
            yield command(name, "texts/val.de", damage, *words)
            yield command(name, "texts/val.de", damage, "score", "runs/mt", "--source", "texts/val.en", "--target")
    for name, damage in GZIP_DAMAGES.items():
        if name != "endless line":
            yield gpt(name, "texts/corpus.txt.gz", damage)
        yield pairs(name, "texts/train.tsv.gz", damage, "tsv: texts/train.tsv.gz")
        yield pairs(name, "texts/train.jsonl.gz", damage, "jsonl: texts/train.jsonl.gz")
        yield pairs(name, "texts/train.en.gz", damage, "source: texts/train.en.gz", f"target: {two}")
        if name != "empty":
            yield command(name, "texts/train.en.gz", damage, "translate", "runs/mt", "--input")
    for name, damage in JSONL_DAMAGES.items():
        yield gpt(name, jsonl, damage)
        yield pairs(name, jsonl, damage, f"jsonl: {jsonl}")
    for name, damage in {
        "a column too few": damages.in_the_middle(b"alone\n"),
        "shorter than its partner": damages.half,
    }.items():
        yield (
            pairs(name, tsv, damage, f"tsv: {tsv}")
            if "column" in name
            else pairs(name, two, damage, "source: texts/train.en", f"target: {two}")
        )
    for script, file in {
        "multi30k": "train.en", "tatoeba": "eng-deu.tsv", "wmt14": "train.en", "wikitext2": "wiki.train.tokens",
        "tinyshakespeare": "input.txt", "books": "book.txt", "python_source": "module.py",
    }.items():  # fmt: skip
        for name in ("empty", "not UTF-8", "pipe", "folder"):
            put = changed(f"new/from/{file}", content(b"caf\xe9\n" if name == "not UTF-8" else b""))
            damage = damages.both(
                put, changed(f"new/from/{file}", TEXT_DAMAGES[name] if "UTF" not in name else content(b"caf\xe9\n"))
            )
            words = ("--from", "new/from", "--out", "new/out")
            yield Case(
                "data", f"{script}, {file}: {name}", f"data/{script}/prepare.py", words, damage, names="new/from"
            )


def run_folders(place: Path) -> Iterator[Case]:
    """Runs of both kinds, for the commands that load them and for training that goes on."""

    def case(name: str, path: str, damage: Damage, words: str, program: str = ZOO, names: str | None = None) -> Case:
        shown = Path(path).name if names is None else names
        return Case("run folder", f"{path}: {name}", program, tuple(words.split()), changed(path, damage), names=shown)

    uses = {"runs/mt": "translate runs/mt --input texts/val.en", "runs/gpt": "generate runs/gpt --prompt the"}
    goes_on = {
        "runs/mt": ("mt.yaml --training.max_updates 4", TRANSLATION),
        "runs/gpt": ("gpt.yaml --training.max_updates 4", GPT),
    }
    for run, words in uses.items():
        for name, damage in damages.JSON_DAMAGES.items():
            yield case(name, f"{run}/model.json", damage, words)
        for name, damage in damages.YAML_DAMAGES.items():
            if name not in HARMLESS_CONFIGS:
                yield case(name, f"{run}/config.yaml", damage, words)
            if name != "many digits":
                yield case(name, f"{run}/config.yaml", damage, *goes_on[run], names=run)
        for name, damage in damages.BINARY_DAMAGES.items():
            yield case(name, f"{run}/model.safetensors", damage, words)
        for name, damage in LYING_SAFETENSORS.items():
            yield case(name, f"{run}/model.safetensors", damage, words)
        yield from _model_fields(place, run, words)
        for name, damage in damages.BINARY_DAMAGES.items():
            if name != "missing":
                yield case(name, f"{run}/checkpoints", in_all_checkpoints(damage), *goes_on[run])
        for name, damage in PICKLES.items():
            yield case(name, f"{run}/checkpoints", in_all_checkpoints(damage), *goes_on[run])
    models = sorted((place / "runs/mt/tokenizer").glob("*.model"))
    tokenizers = {
        "runs/mt": (f"tokenizer/{models[0].name}", damages.BINARY_DAMAGES),
        "runs/gpt": ("tokenizer/tokenizer_kind.json", damages.JSON_DAMAGES),
    }
    for run, (file, kinds) in tokenizers.items():
        for name, damage in kinds.items():
            yield case(name, f"{run}/{file}", damage, uses[run], names="tokenizer")
            yield case(name, f"{run}/{file}", damage, *goes_on[run], names="tokenizer")
    for name, value in {
        "kind": "nonsense", "characters": 5, "characters ": None, "end_of_text": "maybe", "fingerprint": 7,
        "checksums": {"../../mt.yaml": 3}, "checksums ": ["x"], "characters  ": "aa",
    }.items():  # fmt: skip
        path = "runs/gpt/tokenizer/tokenizer_kind.json"
        yield case(f"{name}: {value}", path, field(name.strip(), value), uses["runs/gpt"], names="tokenizer")
    for step in ("000001", "000002"):
        path = f"runs/mt/checkpoints/step_{step}.safetensors"
        for name, damage in damages.BINARY_DAMAGES.items():
            if name not in ("missing", "pipe"):
                yield case(name, path, damage, "average runs/mt --last 2 --output new/x")
    yield case(
        "a name without a number", "runs/mt/checkpoints/step_x.safetensors", content(""), "average runs/mt --last 3"
    )


# YAML that a command can do with in a run's config.yaml: what it asks for is not there, or as it was.
HARMLESS_CONFIGS = (
    "empty", "only a comment", "escape", "a number for a key", "null for a key", "many digits", "contains itself",
    "fields that contain themselves", "merges itself", "names a class", "UTF-16",
)  # fmt: skip


def in_all_checkpoints(damage: Damage) -> Damage:
    """The damage to the newest checkpoint and to the one that would be used instead of it."""
    return lambda folder: [damage(path) for path in folder.glob("*.pt")]


def _model_fields(place: Path, run: str, words: str) -> Iterator[Case]:
    """Every field of a run's model.json with values that it cannot have."""
    fields: dict[str, Any] = json.loads((place / run / "model.json").read_text("utf-8"))
    path = f"{run}/model.json"

    def case(name: str, damage: Damage, names: str = "") -> Case:
        return Case("run folder", f"{path}: {name}"[:80], ZOO, tuple(words.split()), changed(path, damage), names=names)

    for name, value in fields.items():
        if name in ("tokenizer", "checksum"):
            continue
        wrong: list[Any] = [[1, "x"], {"a": 1}]
        if type(value) is int:
            wrong = ["many", 10**12, -5] if not name.startswith("max") else ["many", -5]
        elif isinstance(value, float):
            wrong = ["fast", {"a": 1}]
        elif isinstance(value, str):
            wrong = [5, "nonsense"]
        elif isinstance(value, bool):
            wrong = ["maybe"]
        for one in wrong:
            yield Case(
                "run folder", f"{path}: {name} {one}"[:80], ZOO, tuple(words.split()), changed(path, field(name, one))
            )
    for name in ("family", "vocab_size"):
        yield Case("run folder", f"{path}: no {name}", ZOO, tuple(words.split()), changed(path, damages.without(name)))
    yield Case(
        "run folder", f"{path}: zebra", ZOO, tuple(words.split()), changed(path, field("zebra", 1)), names="zebra"
    )


def header_of(**tensors: Any) -> Damage:
    """A file of safetensors that says it holds these tensors, and holds 16 bytes."""
    text = json.dumps(tensors).encode()
    return content(struct.pack("<Q", len(text)) + text + bytes(16))


LYING_SAFETENSORS: dict[str, Damage] = {
    "a header of 2^63 bytes": content(struct.pack("<Q", 1 << 63) + b"{}"),
    "a header longer than the file": content(struct.pack("<Q", 1 << 20) + b"{}"),
    "a header that is no JSON": content(struct.pack("<Q", 4) + b"{{{{"),
    "a header of a list": content(struct.pack("<Q", 2) + b"[]"),
    "no tensors": header_of(),
    "a shape of billions": header_of(x={"dtype": "F32", "shape": [1 << 40, 1 << 20], "data_offsets": [0, 16]}),
    "a shape below 0": header_of(x={"dtype": "F32", "shape": [-2, -2], "data_offsets": [0, 16]}),
    "offsets past the end": header_of(x={"dtype": "F32", "shape": [1 << 20], "data_offsets": [0, 1 << 22]}),
    "a strange type": header_of(x={"dtype": "F33", "shape": [4], "data_offsets": [0, 16]}),
    "escapes in a name": header_of(**{"\x1b[31mred": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}),
    "other tensors": header_of(x={"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}),
}


class Code:
    """Would run when it is read."""

    def __reduce__(self) -> tuple[Any, tuple[str, ...]]:
        import os

        return os.system, ("touch pwned",)


def _saved(what: Any) -> Damage:
    def write(path: Path) -> None:
        import torch

        torch.save(what, path)

    return write


PICKLES: dict[str, Damage] = {
    "code": content(pickle.dumps(Code())),
    "code in torch's file": _saved({"progress": Code()}),
    "a list": _saved([1, 2]),
    "a number": _saved(17),
    "nothing": _saved({}),
    "names that are numbers": _saved({1: 2}),
    "progress is a list": _saved({"progress": [1]}),
    "progress of wrong types": _saved({"progress": {"step": "many", "epoch": None}}),
    "progress of other fields": _saved({"progress": {"zebra": 1}}),
    "progress alone": _saved({"progress": {"step": 2, "epoch": 0, "update": 2}}),
    "an old pickle": content(pickle.dumps({"progress": {}})),
    "deep": content(b"\x80\x02" + b"(" * 100_000),
}


def imported_folders(place: Path) -> Iterator[Case]:
    """Folders of Hugging Face's as a stranger may have made them."""

    def case(name: str, path: str, damage: Damage, names: str | None = None) -> Case:
        folder = "/".join(path.split("/")[:2])
        words = ("import", folder, "new/run")
        shown = folder if names is None else names
        return Case("imported folder", f"{path}: {name}", ZOO, words, changed(path, damage), names=shown)

    for folder in ("hf/gpt2", "hf/marian"):
        for name, damage in damages.JSON_DAMAGES.items():
            yield case(name, f"{folder}/config.json", damage)
        for name, damage in {**damages.BINARY_DAMAGES, **LYING_SAFETENSORS}.items():
            yield case(name, f"{folder}/model.safetensors", damage)
        config: dict[str, Any] = json.loads((place / folder / "config.json").read_text("utf-8"))
        for name, value in config.items():
            if FAMILIES[config["model_type"]].ignores(name):
                continue
            wrong: list[Any] = ["many", [1], {"a": 1}]
            if type(value) is int:
                wrong += [-5] if name.endswith("_id") else [10**12, 0]
            if name.endswith("_token_id"):  # several may be given, and generation_config.json has the last word
                wrong = [] if name.startswith(("decoder_start", "pad")) else ["many", {"a": 1}]
            if name in ("n_inner", "decoder_vocab_size"):  # 0 is as null there
                wrong = [one for one in wrong if one != 0]
            for one in wrong:
                yield case(f"{name} {one}", f"{folder}/config.json", field(name, one), names="")
        yield case("an unknown field", f"{folder}/config.json", field("zebra", 1), names="zebra")
        nameless = damages.without("model_type", "architectures")
        yield case("no model_type", f"{folder}/config.json", nameless, names="model_type")
        yield case("escapes", f"{folder}/config.json", field("model_type", "\x1b[31mred"), names="model_type")
    for name, damage in damages.JSON_DAMAGES.items():
        if name not in ("missing", "folder"):
            yield case(name, "hf/gpt2/tokenizer.json", damage, names="tokenizer")
        if name not in ("many digits",):
            yield case(name, "hf/marian/vocab.json", damage, names="vocab" if name != "missing" else "")
        if name in ("empty", "half", "noise", "a list", "a word", "deep", "many digits"):
            yield case(name, "hf/gpt2/tokenizer_config.json", damage, names="tokenizer_config.json")
            yield case(name, "hf/gpt2/generation_config.json", damage, names="generation_config.json")
        yield case(name, "hf/parts/model.safetensors.index.json", damage, names="")
    for name, damage in damages.BINARY_DAMAGES.items():
        yield case(name, "hf/marian/source.spm", damage, names="")
        yield case(name, "hf/pickled/pytorch_model.bin", damage, names="hf/pickled")
    for name, damage in PICKLES.items():
        yield case(name, "hf/pickled/pytorch_model.bin", damage, names="pytorch_model.bin")
    index = "hf/parts/model.safetensors.index.json"
    for file in (
        "../../secret.safetensors",
        "/etc/passwd",
        "../gpt2/model.safetensors",
        "none.safetensors",
        "",
        ".",
        "a\0b",
    ):
        names = "model.safetensors.index.json"
        yield case(f"names {file!r}", index, content(json.dumps({"weight_map": {"x": file}})), names=names)
    for name, value in {"a list": [1], "empty": {}, "numbers": {"x": 5}, "nothing": None, "a word": "x"}.items():
        yield case(f"weight_map is {name}", index, field("weight_map", value), names="weight_map")
    replaced = {"type": "Replace", "pattern": {"Regex": "("}}
    for name, value in {
        "model": 5, "model.type": "nonsense", "model.vocab": [1], "model.vocab ": {"a": -1},
        "model.vocab  ": {"a": 2**40},
        "pre_tokenizer": {"type": "nonsense"}, "decoder": 5, "added_tokens": [{"id": "x"}],
        "added_tokens ": 5, "post_processor": {"type": "x"}, "normalizer": replaced,
    }.items():  # fmt: skip
        yield case(f"{name}: {value}", "hf/gpt2/tokenizer.json", field(name.strip(), value), names="tokenizer")
    links = damages.changed("hf/gpt2/model.safetensors", lambda path: (path.unlink(), path.symlink_to("/etc/passwd")))
    yield Case("imported folder", "a link out", ZOO, ("import", "hf/gpt2", "new/run"), links, names="hf/gpt2")
