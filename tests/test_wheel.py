"""After `pip install` alone you can train: from a wheel in a fresh environment, and from `pip install -e`."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
from email import message_from_bytes
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.faults.tiny import write_recipe

PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
OFFLINE = ["--no-index", "--no-deps", "--no-build-isolation"]


def run(*command: object, cwd: Path) -> str:
    """What a command prints, with nothing of this repository on its path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is in git, somewhere else."""
    folder = tmp_path_factory.mktemp("source")
    for name in run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=root).split("\0"):
        if name and (root / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((root / name).read_bytes())
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(*PIP, "wheel", *OFFLINE, "--wheel-dir", folder, source, cwd=folder)
    return next(folder.glob("*.whl"))


def environment(folder: Path, *install: object) -> Path:
    """The commands of a fresh environment with the package installed, and beside it what it depends on."""
    venv.create(folder, symlinks=True)
    packages = Path(sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})["purelib"])
    (packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")  # without what it would install
    run(*PIP, "--python", folder / "bin" / "python", "install", *OFFLINE, "--ignore-installed", *install, cwd=folder)
    return folder / "bin"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["wheel", "editable"])
def test_it_trains_all_kinds(how: str, source: Path, wheel: Path, tmp_path: Path) -> None:
    commands = environment(tmp_path / "env", *([wheel] if how == "wheel" else ["-e", source]))
    place = tmp_path / "place"
    place.mkdir()
    where = "import transformer_zoo; print(transformer_zoo.__file__)"
    inside = source if how == "editable" else tmp_path / "env"
    assert Path(run(commands / "python", "-c", where, cwd=place).strip()).is_relative_to(inside)
    assert "numbers" in run(commands / "transformer-zoo", "recipes", cwd=place)
    run(commands / "transformer-zoo", "recipes", "numbers", cwd=place)
    (place / "input.txt").write_text("To be, or not to be.\n" * 20, "utf-8")
    run(commands / "transformer-zoo", "prepare", "tinyshakespeare", "--from", ".", cwd=place)
    assert (place / "data" / "tinyshakespeare" / "val.txt").is_file()
    for kind in ("translation", "gpt", "masked"):
        recipe = write_recipe(place, kind)
        out = place / f"run_{kind}"
        options = ["--run_dir", out, "--training.max_updates", 2, "--validation.every", 2]
        options += ["--schedule.decay", 1] if kind != "translation" else []
        run(commands / "transformer-zoo", "train", recipe, *options, cwd=place)
        assert json.loads((out / "results.json").read_text())["step"] == 2


@pytest.mark.slow
def test_the_wheel_has_every_recipe_and_no_corpus(root: Path, wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = {name.partition("/shipped/")[2] for name in archive.namelist() if "/shipped/" in name}
        inside = {
            name for name in archive.namelist() if name.startswith("transformer_zoo/") and "/shipped/" not in name
        }
    wanted = run("git", "ls-files", "recipes/*/train.py", "recipes/*/*.yaml", "data/*/prepare.py", cwd=root).split()
    assert names == set(wanted)
    assert inside == {*run("git", "ls-files", "transformer_zoo", cwd=root).split()}


@pytest.mark.slow
@pytest.mark.parametrize("address", [None, "https://example.org/zoo"])
def test_links_of_the_page_on_an_index_lead_somewhere(address: str | None, source: Path, tmp_path: Path) -> None:
    project = source / "pyproject.toml"
    before = project.read_text("utf-8")
    if address is not None:
        project.write_text(f'{before}\n[project.urls]\nSource = "{address}"\n', "utf-8")
    try:
        run(*PIP, "wheel", *OFFLINE, "--wheel-dir", tmp_path, source, cwd=tmp_path)
    finally:
        project.write_text(before, "utf-8")
    with ZipFile(next(tmp_path.glob("*.whl"))) as archive:
        [name] = [name for name in archive.namelist() if name.endswith("/METADATA")]
        page = message_from_bytes(archive.read(name)).get_payload()
    links = re.findall(r"\]\(([^)]+)\)", str(page))
    assert len(links) > (3 if address else 0)
    assert [link for link in links if not re.match(r"\w+:", link)] == []
    assert (f"{address}/blob/main/docs/results.md" in links) == (address is not None)
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", str(page))
    assert pictures == ([f"{address}/raw/main/docs/pictures/page.png"] if address else [])
    assert "!The page" not in str(page)


USER = """from transformer_zoo import create_model, translator
reveal_type(create_model("gpt-nano"))
number: int = translator("runs/numbers")
"""


def checked(file: Path, python: Path) -> str:
    """What mypy says of a file where this Python's packages are installed."""
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--cache-dir",
        os.devnull,
        "--python-executable",
        python,
        file.name,
    ]
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
    return subprocess.run(command, cwd=file.parent, env=clean, capture_output=True, text=True).stdout


@pytest.mark.slow
def test_type_checkers_read_the_types_of_what_is_installed(wheel: Path, tmp_path: Path) -> None:
    commands = environment(tmp_path / "env", wheel)
    (tmp_path / "user.py").write_text(USER)
    found = checked(tmp_path / "user.py", commands / "python")
    assert 'Revealed type is "transformer_zoo.models.' in found
    [error] = [line for line in found.splitlines() if " error: " in line]
    assert error.startswith("user.py:3:")
    assert 'variable has type "int"' in error
    [marker] = (tmp_path / "env").rglob("transformer_zoo/py.typed")
    marker.unlink()
    found = checked(tmp_path / "user.py", commands / "python")
    assert "user.py:1: error" in found
    assert "py.typed" in found
