"""Rows of gpu.py that are programs of their own: the published Multi30k setting, nanoGPT's, the tests marked `gpu`."""

import importlib
import json
import random
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import numpy as np

from recipes.benchmarks.gpu_report import Figure
from recipes.benchmarks.gpu_setting import NotHere, Setting

ROOT = Path(__file__).resolve().parents[2]
SPLITS = ("train", "val", "test_2016_flickr")
NEEDED = ("jsonargparse", "docstring_parser", "sentencepiece", "sacrebleu", "safetensors")
SCORING = 45  # seconds that are kept for what comes before and after training
TINY = """
--tokenizer.vocab_size 60 --model.d_model 16 --model.d_ff 32 --model.n_heads 2 --model.n_encoder_layers 1
--model.n_decoder_layers 1 --training.max_updates 4 --training.batch_tokens 256 --validation.every 2
--validation.bleu_sentences 2 --validation.samples 0 --checkpoint.every 2 --schedule.warmup 2 --test.beam 2
--test.max_extra 3 --device cpu
"""


def multi30k(setting: Setting) -> Iterator[Figure]:
    """recipes/translation/multi30k_published.yaml, then BLEU on test_2016_flickr: on Multi30k where it lies beside."""
    if missing := [name for name in NEEDED if not is_here(name)]:
        raise NotHere(f"{', '.join(missing)} missing: `make gpu-wheels` puts wheels beside the script")
    with TemporaryDirectory() as place:
        folder, run = Path(place), Path(place) / "run"
        made_up = not (setting.files / "multi30k").is_dir() or setting.rehearsal
        files = made_up_text(folder, setting) if made_up else found_text(setting.files / "multi30k")
        pairs = {split: {"source": str(files[split, "en"]), "target": str(files[split, "de"])} for split in SPLITS}
        words = [word for side, path in pairs["train"].items() for word in (f"--data.train.{side}", path)]
        words += [word for side, path in pairs["val"].items() for word in (f"--data.validation.{side}", path)]
        words += ["--data.tests", json.dumps({SPLITS[2]: pairs[SPLITS[2]]}), "--run_dir", str(run)]
        words += ["--training.max_minutes", f"{max(setting.seconds_left - SCORING, 1) / 60:.3f}"]
        words += TINY.split() if setting.rehearsal else []
        script = ROOT / "recipes" / "translation"
        program(sys.executable, str(script / "train.py"), str(script / "multi30k_published.yaml"), *words)
        yield from scores(run, made_up)


def scores(run: Path, made_up: bool) -> Iterator[Figure]:
    """What a finished run says of itself."""
    results: dict[str, Any] = json.loads((run / "results.json").read_text("utf-8"))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    trained = [line for line in lines if line["kind"] == "train"]
    test, seconds = results["tests"][SPLITS[2]], trained[-1]["seconds"]
    ended = f"{results['step']:,} updates, ended by {results['ended_by']}; {test['signatures']['bleu']}"
    yield Figure("updates", results["step"], "", 8000, note=f"ended by {results['ended_by']}")
    if results["ended_by"] == "max_updates":
        yield Figure("training", seconds / 60, "min", note="validations and checkpoints included")
    else:
        yield Figure("training", unit="min", note=f"not at its end after {seconds / 60:.2f} minutes")
    yield Figure("an update", 1000 * seconds / results["step"], "ms")
    if made_up:
        yield Figure("BLEU of made-up text", test["bleu"], note=ended)
        raise NotHere("Multi30k does not lie beside the script (docs/gpu_measure.md): the text was made up")
    yield Figure("BLEU", test["bleu"], note=ended)


def found_text(folder: Path) -> dict[tuple[str, str], Path]:
    """The files of the published setting, plain or .gz, by split and language.

    Raises:
        NotHere: one is missing.
    """
    found = {}
    for split in SPLITS:
        for language in ("en", "de"):
            names = [f"{split}.lc.norm.tok.{language}{end}" for end in ("", ".gz")]
            path = next((folder / name for name in names if (folder / name).is_file()), None)
            if path is None:
                raise NotHere(f"{folder}: neither {names[0]} nor {names[1]} is there")
            found[split, language] = path
    return found


