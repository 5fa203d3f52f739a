"""`transformer-zoo list` and `describe`."""

import json
import os
import resource
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import transformer_zoo as tz
from transformer_zoo.cli import main
from transformer_zoo.zoo.describe import outline
from transformer_zoo.zoo.families import FAMILIES


def test_list_names_and_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "gpt2*"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["gpt2", "124,439,808"]
    assert [name for name, _ in rows] == ["gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "gpt2-untied"]


def test_list_counts_every_architecture_as_it_is_built(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)
    assert list(counts) == tz.list_models()
    for name in tz.list_models():
        weights = outline(tz.get_config(name)).parameters()
        assert counts[name] == sum(weight.numel() for weight in weights), name


def test_the_module_lists_and_gives_its_version_without_torch(root: Path) -> None:
    code = (
        "import sys; from transformer_zoo.cli import main; status = main(sys.argv[1:]); "
        "assert 'torch' not in sys.modules; sys.exit(status)"
    )
    environment = {**os.environ, "PYTHONPATH": str(root)}
    for start in (["-c", code], ["-m", "transformer_zoo"]):
        listed = subprocess.check_output([sys.executable, *start, "list", "gpt2"], env=environment, text=True)
        assert listed.split() == ["gpt2", "124,439,808"]
    said = subprocess.check_output([sys.executable, "-m", "transformer_zoo", "--version"], env=environment, text=True)
    assert said == f"transformer-zoo {tz.__version__}\n"


def test_the_version_is_the_packages(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == tz.__version__


def test_families_are_listed_without_torch_and_at_once(root: Path) -> None:
    code = "import sys; from transformer_zoo.cli import main; main(sys.argv[1:]); assert 'torch' not in sys.modules"
    command = [sys.executable, "-c", code, "list", "--families"]
    environment, spent = {**os.environ, "PYTHONPATH": str(root)}, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    lines = subprocess.check_output(command, env=environment, text=True).splitlines()
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - spent < 2  # of the processor, which may be shared
    assert [line.split()[0] for line in lines] == list(FAMILIES)
    assert lines[list(FAMILIES).index("opt")].split()[1:4] == ["8", "opt-125m", "125,239,296"]


def test_families_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "gpt*", "--families", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {name for name in FAMILIES if name.startswith("gpt")}
    assert found["gpt2"]["architecture"] == "GPT2LMHeadModel"
    assert found["gpt2"]["sizes"]["gpt2"] == 124_439_808
    assert "activation_function" in found["gpt2"]["limits"]
    assert main(["list", "nothing*", "--families"]) == 1
    assert "no family is called 'nothing*'" in capsys.readouterr().err


def test_list_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "nothing*"]) == 1
    assert "no architecture is called 'nothing*'" in capsys.readouterr().err


def test_the_parts_of_gpt2_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "gpt2", "--json", "--dtype", "bfloat16"]) == 0
    found = json.loads(capsys.readouterr().out)
    attention, feed_forward = 4 * (768 * 768 + 768), 2 * 768 * 3072 + 3072 + 768
    assert dict(found["parameters"]) == {
        "token embedding": 50257 * 768,
        "decoder position embedding": 1024 * 768,
        "decoder layers": 12 * (attention + feed_forward + 4 * 768),
        "  one layer's self-attention": attention,
        "  one layer's feed-forward": feed_forward,
        "  one layer's norms": 4 * 768,
        "decoder final norm": 2 * 768,
    }
    assert found["total"] == 124_439_808
    assert found["weight_bytes"] == 2 * found["total"]
    assert found["cache_bytes"] == 2 * 2 * 12 * 768 * 1024
    products = 12 * (4 * 768 * 768 + 2 * 768 * 3072) + 50257 * 768
    assert found["forward_flops"] == 2 * products + 4 * 12 * 768 * 1024


def test_fields_are_options(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--n-layers", "2", "--bias", "false", "--tie-embeddings", "false", "--context", "10"]
    assert main(["describe", "gpt2", *options]) == 0
    table = capsys.readouterr().out
    assert f"{2 * 4 * 768 * 768 + 2 * 2 * 768 * 3072 + 2 * 4 * 768:,}" in table
    assert "head" in table
    assert "cache of a text of 10 tokens" in table


def test_all_other_fields_are_changed_by_their_address(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--change", "decoder.positions.base=5.0e+5", "ffn.gated=true", "--positions", "rotary"]
    assert main(["describe", "gpt2", "--json", *words]) == 0
    decoder = json.loads(capsys.readouterr().out)["config"]["decoder"]
    assert (decoder["positions"]["base"], decoder["layer"]["ffn"]["gated"]) == (5e5, True)
    assert main(["describe", "gpt2", "--change", "ffn.gated"]) == 2
    assert "--change ffn.gated: write a field and its value" in capsys.readouterr().err


def test_an_encoder_decoder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "transformer-base", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    top = {name: count for name, count in found["parameters"] if not name.startswith(" ")}
    assert sum(top.values()) == found["total"]
    attention, feed_forward = 4 * 512 * 512, 2 * 512 * 2048
    products = 6 * (3 * attention + 2 * feed_forward) + 512 * tz.get_config("transformer-base").vocab_size
    assert found["forward_flops"] == 2 * products + 4 * 3 * 6 * 512 * 1024


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["describe", "gpt2", "--change", "ffn.gatd=true"],
            "ffn.gatd: feedforward has no field 'gatd'; did you mean",
        ),
        (["describe", "gpt9"], "no architecture is called 'gpt9'"),
        (["describe", "gpt2", "--n-heads", "7"], "d_model 768 is not a multiple of n_heads 7"),
        (["describe", "gpt2", "--share-embeddings", "none"], "DecoderConfig has no field 'share_embeddings'"),
    ],
)
def test_what_is_refused(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("preset", ["gpt-nano", "gpt2", "llama-3.2-1b", "transformer-base"])
def test_the_table_of_what_fits_is_what_the_command_prints(
    preset: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = [line.split() for line in (root / "docs" / "gpu_memory.md").read_text("utf-8").splitlines()]
    assert main(["plan", preset]) == 0
    _, row = capsys.readouterr().out.splitlines()
    assert row.split() in table


def test_the_table_of_what_fits_has_every_architecture_once(root: Path) -> None:
    page = (root / "docs" / "gpu_memory.md").read_text("utf-8")
    table = page.partition("```text\n")[2].partition("```")[0].splitlines()[1:]
    assert [line.split()[0] for line in table] == tz.list_models()


def test_a_plan_for_other_gpus_and_other_training(capsys: pytest.CaptureFixture[str]) -> None:
    def most(*options: str) -> dict[str, int]:
        assert main(["plan", "gpt2", "--json", *options]) == 0
        found: dict[str, int] = json.loads(capsys.readouterr().out)["gpt2"]
        return found

    usual = most("--memory", "24", "4")
    assert list(usual) == ["length", "24 GB", "4 GB"]
    assert usual["length"] == 1024
    assert usual["24 GB"] % 1024 == 0 < usual["4 GB"] < usual["24 GB"] / 10
    assert most("--memory", "24", "--recompute")["24 GB"] > 4 * usual["24 GB"]
    assert most("--memory", "24", "--optimizer", "muon")["24 GB"] >= usual["24 GB"]
    assert most("--memory", "24", "--length", "128")["length"] == 128
    assert most("--memory", "1")["1 GB"] == 0
