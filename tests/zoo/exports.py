"""What becomes of the zoo's models elsewhere, one line each: `python -m tests.zoo.exports [PATTERN ...]`.

The models are every preset in few layers and small widths, with its quirks, and the model of every shipped recipe. A
recipe's tokenizer is trained on some sentences. Each goes to transformers, from there back again, and to CTranslate2.
"equal" stands for logits within 1e-4, of texts and batches of several lengths. With a recipe also the ids of its
tokenizer must be equal.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from string import printable
from tempfile import TemporaryDirectory
from typing import Any

import torch
import yaml
from transformers import AutoTokenizer

import transformer_zoo as tz
from tests import hub
from tests.tokenizers.test_kinds import small_bpe
from tests.zoo.huggingface.test_export import assert_same_logits, read_theirs
from tests.zoo.test_ctranslate2 import assert_same
from transformer_zoo.commandline import parse_recipe
from transformer_zoo.config import ModelConfig
from transformer_zoo.config.changes import value_at
from transformer_zoo.errors import UserError
from transformer_zoo.runs.exporting import write_huggingface
from transformer_zoo.runs.huggingface import imported_run
from transformer_zoo.runs.load import EncoderRun, Run, TextRun
from transformer_zoo.tokenizers import TranslationTokenizer, make_tokenizer
from transformer_zoo.tokenizers.kinds.tiktoken import TiktokenTokenizer
from transformer_zoo.training.tasks.kinds import kind_of_recipe
from transformer_zoo.training.tasks.masked import MASKED
from transformer_zoo.training.tasks.translation import TRANSLATION
from transformer_zoo.zoo import build, get_config
from transformer_zoo.zoo.ctranslate2 import check_ctranslate2
from transformer_zoo.zoo.huggingface import from_huggingface, to_huggingface

ROOT = Path(__file__).parents[2]
NO_COUNTERPART = ("shakespeare_speedrun", "shakespeare_5min")  # hashed n-grams are nowhere else
RECIPES = {path.stem: path for path in sorted(ROOT.glob("recipes/*/*.yaml")) if path.stem not in NO_COUNTERPART}
LINES, REFERENCES = hub.pairs(200, 0)


@dataclass(frozen=True)
class Row:
    """What became of one model: "equal", or the reason why not."""

    name: str
    model_type: str
    transformers: str
    back: str
    ctranslate2: str

    @property
    def reasons(self) -> list[str]:
        return [said for said in (self.transformers, self.back, self.ctranslate2) if said != "equal"]


def small(config: ModelConfig) -> dict[str, Any]:
    """Fields of a model that is like this one, but small."""
    turns = [len(stack.layer) if isinstance(stack.layer, tuple) else 1 for _, stack in config.stacks()]
    found: dict[str, Any] = {"d_model": 32, "n_heads": 4, "d_ff": 128, "max_seq_len": 64, "n_layers": max(2, *turns)}
    attention = next(stack.layers[0].attention for _, stack in config.stacks())
    if getattr(attention, "head_dim", None) is not None:
        found["head_dim"] = 8
    if (n_kv_heads := getattr(attention, "n_kv_heads", None)) is not None:
        found["n_kv_heads"] = 1 if n_kv_heads == 1 else 2
    if (turned := value_at(config, "positions.dim")) is not None:
        found["positions.dim"] = max(2, 2 * round(4 * turned / attention.width(config.d_model)))
    if getattr(config, "d_embedding", None) is not None:
        found["d_embedding"] = 16
    return found


def shrunk(config: ModelConfig) -> ModelConfig:
    """A model like this one, but small, its windows narrower than the texts that are compared."""
    return config.from_dict(_narrowed(config.changed(**small(config)).to_dict()))


def _narrowed(fields: Any) -> Any:
    if isinstance(fields, list):
        return [*map(_narrowed, fields)]
    if not isinstance(fields, dict):
        return fields
    return {name: 7 if name == "window" and value else _narrowed(value) for name, value in fields.items()}


def with_noise(config: ModelConfig) -> Any:
    """A model on all of whose weights is noise."""
    torch.manual_seed(0)
    model = build(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn_like(weight)
    return model


def preset_row(name: str, folder: Path) -> Row:
    """Fields of a preset, in small."""
    model = with_noise(shrunk(get_config(name, vocab_size=97)))
    return _row(name, model, folder, lambda place: to_huggingface(model, place))


def recipe_row(name: str, folder: Path) -> Row:
    """The model that a recipe trains, in small, with its tokenizer."""
    run = recipe_run(name, folder)

    def same_ids(place: Path) -> None:
        again = AutoTokenizer.from_pretrained(place)
        for line in LINES[:20]:
            ids = getattr(run.tokenizer, "source", run.tokenizer).encode(line)
            found = again(line)["input_ids"]
            assert found == [*ids, *found[len(ids) :]], f"ids {found}, not {ids}"
            assert len(found) == len(ids) or found[len(ids) :] == [run.model.config.eos_id]

    return _row(name, run.model, folder, lambda place: write_huggingface(run, place), same_ids)


def recipe_run(name: str, folder: Path) -> Any:
    """A run of a recipe that was not trained, of a small model."""
    fields = yaml.safe_load(RECIPES[name].read_text("utf-8"))
    kind = kind_of_recipe(fields)
    recipe = parse_recipe(kind.recipe, [str(RECIPES[name])])
    if recipe.model.init_from is not None:
        return _downloaded(recipe.model.init_from, folder / "start")
    settings = recipe.tokenizer
    if kind is TRANSLATION:
        settings = replace(settings, vocab_size=97)
        tokenizer: Any = TranslationTokenizer.train(LINES, REFERENCES, settings)
    else:
        settings = replace(settings, vocab_size=400) if settings.vocab_size is not None else settings
        is_ready = settings.kind == "tiktoken"  # whose files are in no package
        tokenizer = TiktokenTokenizer(small_bpe()) if is_ready else make_tokenizer(settings, [*LINES, printable])
    config = kind.model_config(recipe, tokenizer, None)
    model = with_noise(shrunk(config))
    if kind is TRANSLATION:
        return Run(model, tokenizer, {}, 64)
    return (EncoderRun if kind is MASKED else TextRun)(model, tokenizer, {})


def _downloaded(name: str, folder: Path) -> Any:
    """What a recipe goes on from: a GPT-2 of the hub, or what another recipe made, exported and imported again."""
    if name.startswith("runs/"):
        write_huggingface(recipe_run("tatoeba_marian", folder), folder)
    else:
        hub.gpt2(folder)
    return imported_run(from_huggingface(folder), folder)


def _row(name: str, model: Any, folder: Path, write: Callable[[Path], object], *checks: Callable[[Path], None]) -> Row:
    found: dict[str, Any] = {}
    place = folder / "theirs"

    def to_transformers() -> None:
        write(place)
        read = read_theirs(model, place)
        assert_same_logits(model, read)
        found.update(read=read, model_type=read.config.model_type)
        for check in checks:
            check(place)

    def to_ctranslate2() -> None:
        check_ctranslate2(model.config)
        assert_same(model, folder / "ctranslate2")

    there = _said(to_transformers)
    back = _said(lambda: assert_same_logits(from_huggingface(place), found["read"])) if found else "-"
    return Row(name, found.get("model_type", "-"), there, back, _said(to_ctranslate2))


def _said(check: Callable[[], None]) -> str:
    try:
        check()
    except UserError as error:
        return str(error)
    except AssertionError as error:
        return "different: " + " ".join(str(error).split())[:120]
    except Exception as error:  # whatever the others' programs raise
        return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    return "equal"


def rows(*patterns: str) -> Iterator[Row]:
    """The results of all presets and recipes whose names match."""
    names = {**dict.fromkeys(tz.list_models(), preset_row), **dict.fromkeys(RECIPES, recipe_row)}
    for name, make in names.items():
        if any(fnmatchcase(name, pattern) for pattern in patterns or ("*",)):
            with TemporaryDirectory() as folder:
                yield make(name, Path(folder))


def main() -> None:
    """Prints the table."""
    print("| model | transformers | | back again | CTranslate2 |\n|---|---|---|---|---|")
    for row in rows(*sys.argv[1:]):
        print(f"| {row.name} | {row.model_type} | {row.transformers} | {row.back} | {row.ctranslate2} |", flush=True)


if __name__ == "__main__":
    main()
