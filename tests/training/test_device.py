"""Which device, and how precise."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from transformer_zoo.errors import UserError
from transformer_zoo.kernels.cpu import cpu_has
from transformer_zoo.training.device import choose_device, choose_precision, seed_all, use_compile, use_tf32

CPU, MPS = torch.device("cpu"), torch.device("mps", 0)


@pytest.mark.parametrize("name", ["gpu", "cpu:x", "", "meta", "cuda:99", "mps", "mps:1"])
def test_a_device_that_is_not_there_is_refused_by_name(name: str) -> None:
    with pytest.raises(UserError, match="device: "):
        choose_device(name)


def computer(monkeypatch: pytest.MonkeyPatch, *, cuda: int = 0, mps: bool = False) -> None:
    """This one, with so many GPUs of NVIDIA, and one of Apple."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "found"),
    [(2, True, "cuda:0"), (1, False, "cuda:0"), (0, True, "mps:0"), (0, False, "cpu")],
)
def test_auto_prefers_cuda_then_mps_then_the_cpu(
    cuda: int, mps: bool, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    computer(monkeypatch, cuda=cuda, mps=mps)
    assert str(choose_device("auto")) == found
    assert choose_device("cpu") == CPU
    if mps:
        assert choose_device("mps") == choose_device("mps:0") == MPS


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mps", "device: mps asks for GPU 1, and 1 are here"),
        ("auto", "device: mps asks for GPU 1, and 1 are here"),
        ("mps:0", "device: mps:0 is one GPU, and several processes train"),
    ],
)
def test_an_apple_gpu_is_one(name: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    computer(monkeypatch, mps=True)
    with pytest.raises(UserError, match=message):
        choose_device(name, local_rank=1)


def test_an_apple_gpu_computes_in_float32_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformer_zoo.training.device.cpu_has_bfloat16", lambda: True)
    assert choose_precision("auto", CPU) == torch.bfloat16
    assert choose_precision("auto", MPS) == torch.float32
    assert choose_precision("bfloat16", MPS) == torch.bfloat16
    assert not use_compile("auto", MPS)


@pytest.fixture
def asked_again() -> Iterator[None]:
    """What the CPU can do is asked once a process: here it is asked again."""
    cpu_has.cache_clear()
    yield
    cpu_has.cache_clear()


@pytest.mark.usefixtures("asked_again")
@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, torch.bfloat16),
        ({"avx512_bf16": False, "amx_bf16": True}, torch.bfloat16),
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_a_cpu_takes_bfloat16_only_if_it_has_the_instructions(
    capabilities: dict[str, bool], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert choose_precision("auto", CPU) == dtype
    assert choose_precision("float32", CPU) == torch.float32
    assert choose_precision("bfloat16", CPU) == torch.bfloat16


@pytest.mark.usefixtures("asked_again")
def test_an_old_torch_cannot_say_and_gets_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert choose_precision("auto", CPU) == torch.float32


def test_compile_is_for_gpus_unless_asked_for() -> None:
    assert [use_compile(name, CPU) for name in ("auto", "always", "never")] == [False, True, False]


def test_seeds_differ_in_every_number() -> None:
    def draw(*numbers: int) -> float:
        seed_all(*numbers)
        return torch.rand(1).item()

    draws = [draw(1, 2, 3), draw(1, 2, 4), draw(1, 3, 3), draw(2, 2, 3), draw(3, 2, 1)]
    assert len(set(draws)) == 5
    assert draw(1, 2, 3) == draws[0]


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_tuned_malloc_keeps_pages_and_leaves_the_users_settings_alone() -> None:
    script = (
        "import os, resource, torch; from transformer_zoo.training.device import tune_malloc;"
        "print(tune_malloc());"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt;"
        "use = lambda: [torch.ones(1 << 23) is None for _ in range(4)];"
        "use(); use(); use(); before = faults(); use(); print(faults() - before)"
    )

    def run(**environment: str) -> list[str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_", "LD_PRELOAD"))}
        command = [sys.executable, "-c", script]
        result = subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=True)
        return result.stdout.split()

    tuned, faults = run()
    assert tuned == "True"
    assert int(faults) < 500  # one array of 32 MiB alone has 8,192 pages
    assert run(MALLOC_ARENA_MAX="4")[0] == "False"


def test_a_gpu_takes_float32_products_in_tf32() -> None:
    torch.set_float32_matmul_precision("highest")  # whatever trained before
    try:
        use_tf32(CPU)
        assert torch.get_float32_matmul_precision() == "highest"
        use_tf32(torch.device("cuda"))
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
        assert torch.get_float32_matmul_precision() == "high"  # which torch.compile asks for
    finally:
        torch.set_float32_matmul_precision("highest")
