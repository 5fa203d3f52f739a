"""Loads the scripts data/<corpus>/prepare.py and runs them as people do."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def load() -> Callable[[str], ModuleType]:
    def load_corpus(corpus: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"prepare_{corpus}", ROOT / "data" / corpus / "prepare.py")
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load_corpus


@pytest.fixture
def run_script() -> Run:
    def run(corpus: str, *arguments: object, before: str = "", after: str = "") -> subprocess.CompletedProcess[str]:
        script = str(ROOT / "data" / corpus / "prepare.py")
        code = f"import runpy, sys; {before}\nrunpy.run_path(sys.argv[0], run_name='__main__'); {after}"
        code = f"import sys; sys.argv = {[script, *map(str, arguments)]!r}; {code}"
        environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
        return subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env=environment,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keeps what `datasets` caches inside the test's folder."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def read() -> Callable[[Path], dict[str, str]]:
    """The files of a folder, whole, by name."""
    return lambda folder: {path.name: path.read_bytes().decode() for path in sorted(folder.iterdir()) if path.is_file()}
