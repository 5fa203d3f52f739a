"""Wrong command lines and wrong recipes, drawn from what the commands and the recipes say of themselves."""

import dataclasses
import inspect
import itertools
import typing
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args, get_type_hints

import yaml

from . import damages, programs
from .inputs import Case
from .workplace import GPT, GPT_YAML, MT_YAML, TRANSLATION

ZOO = "transformer-zoo"
HUGE = "9" * 30
# What comes right before the options, so that nothing else is wrong.
STARTS: dict[str, tuple[str, ...]] = {
    "train": ("--pairs", "texts/train.tsv", "--from", "en", "--to", "de", "--output", "new/run"),
    "recipes": ("numbers", "--output", "new/recipe.yaml"),
    "prepare": ("numbers", "--out", "new/corpus"),
    "translate": ("runs/mt", "--input", "texts/val.en"),
    "evaluate": ("runs/mt",),
    "score": ("runs/mt", "--source", "texts/val.en", "--target", "texts/val.de"),
    "average": ("runs/mt",),
    "generate": ("runs/gpt", "--prompt", "the cat"),
    "chat": ("runs/gpt",),
    "embed": ("runs/masked", "--input", "texts/val.en"),
    "classify": ("runs/masked", "--input", "texts/val.en"),
    "tokenize": ("runs/gpt", "the cat"),
    "serve": ("runs/gpt",),
    "report": ("runs/gpt", "--output", "new/report.html"),
    "attention": ("runs/gpt", "the cat", "--output", "new/heads.html"),
    "neighbours": ("runs/gpt", "cat"),
    "import": ("hf/gpt2", "new/run"),
    "export": ("runs/gpt", "new/folder"),
    "push": ("runs/gpt", "somebody/gpt"),
    "split": ("texts/train.tsv", "--output", "new/split"),
    "list": (),
    "describe": ("gpt2",),
    "plan": ("transformer-tiny",),
}
LISTING = ("recipes", "prepare", "list", "plan")  # with nothing after it
PROMPTED = ("input", "whole")  # do not go with --prompt
WRONG: dict[str, tuple[str, ...]] = {
    "int": ("many", "1.5", "", "[1]", "nan", HUGE),
    "above 0": ("0", "-1", "many", "1.5", "", HUGE),
    "from 0": ("-1", "many", "1.5", HUGE),
    "float": ("fast", "", "[1]", "nan", "inf"),
    "bool": ("maybe", "2", "[1]"),
    "tuple": ("fast", "0.9", "[0.9]", "[a, b]"),
    "choice": ("nonsense", "", "[1]"),
}


def commands() -> dict[str, Callable[..., None]]:
    """The commands of transformer-zoo by name."""
    from transformer_zoo.cli import all_commands

    return {command.__name__.rstrip("_"): command for command in all_commands()}


def options(owner: Callable[..., Any]) -> Iterator[tuple[str, Any, bool]]:
    """Name, type and whether it is an option (else it goes by place), of a command's parameters and their fields."""
    hints = get_type_hints(owner.__init__ if inspect.isclass(owner) else owner)
    for name, parameter in inspect.signature(owner).parameters.items():
        if dataclasses.is_dataclass(hints[name]):
            yield from options(hints[name])
        else:
            named = parameter.default is not inspect.Parameter.empty
            yield name.rstrip("_"), hints[name], named and parameter.kind is not inspect.Parameter.POSITIONAL_ONLY


def kinds(hint: Any) -> set[str]:
    """Which rows of WRONG are wrong for a type."""
    members = [m for m in get_args(hint) if m is not type(None)] if type(None) in get_args(hint) else [hint]
    if len(members) > 1 and not all(typing.get_origin(m) is Literal or m in (int, float, bool, tuple) for m in members):
        members = [m for m in members if typing.get_origin(m) is not Literal]
    found = set()
    for member in members:
        name = getattr(member, "__name__", "")
        if typing.get_origin(member) is Literal:
            found.add("choice")
        elif typing.get_origin(member) is tuple:
            found.add("tuple")
        elif member is bool:
            found.add("bool")
        elif "Positive" in name and "Int" in name:
            found.add("above 0")
        elif name == "NonNegativeInt":
            found.add("from 0")
        elif isinstance(member, type) and issubclass(member, int):
            found.add("int")
        elif isinstance(member, type) and issubclass(member, float):
            found.add("float")
    return found


