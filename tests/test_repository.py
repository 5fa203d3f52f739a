"""What may lie in the repository."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml

import transformer_zoo as tz

LARGEST = 200_000  # bytes; code and prose stay far below it, a corpus or a model does not
PICTURES = {".png"}
LONGEST = 350  # lines of one file of the package, the recipes or the corpora; 300 is what to aim at
# Home folders, mounts and drive letters: paths that exist on one machine only.
MACHINE_PATH = re.compile(r"(?<![\w.~-])(/(home|root|Users|work|mnt|scratch)/[\w.-]+|[A-Z]:\\\\?Users)")


@pytest.fixture(scope="module")
def tracked(root: Path) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [root / name for name in listed.stdout.split("\0") if name and (root / name).is_file()]


def lines_of(paths: list[Path]) -> list[tuple[Path, int, str]]:
    return [
        (path, number, line)
        for path in paths
        if path.suffix not in PICTURES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    ]


def test_no_machine_paths(tracked: list[Path]) -> None:
    lines = lines_of(tracked)
    found = [f"{path}:{number}: {line}" for path, number, line in lines if MACHINE_PATH.search(line)]
    assert not found, "\n".join(found)


def test_the_machine_path_pattern_matches_one() -> None:
    assert MACHINE_PATH.search("--from /" + "home/somebody/corpus")
    assert not MACHINE_PATH.search("https://example.org/home/page and runs/home")


def test_no_conflict_markers(tracked: list[Path]) -> None:
    marks = ("<" * 7 + " ", ">" * 7 + " ")
    found = [f"{path}:{number}" for path, number, line in lines_of(tracked) if line.startswith(marks)]
    assert not found


def test_no_corpus_and_nothing_large(tracked: list[Path], root: Path) -> None:
    large = [str(path) for path in tracked if path.stat().st_size > LARGEST]
    assert not large
    kept = {"prepare.py", "README.md", "__init__.py"}
    corpora = [path for path in tracked if (root / "data") in path.parents]
    assert [str(path) for path in corpora if path.name not in kept and path.suffix != ".py"] == []


def test_code_files_stay_short(tracked: list[Path], root: Path) -> None:
    folders = {root / name for name in ("transformer_zoo", "recipes", "data")}
    code = [path for path in tracked if path.suffix == ".py" and folders.intersection(path.parents)]
    long = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in code}
    assert {name: n for name, n in long.items() if n > LONGEST} == {}


def test_every_constraint_is_exact(root: Path) -> None:
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)] == []


def canonical(name: str) -> str:
    return name.lower().replace("_", "-")


def declared(root: Path, *extras: str) -> set[str]:
    """Names of the dependencies of an install with these extras."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = sum((project["optional-dependencies"][extra] for extra in extras), project["dependencies"])
    return {re.split(r"[\[<>=]", requirement)[0] for requirement in wanted}


def test_what_is_imported_is_declared(tracked: list[Path], root: Path) -> None:
    imported = set()
    for path in tracked:
        if path.suffix == ".py" and path.relative_to(root).parts[0] in ("transformer_zoo", "recipes", "data"):
            siblings = {sibling.stem for sibling in path.parent.glob("*.py")}
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    imported |= {alias.name.split(".")[0] for alias in node.names} - siblings
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    imported |= {(node.module or "").split(".")[0]} - siblings
    imported -= {*sys.stdlib_module_names, "transformer_zoo", "recipes"}
    provided_by = packages_distributions()
    names = {canonical(name) for name in declared(root, "benchmark", "moses", "serve", "pictures", "wandb", "trackio")}
    packages = {name: {canonical(package) for package in provided_by.get(name, [name])} for name in imported}
    assert {name for name, package in packages.items() if not package & names} == set()


def test_every_dependency_is_pinned_and_explained(root: Path) -> None:
    names = declared(root, "test", "benchmark", "serve", "pictures", "docs")
    pins = (root / "constraints.txt").read_text(encoding="utf-8")
    pinned = {canonical(line.split("==")[0]) for line in pins.splitlines() if "==" in line}
    assert {name for name in names if canonical(name) not in pinned} == set()
    page = (root / "docs" / "dependencies.md").read_text(encoding="utf-8")
    assert {name for name in names if f"`{name}`" not in page} == set()


# Beside folders, and files whose name begins with a dot.
TOP_LEVEL = {
    "CITATION.cff", "LICENSE", "MANIFEST.in", "Makefile", "README.md", "constraints.txt", "pyproject.toml", "setup.py",
}  # fmt: skip


def test_the_top_level_stays_short(tracked: list[Path], root: Path) -> None:
    names = {path.name for path in tracked if path.parent == root and not path.name.startswith(".")}
    assert names == TOP_LEVEL
    folders = {path.relative_to(root).parts[0] for path in tracked if path.parent != root}
    assert folders == {".ci", ".github", "data", "docs", "recipes", "tests", "transformer_zoo"}


def project_of(root: Path) -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project


def test_one_version_and_one_name_of_the_authors(root: Path) -> None:
    project = project_of(root)
    cited = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    newest = re.search(r"^## (.+)$", (root / "docs" / "changelog.md").read_text(encoding="utf-8"), re.M)
    assert newest is not None
    assert project["version"] == tz.__version__ == cited["version"] == newest[1]
    assert project["authors"] == cited["authors"]
    assert project["authors"][0]["name"] in (root / "LICENSE").read_text(encoding="utf-8")
    assert (cited["license"], cited["abstract"]) == (project["license"], project["description"])
    assert {"cff-version", "message", "title"} <= cited.keys()


def test_only_versions_of_python_that_ran_the_suite_are_named(root: Path) -> None:
    named = re.findall(r"Python :: (3\.\d+)", " ".join(project_of(root)["classifiers"]))
    assert named
    page = (root / "docs" / "dependencies.md").read_text(encoding="utf-8")
    assert f"The whole suite runs on Python {' and '.join(named)}," in page
    readme = (root / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"Python (3\.\d+)", readme)) == set(named)
    assert "or newer" not in readme


def test_links_of_what_is_for_contributors_lead_somewhere(root: Path) -> None:
    pages = list((root / ".github").rglob("*.md"))
    assert len(pages) > 2
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))]
    assert [f"{page}: {link}" for page, link in links if not (page.parent / link).exists()] == []
