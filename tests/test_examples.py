"""Every public function and class shows its use: an example in its docstring, which is executed here.

An example runs in a folder of its own after these lines, and after the example in the docstring of its package:

    import numpy as np
    import torch
    import transformer_zoo as tz
    from transformer_zoo.ROOM import *
"""

import dataclasses
import doctest
import inspect
import re
import shutil
from collections.abc import Callable, Iterable
from contextlib import chdir
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import pytest
import torch

ROOMS = (
    "blocks", "models", "config", "inference", "evaluation", "tokenizers", "data", "zoo", "kernels", "runs",
    "pictures", "serving",
)  # fmt: skip
MOST_STATEMENTS, MOST_OUTPUT = 3, 3


def exported(room: str) -> dict[str, Any]:
    module = import_module(room)
    return {name: getattr(module, name) for name in module.__all__}


def taken(things: Iterable[Any]) -> set[str]:
    """Words in the annotations of what functions and constructors take."""
    calls = [thing.__init__ if inspect.isclass(thing) else thing for thing in things]
    hints = (str(hint) for call in calls for name, hint in inspect.get_annotations(call).items() if name != "return")
    return {word for hint in hints for word in re.findall(r"\w+", hint)}


def has_use(thing: Any, wanted: set[str]) -> bool:
    """A function or a class; but no protocol, and of named tuples those that something takes."""
    if not inspect.isclass(thing):
        return inspect.isroutine(thing)
    return thing.__name__ in wanted if issubclass(thing, tuple) else Protocol not in thing.__bases__


def public() -> dict[str, tuple[str, Any]]:
    """Package and object of each public name. A name that several packages have belongs to the one that defines it."""
    rooms = {room: exported(room) for room in ["transformer_zoo", *(f"transformer_zoo.{room}" for room in ROOMS)]}
    wanted = taken(thing for things in rooms.values() for thing in things.values() if has_use(thing, set()))
    found: dict[str, tuple[str, Any]] = {}
    for room, things in rooms.items():
        for name, thing in things.items():
            if has_use(thing, wanted) and (name not in found or thing.__module__.startswith(f"{room}.")):
                found[name] = room, thing
    return found


PUBLIC = public()


def example_of(text: str | None) -> list[doctest.Example]:
    return doctest.DocTestParser().get_examples(inspect.cleandoc(text or ""))


def faults(name: str, thing: Any) -> list[str]:
    """What is wrong with the example of a name, before it runs."""
    example = example_of(vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__)
    if not example:
        return ["there is none"]
    found = {
        f"more than {MOST_STATEMENTS} statements": len(example) > MOST_STATEMENTS,
        f"more than {MOST_OUTPUT} lines of output": any(one.want.count("\n") > MOST_OUTPUT for one in example),
        "options of doctest": any(one.options for one in example),
        "it does not use the name": not re.search(rf"\b{name}\b", "".join(one.source for one in example))
        and not (dataclasses.is_dataclass(thing) or hasattr(thing, "_fields")),  # which another function may give
    }
    return [fault for fault, is_there in found.items() if is_there]


def run(example: list[doctest.Example], names: dict[str, Any], title: str) -> None:
    test, said = doctest.DocTest(example, names, title, None, 0, None), list[str]()
    doctest.DocTestRunner(verbose=False).run(test, out=said.append, clear_globs=False)
    names.update(test.globs)
    assert not said, "".join(said)


Begin = Callable[[str], tuple[Path, dict[str, Any]]]


@pytest.fixture(scope="module")
def begin(tmp_path_factory: pytest.TempPathFactory) -> Begin:
    """What the example of a package leaves: its folder and its names; made once."""

    @cache
    def begun(room: str) -> tuple[Path, dict[str, Any]]:
        folder, names = tmp_path_factory.mktemp(room), dict[str, Any]()
        exec(f"import numpy as np, torch, transformer_zoo as tz\nfrom {room} import *", names)
        with chdir(folder):
            run(example_of(import_module(room).__doc__), names, room)
        return folder, names

    return begun


@pytest.mark.parametrize("name", PUBLIC)
def test_the_example_runs(name: str, begin: Begin, tmp_path: Path) -> None:
    room, thing = PUBLIC[name]
    assert not faults(name, thing), f"the example of {room}.{name}: {', '.join(faults(name, thing))}"
    folder, names = begin(room)
    torch.manual_seed(0)
    with chdir(shutil.copytree(folder, tmp_path, dirs_exist_ok=True)):
        run(example_of(thing.__doc__), {**names}, f"{room}.{name}")


def test_what_has_no_example_is_seen() -> None:
    class Heir(UserWarning):
        pass

    def silent() -> None:
        """It does nothing."""

    def other() -> None:
        """It skips.

        >>> 1 + 1  # doctest: +SKIP
        3
        """

    assert faults("Heir", Heir) == faults("silent", silent) == ["there is none"]
    assert len(faults("other", other)) == 2


def test_a_wrong_example_fails() -> None:
    with pytest.raises(AssertionError, match=r"Expected:\s+3\s+Got:\s+2"):
        run(example_of(">>> 1 + 1\n3"), {}, "sum")


def test_kinds_that_need_none() -> None:
    from transformer_zoo import data, evaluation, inference, models

    assert not has_use(models.DecodingModel, set())
    assert not has_use(inference.NewToken, {"Batch"})
    assert has_use(data.Piece, {"Piece"})
    assert not has_use(evaluation.METRICS, set())
