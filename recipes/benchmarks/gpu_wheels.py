"""Packages that a bare GPU machine lacks, as wheels beside gpu.py; `make gpu-wheels` downloads them.

    python recipes/benchmarks/gpu_wheels.py

They go to recipes/benchmarks/gpu_files/wheels, which git ignores, in the versions of constraints.txt. gpu.py uses those
that fit its Python. The tree and the wheels together must stay under 64 MiB, and their size is printed.
"""

import platform
import re
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = Path(__file__).with_name("gpu_files")
PACKAGES = ("jsonargparse", "docstring_parser", "sentencepiece")
PYTHON, SYSTEMS = "3.12", (17, 27, 28)  # manylinux_2_N
BUDGET = 64 << 20  # bytes


def fits(wheel: str, python: tuple[int, int], machine: str) -> bool:
    """Whether a wheel of this file name can be imported by this Python."""
    _, tag, _, system = wheel.removesuffix(".whl").rsplit("-", 3)
    return (system == "any" or system.endswith(machine)) and bool(
        {"py3", f"cp{python[0]}{python[1]}"} & set(tag.split("."))
    )


def unpack(files: Path, folder: Path) -> None:
    """Puts the packages of all wheels in `files` that fit into a folder, from where they can be imported."""
    for wheel in sorted((files / "wheels").glob("*.whl")):
        if fits(wheel.name, sys.version_info[:2], platform.machine()):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder)


def wanted() -> list[str]:
    """The packages with their versions."""
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.M))
    return [f"{name}=={pins[name]}" for name in PACKAGES]


def download() -> None:
    """Fetches the wheels, and only wheels, for the Python and system to be expected."""
    systems = [word for n in SYSTEMS for word in ("--platform", f"manylinux_2_{n}_x86_64")]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", PYTHON, "--implementation", "cp", *systems, "--dest", str(FILES / "wheels")]
    subprocess.run([*command, *wanted()], check=True)


def weigh() -> int:
    """Bytes of what travels: the files of git's tree, those it does not ignore, and what lies beside the script."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    paths = {ROOT / name for name in listed.split("\0") if name} | {path for path in FILES.rglob("*") if path.is_file()}
    return sum(path.stat().st_size for path in paths if path.is_file())


def main() -> int:
    """Download, compare the sizes, and fail if they are too large."""
    for old in (FILES / "wheels").glob("*.whl"):
        old.unlink()
    download()
    for wheel in sorted((FILES / "wheels").glob("*.whl")):
        print(f"{wheel.stat().st_size / 2**20:6.2f} MiB  {wheel.name}")
    total = weigh()
    print(f"{total / 2**20:6.2f} MiB  the tree with {FILES.relative_to(ROOT)}, of at most {BUDGET >> 20}")
    return int(total > BUDGET)


if __name__ == "__main__":
    sys.exit(main())
