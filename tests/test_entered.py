"""How many functions a reader would have to follow."""

from pathlib import Path

import pytest

from tests.entered import BOUNDS, entered, examples

HOLD = ("generate beside the forward", "generate_plainly beside the forward")


def test_no_more_functions_are_entered_than_can_be_followed(tmp_path: Path) -> None:
    found = examples(tmp_path)
    assert found.keys() == BOUNDS.keys()
    for name in HOLD:
        functions, files = BOUNDS[name]
        assert len(found[name]) <= functions, sorted(found[name])
        assert files is None or len({file for file, _ in found[name]}) <= files, sorted(found[name])


def test_what_is_entered_is_seen() -> None:
    import transformer_zoo as tz
    from transformer_zoo.inference import context_start

    assert entered(lambda: None) == {}
    assert entered(lambda: context_start(9, 8)) == {"inference/plain.py": {"context_start"}}
    with pytest.raises(tz.UserError):
        entered(lambda: tz.generate(None, [[1]]))  # type: ignore[arg-type]
