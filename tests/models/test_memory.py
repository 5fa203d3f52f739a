"""What is free, by the system's files, and what is refused because of it."""

import math
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import transformer_zoo as tz
from transformer_zoo.errors import UserError
from transformer_zoo.models import memory
from transformer_zoo.models.memory import check_memory, check_weights, free_memory

CPU = torch.device("cpu")
KIB, GIB = 1 << 10, 1 << 30


def system(root: Path, files: dict[str, str]) -> Path:
    """A folder with files such as /proc and /sys have them."""
    for name, text in {
        "proc/meminfo": "MemTotal: 99 kB\nMemAvailable:    5000 kB\nSwapFree: 1000 kB\n",
        **files,
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 6000 * KIB),
        ({"proc/meminfo": "nothing: of use\n"}, math.inf),
        # Version 2: the group has no limit, the one around it has.
        (
            {
                "proc/self/cgroup": "0::/job/step\n",
                "sys/fs/cgroup/job/step/memory.max": "max\n",
                "sys/fs/cgroup/job/step/memory.current": "7000\n",
                "sys/fs/cgroup/job/memory.max": "100000\n",
                "sys/fs/cgroup/job/memory.current": "60000\n",
                "sys/fs/cgroup/job/memory.stat": "anon 3\ninactive_file 10000\n",
            },
            50_000,
        ),
        # In a container the group's own name is not to be seen.
        (
            {
                "proc/self/cgroup": "0::/docker/abc\n",
                "sys/fs/cgroup/memory.max": "2000\n",
                "sys/fs/cgroup/memory.current": "500\n",
            },
            1500,
        ),
        # Version 1.
        (
            {
                "proc/self/cgroup": "9:cpu:/x\n4:memory:/x\n",
                "sys/fs/cgroup/memory/x/memory.limit_in_bytes": "3000\n",
                "sys/fs/cgroup/memory/x/memory.usage_in_bytes": "1000\n",
                "sys/fs/cgroup/memory/x/memory.stat": "total_inactive_file 250\n",
            },
            2250,
        ),
        # More is used than allowed: nothing is free.
        (
            {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/memory.max": "10\n",
                "sys/fs/cgroup/memory.current": "500\n",
            },
            0,
        ),
    ],
)
def test_free_memory_is_the_least_that_system_and_control_groups_leave(
    tmp_path: Path, files: dict[str, str], expected: float
) -> None:
    assert free_memory(CPU, root=system(tmp_path, files)) == expected


def test_this_machine_has_memory_and_no_more_than_it_says() -> None:
    assert 0 < free_memory(CPU) < 1 << 50
    assert free_memory(torch.device("meta")) == math.inf


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of Linux")
def test_a_limit_of_address_space_counts() -> None:
    code = (
        "import torch; from transformer_zoo.models.memory import free_memory\nprint(free_memory(torch.device('cpu')))"
    )
    limit = 6 * GIB
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert 0 < float(done.stdout) < limit


def test_what_does_not_fit_is_said_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda device: 1000.0)
    check_memory({"weights": 600, "gradients": 400}, CPU, smaller="")
    with pytest.raises(UserError, match=r"^at least 1,001 bytes .*\(weights 601, gradients 400\), and 1,000 are free"):
        check_memory({"weights": 601, "gradients": 400, "nothing": 0}, CPU, smaller="take less")


def test_a_model_of_billions_is_refused_before_it_is_built() -> None:
    config = tz.get_config("gpt2", d_model=12_000_000)
    with pytest.raises(UserError, match=r"at least [\d,]{20,} bytes of memory are needed \(weights"):
        check_weights(config, CPU)
    for fields in ({"n_decoder_layers": 10_000, "d_ff": 10**9}, {"vocab_size": 2 * 10**9, "d_model": 10**5}):
        with pytest.raises(UserError, match="bytes of memory are needed"):
            tz.create_model("transformer-base", **fields)
    with pytest.raises(UserError, match="n_layers is 1000000000, expected at least 1 and at most 10,000"):
        tz.get_config("gpt2", n_layers=10**9)
    with torch.device("meta"):
        assert tz.create_model("gpt2", n_layers=1, d_model=12_000, n_heads=12).config.d_model == 12_000
