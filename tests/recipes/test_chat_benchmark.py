"""The benchmark on real weights: on made-up ones, its tables come out."""

import json
from importlib import import_module
from pathlib import Path

import pytest

from transformer_zoo.cli import main

from .. import hub
from .shown import shown

pytest.importorskip("transformers")


def test_the_tables(tmp_path: Path) -> None:
    benchmark = import_module("recipes.benchmarks.chat")
    hub.gpt2(tmp_path / "theirs")
    template = "{% for m in messages %}{{ m.content[:20] }}{% endfor %}a"
    (tmp_path / "theirs" / "chat_template.jinja").write_text(template)
    assert main(["import", str(tmp_path / "theirs"), str(tmp_path / "run")]) == 0
    path = tmp_path / "speed.json"
    options = f"--rounds 1 --new-tokens 3 --batches 1 4 --threads 1 --json {path}".split()
    benchmark.main([str(tmp_path / "run"), *options])
    found = json.loads(path.read_text())
    assert "| 1 | transformer_zoo, no copy | float32 |" in shown("chat", found, tmp_path)
    tables = found["tables"]
    assert [table["title"] for table in tables] == ["run, batch 1", "run, batch 4"]
    for table in tables:
        names = [row["name"] for row in table["rows"]]
        ours = benchmark.OURS
        assert names == [ours, f"{ours}, no copy", f"{ours}, plain", "Hugging Face"]
        assert all(row["speed"] > 0 for row in table["rows"])
