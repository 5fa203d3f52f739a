"""A kind of tokenizer is one file: put into the package, it is taken by both recipes and by the commands."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

WORDS = ["banana", "hello", "the", "umbrella", "of", "seven", "people", "strength"]
RUNS = {
    "translation": """
run_dir: mt
data:
  source_lang: en
  target_lang: en
  train: {source: text, target: text}
  validation: {source: text, target: text}
model: {preset: transformer-small, d_model: 16, n_heads: 2, d_ff: 16, n_encoder_layers: 1, n_decoder_layers: 1}
training: {batch_tokens: 300, max_updates: 2}
validation: {bleu_sentences: 2}
tokenizer: {kind: syllables}
""",
    "gpt": """
run_dir: gpt
data: {train: {path: text}, validation: {path: more}, length: 16}
model: {preset: gpt2, d_model: 16, n_heads: 2, d_ff: 64, n_layers: 1}
training: {batch_tokens: 64, max_updates: 2}
tokenizer: {kind: syllables}
""",
}


def test_one_file_is_a_kind_in_both_recipes_and_all_commands(root: Path, tmp_path: Path) -> None:
    page = (root / "docs" / "tokenizers.md").read_text(encoding="utf-8")
    [code] = re.findall(r'```python\n("""Syllables:.*?)```', page, re.DOTALL)
    shutil.copytree(root / "transformer_zoo", tmp_path / "package" / "transformer_zoo")
    kinds = tmp_path / "package" / "transformer_zoo" / "tokenizers" / "kinds"
    (kinds / "syllables.py").write_text(code, encoding="utf-8")
    lines = [" ".join(WORDS[(i * k) % len(WORDS)] for k in range(1, 5)) for i in range(1, 30)]
    (tmp_path / "text").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "more").write_text("zebra banana\n", encoding="utf-8")

    def run(*words: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path / "package")}
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    for name, recipe in RUNS.items():
        (tmp_path / f"{name}.yaml").write_text(recipe, encoding="utf-8")
        run(sys.executable, str(root / "recipes" / name / "train.py"), f"{name}.yaml")
    program = "import sys; from transformer_zoo.cli import main; sys.exit(main())"
    zoo = (sys.executable, "-c", program)
    for folder, first in (("mt", "lines"), ("gpt", "syllables")):
        found = json.loads(run(*zoo, "tokenize", folder, "banana seven", "--json"))
        assert found["pieces"] == ["ba", "na", "na", " ", "se", "ve", "n"]
        assert found["text"] == "banana seven"
        saved = json.loads((tmp_path / folder / "tokenizer" / "tokenizer_kind.json").read_text("utf-8"))
        assert (saved["kind"] if folder == "gpt" else saved["source"]["kind"]) == first
    assert run(*zoo, "translate", "mt", "--input", "text", "--max-extra", "2").count("\n") == len(lines)
    run(*zoo, "generate", "gpt", "--prompt", "zebra", "--max-new-tokens", "3")