def made_up_text(folder: Path, setting: Setting) -> dict[tuple[str, str], Path]:
    """Files of the same names: words that are spelt backwards in the other language, each pair of them exchanged."""
    draw = random.Random(1)
    syllables = [consonant + vowel for consonant in "bdfgklmnprst" for vowel in "aeiou"]
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 3))) for _ in range(setting.size(4000, 60))]
    found = {}
    for split, n in zip(SPLITS, setting.size((29_000, 1014, 1000), (80, 4, 4)), strict=True):
        sources = [draw.choices(words, k=min(40, 3 + int(draw.gammavariate(4, 2.5)))) for _ in range(n)]
        targets = [[word[::-1] for i in range(0, len(of), 2) for word in reversed(of[i : i + 2])] for of in sources]
        for language, lines in (("en", sources), ("de", targets)):
            found[split, language] = folder / f"{split}.{language}"
            text = "".join(" ".join(line) + "\n" for line in lines)
            found[split, language].write_text(text, encoding="utf-8")
    return found


def nanogpt(setting: Setting, windows: int) -> Iterator[Figure]:
    """nanoGPT's own train.py as it ships, on the text of the other rows: by the times that it prints."""
    files = [setting.files / "nanogpt" / name for name in ("model.py", "train.py")]
    if missing := [file.name for file in files if not file.is_file()]:
        raise NotHere(f"nanogpt/{missing[0]} does not lie beside the script (docs/gpu_measure.md)")
    length, n = setting.size(1024, 32), setting.size(windows, 2)
    changes: dict[str, Any] = {
        "dataset": "text", "batch_size": n, "block_size": length, "gradient_accumulation_steps": 1, "log_interval": 1,
        "eval_iters": 1, "eval_interval": 10**6, "max_iters": setting.size(40, 4), "device": setting.device.type,
        "compile": not setting.rehearsal, **setting.size({}, {"n_layer": 1, "n_head": 2, "n_embd": 16}),
    }  # fmt: skip
    with TemporaryDirectory() as place:
        for file in files:
            shutil.copy(file, place)
        # train.py runs this file, in which its own takes the command line apart.
        Path(place, "configurator.py").write_text("".join(f"{name} = {value!r}\n" for name, value in changes.items()))
        data = Path(place, "data", "text")
        data.mkdir(parents=True)
        for split in ("train", "val"):
            setting.tokens[0].astype(np.uint16).tofile(data / f"{split}.bin")
        with Path(place, "printed").open("w+", encoding="utf-8") as output:
            program(sys.executable, "train.py", folder=Path(place), output=output)
            output.seek(0)
            printed = output.read()
    times = [float(time) for time in re.findall(r"^iter \d+: .* time ([0-9.]+)ms", printed, re.MULTILINE)]
    later = times[len(times) // 2 :]  # the first ones load, evaluate, compile
    if not later:
        raise RuntimeError("train.py printed no line of an iteration: is it nanoGPT's?")
    note = f"{n} windows of {length}, the median of its last {len(later)} iterations"
    yield Figure("training, as it ships", 1000 * n * length / statistics.median(later), "tokens/s", note=note)


def marked_tests(setting: Setting) -> Iterator[Figure]:
    """`pytest -m gpu`, without the tests of what stands above; in a rehearsal they are only collected."""
    if not is_here("pytest"):
        raise NotHere("pytest is not installed")
    tests = sorted(path for path in (ROOT / "tests").rglob("test_*.py") if "pytest.mark.gpu" in path.read_text("utf-8"))
    files = [str(path.relative_to(ROOT)) for path in tests if not path.name.startswith("test_gpu_")]
    if not files:
        raise NotHere("tests/ is not there")
    how = ["--collect-only"] if setting.rehearsal else ["-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", *how, *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr, file=sys.stderr)
    if done.returncode > 1:
        raise RuntimeError((done.stdout + done.stderr).strip().splitlines()[-1])
    if found := re.search(r"(\d+)(?:/\d+)? tests? collected", done.stdout):
        yield Figure("tests marked gpu", int(found[1]), note="collected only")
        return
    counts = {kind: int(n) for n, kind in re.findall(r"(\d+) (passed|failed|error)", done.stdout)}
    yield Figure("tests that pass", counts.get("passed", 0))
    yield Figure("tests that fail", counts.get("failed", 0) + counts.get("error", 0), "", 0, True)


def is_here(package: str) -> bool:
    """Whether a package can be imported."""
    try:
        importlib.import_module(package)
    except ImportError:
        return False
    return True


def program(*command: str, folder: Path = ROOT, output: IO[str] | None = None) -> None:
    """Runs it in a folder; what it prints goes to `output`, else to the log.

    Raises:
        RuntimeError: it failed; the message is the last line of its standard error.
    """
    out = sys.stderr if output is None else output
    done = subprocess.run(command, cwd=folder, stdout=out, stderr=subprocess.PIPE, text=True, check=False)
    print(done.stderr, file=sys.stderr)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["nothing on standard error"]
        raise RuntimeError(f"{Path(command[1]).name} ended with status {done.returncode}: {lines[-1]}")