def wrong_values(hint: Any) -> tuple[str, ...]:
    """Values on a command line that a type does not take."""
    found = kinds(hint)
    if len(found) == 1:
        return WRONG[found.pop()]
    if found == {"choice", "int"} or found == {"choice", "float"} or found == {"choice", "bool"}:
        return ("nonsense", "[1]", "{a: 1}")
    return ()


def misspelt(word: str) -> str:
    """A word without one letter in its middle."""
    return word[: len(word) // 2] + word[len(word) // 2 + 1 :]


def command_line() -> Iterator[Case]:
    """transformer-zoo, the trainers and the scripts that prepare texts."""
    yield from _commands()
    yield from _refused_combinations()
    yield from _paths()
    for program, recipe, kind in trainers():
        for words, names in (
            ((), "run_dir"), (("nowhere.yaml",), "nowhere.yaml"), ((recipe, "more.yaml"), "more.yaml"),
            ((recipe, "--config"), "config"), ((recipe, "--zebra", "1"), "zebra"), ((recipe, "--seed"), "seed"),
            ((recipe, "-q"), "-q"), (("--seed", "1"), ""), ((recipe, "--optmizer.lr", "1"), "optimizer.lr"),
            ((recipe, "--optimizer"), "optimizer"), ((recipe, "--optimizer", "5"), "optimizer"),
            ((recipe, "--data.train", "x"), "data.train"), (("--config", "nowhere.yaml"), "nowhere.yaml"),
        ):  # fmt: skip
            yield Case("command line", f"{words}", program, words, status=2, names=names)
        for name, hint in leaves(kind):
            for value in wrong_values(hint)[:2]:
                yield Case(
                    "command line", f"--{name} {value}", program, (recipe, f"--{name}={value}"), status=2, names=name
                )
        for name, _ in list(leaves(kind))[::3]:
            section, _, last = name.rpartition(".")
            wrong = f"{section}.{misspelt(last)}".lstrip(".")
            yield Case(
                "command line", f"--{wrong}", program, (recipe, f"--{wrong}", "1"), status=2, names="did you mean"
            )
    yield from _preparing()


def _commands() -> Iterator[Case]:
    def case(name: str, *words: str, names: str = "", status: int = 2) -> Case:
        return Case("command line", name, ZOO, words, status=status, names=names)

    yield case("nothing")
    yield case("no command", "--seed", "1")
    for name, command in commands().items():
        yield case("a command misspelt", misspelt(name), *STARTS[name], names=f"did you mean {name}?")
        yield case("one too many", name, *STARTS[name][:2], "more", "evenmore", "--json", *STARTS[name][2:])
        if any(not named for _, _, named in options(command)) and name not in LISTING:
            yield case("nothing after it", name)
        for option, hint, named in options(command):
            flag = "--" + option.replace("_", "-")
            start = STARTS[name]
            if not named:
                continue
            if len(flag) > 6:
                yield case("misspelt", name, *start, misspelt(flag), "1", names=f"did you mean {flag}?")
            if hint is not bool:
                yield case("without its value", name, *start, flag, names=flag)
            else:
                yield case("a flag with a value", name, *start, f"{flag}=maybe", names=flag)
                continue
            for value in wrong_values(hint):
                yield case("a wrong value", name, *start, f"{flag}={value}", names=flag)


def _refused_combinations() -> Iterator[Case]:
    for words in (
        "evaluate runs/mt --source texts/val.en", "evaluate runs/mt --reference texts/val.de",
        "evaluate runs/mt --split test --source texts/val.en --reference texts/val.de", "evaluate runs/mt --stride 3",
        "evaluate runs/mt --separator x", "evaluate runs/gpt --file texts/val.en --beam 3",
        "evaluate runs/gpt --file texts/val.en --metrics chrf",
        "evaluate runs/gpt --file texts/val.en --compare runs/mt",
        "score runs/mt", "score runs/mt --source texts/val.en", "generate runs/gpt --prompt a --input texts/val.en",
        "generate runs/gpt --prompt a --whole", "export runs/gpt new/x --quantization int8",
        "describe gpt2 --activation reluu", "describe gpt2 --positions learnt",
    ):  # fmt: skip
        yield Case("command line", "options that do not fit", ZOO, tuple(words.split()), status=2)
    for words, names in (
        ("evaluate runs/mt --split tset", "test"), ("evaluate runs/mt --tokenize nonsense", "nonsense"),
        ("describe gtp2", "gpt2"), ("list nothing*like*this", "nothing"), ("describe gpt2 --d-model 7", "d_model"),
        ("translate runs/mt --device gpu", "gpu"), ("translate runs/mt --device cuda:99", "cuda:99"),
        ("translate runs/mt --device meta", "meta"), ("generate runs/gpt --prompt a --device xla", "xla"),
        ("evaluate runs/gpt --split test", "runs/gpt"), ("evaluate runs/mt --file texts/val.en", "runs/mt"),
        ("average runs/mt --last 7", "--last"),
        ("import nobody/nothing-at-all new/x", "nobody/nothing-at-all"), ("import runs/gpt new/x", "config.json"),
        ("import hf/gpt2 runs/gpt", "runs/gpt"), ("export runs/gpt runs/mt", "runs/mt"),
        ("generate runs/gpt --prompt é", "é"), ("translate runs/mt --source-lang en", "runs/mt"),
        ("chat runs/gpt", "no chat template"), ("chat runs/mt", "runs/mt"),
        ("import package:none_such new/x", "package:none_such"),
        ("import hf/gpt2 new/x --target-lang de", "hf/gpt2"), ("evaluate runs/mt --compare runs/gpt", "runs/gpt"),
        ("evaluate runs/mt --compare runs/none", "runs/none"), ("describe gpt2 --d-model 1000000000000", "d_model"),
        ("translate runs/mt --input texts/val.en --beam 1000000000", ""),
    ):  # fmt: skip
        yield Case("command line", "refused by what is there", ZOO, tuple(words.split()), names=names)


def _paths() -> Iterator[Case]:
    """Paths of the commands that are not what they should be."""
    reads = {
        "translate": ("translate", "runs/mt", "--input"), "generate": ("generate", "runs/gpt", "--input"),
        "evaluate": ("evaluate", "runs/gpt", "--file"),
        "source": ("evaluate", "runs/mt", "--reference", "texts/val.de", "--source"),
        "score": ("score", "runs/mt", "--source", "texts/val.en", "--target"),
    }  # fmt: skip
    for (name, words), (kind, damage) in itertools.product(
        reads.items(), {"missing": damages.missing, "folder": damages.folder, "pipe": damages.pipe,
                        "link to itself": damages.link_to_itself}.items(),
    ):  # fmt: skip
        if (name, kind) == ("evaluate", "folder"):
            continue  # a folder is text there
        path = "texts/train.en"
        change = damages.changed(path, damage)
        yield Case("command line", f"{name} of {kind}", ZOO, (*words, path), change, names=path)
    for name in ("translate", "evaluate", "score", "average", "generate", "chat", "tokenize", "export"):
        words = tuple(word.replace("runs/gpt", "runs/none").replace("runs/mt", "runs/none") for word in STARTS[name])
        yield Case("command line", f"{name} of no run", ZOO, (name, *words), names="runs/none")
        words = tuple(word.replace("runs/gpt", "mt.yaml").replace("runs/mt", "mt.yaml") for word in STARTS[name])
        yield Case("command line", f"{name} of a file", ZOO, (name, *words), names="mt.yaml")
    written = ("translate", "runs/mt", "--input", "texts/val.en", "--output")
    for path, damage in (
        ("new/none/out", None), ("mt.yaml/out", None), ("new", None), ("", None),
        ("new/pipe", damages.changed("new/pipe", damages.pipe)), ("new/" + "x" * 300, None),
    ):  # fmt: skip
        yield Case("command line", f"output {path[:20]}", ZOO, (*written, path), damage, names=path[:50])
    for words, names in (
        ((*written, "texts/out"), "texts"), (("average", "runs/mt", "--last", "2"), "runs/mt"),
        (("average", "runs/mt", "--last", "2", "--output", "texts/out"), "texts"),
        (("import", "hf/gpt2", "texts/run"), "texts"),
        (("export", "runs/gpt", "texts/folder"), "texts"), (("evaluate", "runs/mt"), "runs/mt"),
    ):  # fmt: skip
        yield Case("command line", "read-only", ZOO, words, names=names, powerless=True)
    for program, recipe, _ in trainers():
        for run_dir in ("texts/run", "mt.yaml", "mt.yaml/run", "runs/none/" + "x" * 300):
            words = (recipe, "--run_dir", run_dir)
            yield Case("command line", f"run_dir {run_dir[:20]}", program, words, names="run_dir", powerless=True)
        yield Case("command line", "run_dir is empty", program, (recipe, "--run_dir", ""), names="run_dir")


def _preparing() -> Iterator[Case]:
    for program in programs.PREPARING:

        def case(name: str, *words: str, status: int = 2, names: str = "") -> Case:
            return Case("command line", name, program, ("--out", "new/x", *words), status=status, names=names)  # noqa: B023

        yield case("unknown", "--zebra", "1", names="--zebra")
        yield case("misspelt", "--ot", "x", names="--out")
        yield case("without its value", "--out", names="--out")
        yield case("one too many", "more", names="more")
        if "numbers" not in program:
            yield case("no folder", "--from", "nowhere", status=1, names="nowhere")
            yield case("nothing in the folder", "--from", "new", status=1, names="new")
            yield case("a file for a folder", "--from", "mt.yaml", status=1, names="mt.yaml")
    yield Case("command line", "no hub", "data/wmt14/prepare.py", ("--out", "new/x"), names="wmt/wmt14")
    yield Case("command line", "out is a file", "data/numbers/prepare.py", ("--out", "mt.yaml"), names="mt.yaml")
    tatoeba = ("--out", "new/x", "--from", "new", "--target", "xx")
    yield Case("command line", "no such choice", "data/tatoeba/prepare.py", tatoeba, status=2, names="--target")


def trainers() -> Iterator[tuple[str, str, type]]:
    """Each recipe's program, its YAML file here, and its dataclass."""
    from transformer_zoo.training.tasks.language import GptRecipe
    from transformer_zoo.training.tasks.translation_recipe import TranslationRecipe

    yield GPT, "gpt.yaml", GptRecipe
    yield TRANSLATION, "mt.yaml", TranslationRecipe


def leaves(kind: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names of all fields of a recipe, with their types."""
    for name, hint in get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            yield from leaves(hint, f"{prefix}{name}.")  # type: ignore[arg-type]
        else:
            yield prefix + name, hint


def yaml_recipes() -> Iterator[Case]:
    """Recipes that no parser can read, and fields with values that they cannot have."""
    for program, recipe, kind in trainers():
        for name, damage in damages.YAML_DAMAGES.items():
            names = "" if name in ("empty", "only a comment") else recipe
            change = damages.changed(recipe, damage)
            yield Case("YAML", name, program, (recipe,), change, status=2, names="run_dir" if not names else "")
        text = GPT_YAML if program == GPT else MT_YAML
        for name, hint in leaves(kind):
            for value in _wrong_plain(hint):
                change = damages.changed(recipe, damages.content(with_field(text, name, value)))
                shown = repr(value)[:30]
                yield Case("YAML", f"{name}: {shown}", program, (recipe,), change, status=2, names=name)
            section, _, last = name.rpartition(".")
            wrong = f"{section}.{misspelt(last)}".lstrip(".")
            change = damages.changed(recipe, damages.content(with_field(text, wrong, 1)))
            if len(last) > 4 and not name.startswith("data."):
                yield Case("YAML", wrong, program, (recipe,), change, status=2, names="did you mean")
        for section in [f.name for f in dataclasses.fields(kind) if dataclasses.is_dataclass(f.type)]:
            for value in (None, [1], "x", 3, {section: 1}):
                change = damages.changed(recipe, damages.content(with_field(text, section, value)))
                yield Case("YAML", f"{section}: {value}", program, (recipe,), change, status=2, names=section)
            change = damages.changed(recipe, damages.content(with_field(text, misspelt(section), {})))
            names = f"did you mean {section}?" if section != "data" else ""
            yield Case("YAML", f"{misspelt(section)}:", program, (recipe,), change, status=2, names=names)
        yield from _out_of_range(program, recipe, text)


def _wrong_plain(hint: Any) -> tuple[Any, ...]:
    """Values in a YAML file that a type does not take."""
    values: dict[str, tuple[Any, ...]] = {
        "int": ("many", 1.5, [1], {"a": 1}, 10**30),
        "float": ("fast", [1], {"a": 1}, float("nan"), float("inf")),
        "bool": ("maybe", [1], {"a": 1}),
        "tuple": ("fast", [0.9], ["a", "b"], {"a": 1}),
        "choice": ("nonsense", [1], 3, {"a": 1}),
    }
    found = kinds(hint)
    if found == {"tuple"} and "str" in str(hint):  # of which ["a", "b"] is one
        return "fast", [0.9], {"a": 1}
    if (len(found) == 1 and len(get_args(hint)) < 2) or found in ({"choice"}, {"tuple"}):
        return values[next(iter(found))]
    if found:
        return ("nonsense words", [[1]], {"a": 1})
    if hint is str:
        return ([1], {"a": 1}, True)
    return ({"a": 1},) if hint == str | None else ()


def with_field(text: str, name: str, value: Any) -> str:
    """A recipe with another value of a field."""
    recipe = yaml.safe_load(text)
    *above, last = name.split(".")
    fields = recipe
    for key in above:
        fields = fields.setdefault(key, {})
    fields[last] = value
    return yaml.safe_dump(recipe, sort_keys=False)


OUT_OF_RANGE: list[tuple[str, Any]] = [
    ("seed", -1), ("device", "gpu"), ("device", "cuda:99"), ("optimizer.lr", -1.0), ("optimizer.eps", -1e-9),
    ("optimizer.betas", [0.9, 1.0]), ("optimizer.betas", [-0.1, 0.5]), ("optimizer.weight_decay", -0.1),
    ("schedule.warmup", -1), ("training.batch_tokens", 0), ("training.accumulate", 0), ("training.max_updates", 0),
    ("training.max_epochs", 0), ("training.max_minutes", 0), ("training.max_minutes", -1.0),
    ("training.max_grad_norm", -1.0), ("training.ema_decay", 1.0), ("training.log_every", 0),
    ("validation.every", 0), ("validation.patience", -1), ("validation.samples", -1), ("checkpoint.every", 0),
    ("checkpoint.average_last", 0), ("model.preset", "nonsense"), ("model.d_model", 7), ("model.d_model", 0),
    ("model.n_heads", 3), ("model.dropout", 1.0), ("model.dropout", -0.5), ("model.activation", "reluu"),
    ("model.positions", "learnt"), ("model.norm", "batchnorm"), ("model.max_seq_len", 0),
    ("model.decoder.norm.eps", 0), ("model.init_from", "runs/none"), ("model.d_ff", 10**12),
    ("model.d_model", 10**12), ("run_dir", "a\0b"),
    ("data.train", {"path": "x", "source": "y"}), ("run_dir", "runs/\x1b[31mred/" + "x" * 300),
]  # fmt: skip

OUT_OF_RANGE_GPT: list[tuple[str, Any]] = [
    ("data.length", 0), ("data.workers", -1), ("data.length", 10**12), ("tokenizer.kind", "characterz"),
    ("tokenizer.vocab_size", 50), ("data.train.path", "texts/none.txt"), ("data.train.path", []),
    ("data.train.path", "texts/*.nothing"), ("data.train.jsonl_key", "text"), ("data.train.path", ""),
    ("data.validation.path", "texts/none"), ("data.tokens", "mt.yaml"), ("data.tokens", "mt.yaml/x"),
    ("validation.prompt", "é"), ("validation.sample_tokens", 0), ("validation.temperature", -1.0),
    ("validation.top_k", -1), ("model.preset", "transformer-base"), ("data.train.path", "texts/\0"),
    ("data.train.path", "runs/\x1b[31mred"),
    ("tokenizer", {"kind": "sentencepiece"}), ("tokenizer", {"kind": "sentencepiece", "vocab_size": 10**9}),
    ("tokenizer", {"kind": "tiktoken", "encoding": "nonsense"}),
    ("tokenizer", {"kind": "words", "vocab_size": 1}),
]  # fmt: skip

FILES = {"source": "texts/val.en", "target": "texts/val.de"}
OUT_OF_RANGE_TRANSLATION: list[tuple[str, Any]] = [
    ("training.label_smoothing", 1.0), ("validation.beam", 0), ("test.beam", 0), ("test.beam", 10**6),
    ("test.length_penalty", 400.0), ("test.bleu_tokenize", "nonsense"), ("tokenizer.vocab_size", 4),
    ("tokenizer.vocab_size", 10**9), ("tokenizer.vocab_size", 12), ("tokenizer.character_coverage", 0.5),
    ("tokenizer.sample_alpha", 2.0), ("tokenizer.training_lines", -1), ("tokenizer.target_vocab_size", 70),
    ("data.train", {"source": "texts/train.en"}), ("data.train", {"tsv": "x", "jsonl": "y"}),
    ("data.train", {}),
    ("data.train", {"source": "texts/none", "target": "texts/train.de"}), ("data.train", {"tsv": "texts/\0"}),
    ("data.train", {"source": "texts/val.en", "target": "texts/train.de"}), ("data.tests", {"../x": FILES}),
    ("data.train", {"tsv": "texts/train.tsv", "source_column": 0}), ("data.tests", {"/tmp/x": FILES}),
    ("data.train", {"tsv": "texts/train.tsv", "source_column": 9}), ("data.tests", {"": FILES}),
    ("data.train", {"jsonl": "texts/train.jsonl", "source_key": "none"}), ("data.tests", {"x": {}}),
    ("data.train", {"jsonl": "texts/train.tsv"}), ("data.validation", {"tsv": "texts/train.en"}),
    ("data.cleaning.max_tokens", -1), ("data.cleaning.max_length_ratio", 0.5), ("model.preset", "gpt2"),
    ("data.train", {"tsv": "texts/\x1b[31mred.tsv"}), ("data.tests", {"a\x1b[31m": FILES}),
    ("model.share_embeddings", "some"), ("data.tests", {"x": {"tsv": "texts/none.tsv"}}),
]  # fmt: skip


def _out_of_range(program: str, recipe: str, text: str) -> Iterator[Case]:
    """Fields of the right type whose value nothing can be done with."""
    wrong = OUT_OF_RANGE + (OUT_OF_RANGE_GPT if program == GPT else OUT_OF_RANGE_TRANSLATION)
    for name, value in wrong:
        change = damages.changed(recipe, damages.content(with_field(text, name, value)))
        # A recipe's own run is in the way of nothing.
        words = (recipe,) if name == "run_dir" else (recipe, "--run_dir", "runs/other")
        unnamed = isinstance(value, dict) or value in (10**9, 10**12) or name.endswith(("path", "jsonl_key"))
        last = "" if unnamed else name.rpartition(".")[2]
        unread = ("a\0b", "texts/\0", "characterz", "batchnorm", "some", "reluu", "learnt",
                  {"path": "x", "source": "y"}, {"tsv": "texts/\0"})  # fmt: skip
        status = 2 if value in unread else 1  # no text of a recipe, none of the choices, none of the forms
        yield Case("YAML", f"{name}: {value!r}"[:80], program, words, change, status=status, names=last)
