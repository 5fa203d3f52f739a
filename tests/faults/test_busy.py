"""The verdict on a busy machine, from figures as they were measured without a choice of threads."""

from pathlib import Path

import pytest

from . import busy

CHOSEN = "as it chooses"
ALONE = {"one thread": 6500, "all threads, GOMP_SPINCOUNT=20000": 10500}
TOGETHER = {"one thread": 6450, "all threads, GOMP_SPINCOUNT=20000": 840}


@pytest.mark.parametrize(
    ("alone", "together", "bad"),
    [(10000, 6000, [0, 0]), (9000, 6000, [1, 0]), (10500, 840, [0, 1]), (6500, 6450, [1, 0])],
)
def test_each_figure_is_held_against_the_best_fixed_choice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], alone: float, together: float, bad: list[int]
) -> None:
    def speeds(recipe: Path, folder: Path, environment: dict[str, str], n: int) -> list[float]:
        choice = next((name for name, fixed in busy.FIXED.items() if fixed == environment), CHOSEN)
        figures = {**(ALONE if n == 1 else TOGETHER), CHOSEN: alone if n == 1 else together}
        return [figures.get(choice, 100.0)] * n

    monkeypatch.setattr(busy, "speeds", speeds)
    counts = list(busy.run(2, 1))
    assert [count.what for count in counts] == ["alone", "side by side"]
    assert [list(count.bad.values()) for count in counts] == [[number] for number in bad]
    assert capsys.readouterr().out.count("busy: ") == 2 * 2 * (1 + len(busy.FIXED))
