"""The programs of this repository, imported once and called like their command lines."""

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
TRAINERS = ("recipes/gpt/train.py", "recipes/translation/train.py")
PREPARING = tuple(f"data/{path.parent.name}/prepare.py" for path in sorted(ROOT.glob("data/*/prepare.py")))
# Modules that programs import late, and that every fork would import again.
LATE = (
    "datasets", "huggingface_hub", "jsonargparse", "sacrebleu", "safetensors.torch", "tensorboard", "tokenizers",
    "torch._dynamo", "torch.utils.tensorboard", "transformer_zoo.cli.commands", "transformer_zoo.cli.evaluate",
    "transformer_zoo.cli.chat", "transformer_zoo.cli.exchange", "transformer_zoo.cli.generate",
    "transformer_zoo.cli.zoo", "transformer_zoo.inference", "transformer_zoo.models", "transformer_zoo.runs.session",
    "transformer_zoo.runs.huggingface", "transformer_zoo.zoo.describe", "transformer_zoo.zoo.huggingface",
)  # fmt: skip

_scripts: dict[str, ModuleType] = {}


def load() -> None:
    """Imports all programs and what they need."""
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    for name in LATE:
        importlib.import_module(name)
    for name in (*TRAINERS, *PREPARING):
        spec = importlib.util.spec_from_file_location(name.replace("/", "_").removesuffix(".py"), ROOT / name)
        assert spec is not None
        assert spec.loader is not None
        _scripts[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(_scripts[name])


def run(program: str, *arguments: str) -> int:
    """The exit status of a program with these arguments, in this process."""
    from transformer_zoo.cli import main
    from transformer_zoo.data import corpora
    from transformer_zoo.errors import run_program

    sys.argv = [program, *arguments]
    if program == "transformer-zoo":
        return main()
    script = _scripts[program]
    if program in TRAINERS:
        return run_program(lambda: script.main(list(arguments)))
    corpora.run(script.prepare)
    return 0
