"""Which named functions of the package a call enters: what somebody who follows it in a debugger has to know.

`python -m tests.entered [WORD ...]` prints how many there are, by example; of examples with a WORD in them also which.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import CodeType, FrameType
from typing import Any

import torch

import transformer_zoo as tz
from transformer_zoo.config import Sampling
from transformer_zoo.inference import Speculation, generate_plainly

PACKAGE = str(Path(tz.__file__).parent)
Entered = set[tuple[str, str]]
BOUNDS = {
    "tz.generate of 4 tokens": (40, 12),
    "generate beside the forward": (39, 13),
    "generate_plainly beside the forward": (8, 4),
    "forward of gpt-nano": (20, None),
    "forward of a Llama": (24, None),
    "import of a GPT-2 folder": (100, 25),
}
"""Most functions, and most files that they are in."""


def entered(call: Callable[[], object]) -> dict[str, set[str]]:
    """File of the package -> the functions in it that the call enters, made for the second time.

    Lambdas, comprehensions and class bodies have no name, and count as part of what they stand in.
    """
    call()
    codes: set[CodeType] = set()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            codes.add(frame.f_code)

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    found: dict[str, set[str]] = {}
    for code in codes:
        if not code.co_name.startswith("<"):
            found.setdefault(code.co_filename.removeprefix(PACKAGE)[1:], set()).add(code.co_qualname)
    return found


def n_entered(call: Callable[[], object]) -> int:
    """How many they are."""
    return sum(map(len, entered(call).values()))


def flat(call: Callable[[], object]) -> Entered:
    """File and name of each."""
    return {(file, name) for file, names in entered(call).items() for name in names}


def tiny_gpt() -> Any:
    return tz.create_model("gpt-nano", vocab_size=50, d_model=16, n_heads=2, d_ff=32, n_layers=2).eval()


def tiny_llama() -> Any:
    return tz.create_model(
        "tinyllama-1.1b", vocab_size=50, d_model=16, n_heads=4, n_kv_heads=2, d_ff=32, n_layers=2
    ).eval()


def two_steps(model: Any) -> None:
    """What the contract asks of a model: a beginning, steps, logits."""
    cache = model.begin([model.opening([1, 2, 3])], model.facts.context)
    for new in ([1, 2, 3], [4]):
        model.logits(model.step(torch.tensor([new]), cache))


def examples(folder: Path) -> dict[str, Entered]:
    """What each of `BOUNDS` enters; a GPT-2 is written into the folder."""
    gpt, llama, ids = tiny_gpt(), tiny_llama(), torch.tensor([[1, 2, 3]])
    greedy, guess = Sampling(temperature=0), Speculation(lookup=0)
    plainly = flat(partial(generate_plainly, gpt, [1, 2, 3], greedy, max_new_tokens=4))
    with torch.inference_mode():
        forward = flat(partial(two_steps, gpt))
        forwards = {"gpt": flat(lambda: gpt(ids)), "llama": flat(lambda: llama(ids))}
    tz.to_huggingface(tz.create_model("gpt2", vocab_size=50, d_model=16, n_heads=2, d_ff=64, n_layers=2), folder)
    generating = flat(lambda: tz.generate(gpt, [[1, 2, 3]], greedy, max_new_tokens=4, speculation=guess))
    return {
        "tz.generate of 4 tokens": generating,
        "generate beside the forward": generating - forward,
        "generate_plainly beside the forward": plainly - forward,
        "forward of gpt-nano": forwards["gpt"],
        "forward of a Llama": forwards["llama"],
        "import of a GPT-2 folder": flat(lambda: tz.from_huggingface(folder)),
    }


def main() -> None:
    """Prints the counts; with names, where some are given, of the functions too."""
    with TemporaryDirectory() as folder:
        for name, found in examples(Path(folder)).items():
            files = {file for file, _ in found}
            print(f"{name}: {len(found)} functions in {len(files)} files, at most {BOUNDS[name]}")
            if any(word in name for word in sys.argv[1:]):
                print("".join(f"    {file}: {function}\n" for file, function in sorted(found)))


if __name__ == "__main__":
    main()
