"""A corpus is its own folder: a script and a page put there are all that it takes, and nothing else names it."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

RECIPE = """
run_dir: run
data:
  source_lang: en
  target_lang: num
  train: {source: squares/train.en, target: squares/train.num}
  validation: {source: squares/val.en, target: squares/val.num}
tokenizer: {kind: characters}
model: {preset: transformer-small, d_model: 16, n_heads: 2, d_ff: 16, n_encoder_layers: 1, n_decoder_layers: 1}
training: {batch_tokens: 300, max_updates: 2}
validation: {bleu_sentences: 2}
"""


def test_one_folder_is_a_corpus_that_a_recipe_trains_on(root: Path, tmp_path: Path) -> None:
    page = (root / "docs" / "train_your_own.md").read_text(encoding="utf-8")
    [code] = re.findall(r'```python\n("""Writes squares.*?)```', page, re.DOTALL)
    (tmp_path / "squares").mkdir()
    (tmp_path / "squares" / "prepare.py").write_text(code, encoding="utf-8")
    (tmp_path / "run.yaml").write_text(RECIPE, encoding="utf-8")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(root)}
        return subprocess.run([sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)

    said = run("squares/prepare.py", "--help").stdout
    assert "Write squares as train, val and test" in said
    assert "the largest number that is squared" in said
    wrong = run("squares/prepare.py", "--largst", "9")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert run("squares/prepare.py", "--largest", "1", "--out", "few").stderr.startswith("error: ")
    done = run("squares/prepare.py", "--largest", "200", "--out", "squares")
    assert done.returncode == 0, done.stderr
    names = {f"{split}.{side}" for split in ("train", "val", "test") for side in ("en", "num")}
    assert {path.name for path in (tmp_path / "squares").iterdir()} == {"prepare.py", *names}
    trained = run(str(root / "recipes" / "translation" / "train.py"), "run.yaml")
    assert trained.returncode == 0, trained.stderr


def corpora(root: Path) -> list[str]:
    return sorted(path.parent.name for path in root.glob("data/*/prepare.py"))


@pytest.mark.parametrize("corpus", corpora(Path(__file__).parents[2]))
def test_the_package_names_no_corpus(corpus: str, root: Path) -> None:
    assert (root / "data" / corpus / "README.md").is_file()
    named = [
        path
        for path in (root / "transformer_zoo").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in (corpus, f"data/{corpus}", f"data/{corpus}/prepare.py")
    ]
    assert named == []
