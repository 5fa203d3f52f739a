"""The scores are sacreBLEU's own."""

import pytest
import sacrebleu

from transformer_zoo import UserError
from transformer_zoo.evaluation import METRICS, compare, corpus_score, metrics

REFERENCES = ["The cat sat on the mat.", "It is raining today.", "A dog runs, quickly!", "Nobody knows."]
HYPOTHESES = ["The cat sat on a mat.", "It is raining today.", "The dog ran quickly!", "nobody knows."]


def test_scores_and_signatures_are_those_of_sacrebleu() -> None:
    scores = corpus_score(HYPOTHESES, REFERENCES, METRICS)
    assert [score.metric for score in scores] == ["bleu", "chrf", "ter"]
    assert scores[0].score == pytest.approx(sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES]).score)
    assert scores[1].score == pytest.approx(sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES]).score)
    assert scores[2].score == pytest.approx(sacrebleu.corpus_ter(HYPOTHESES, [REFERENCES]).score)
    assert scores[0].signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert scores[0].details.startswith("BLEU = ")


def test_the_tokenizer_and_the_case_are_in_the_signature() -> None:
    [thirteen] = corpus_score(HYPOTHESES, REFERENCES)
    [none] = corpus_score(HYPOTHESES, REFERENCES, tokenize="none")
    [lower] = corpus_score(HYPOTHESES, REFERENCES, lowercase=True)
    assert "tok:none" in none.signature
    assert "case:lc" in lower.signature
    assert none.score != thirteen.score
    assert thirteen.score < lower.score


def test_a_perfect_translation() -> None:
    bleu, chrf, ter = corpus_score(REFERENCES, REFERENCES, METRICS)
    assert (bleu.score, chrf.score, ter.score) == pytest.approx((100, 100, 0))


def test_the_bootstrap_tells_a_difference_from_none() -> None:
    worse = [" ".join(line.split()[:2]) for line in REFERENCES] * 10
    [different] = compare(worse, REFERENCES * 10, REFERENCES * 10, n_samples=100)
    assert different.scores[0] < different.scores[1] == pytest.approx(100)
    assert different.p_value < 0.05
    assert "bs:100" in different.signature
    shuffled = [*HYPOTHESES[::-1]] * 10
    mixed = compare(HYPOTHESES * 10, shuffled, (REFERENCES + REFERENCES[::-1]) * 5, n_samples=100)[0]
    assert mixed.p_value > 0.05


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((HYPOTHESES, REFERENCES, ["blue"]), {}, "'blue'"),
        ((HYPOTHESES, REFERENCES), {"tokenize": "14a"}, "'14a'"),
        ((HYPOTHESES[:3], REFERENCES), {}, "3 translations and 4 references"),
        (([], []), {}, "no lines"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    arguments: tuple[list[str], ...], options: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        corpus_score(*arguments, **options)


@pytest.mark.parametrize(
    "error", [RuntimeError("\nPlease install\n\n  it"), OSError("no network"), SystemExit(1), ImportError("x")]
)
def test_a_tokenizer_that_needs_what_is_not_there_is_one_line(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Missing(metrics.BLEU):
        def __init__(self, **options: object) -> None:
            raise error

    monkeypatch.setattr(metrics, "BLEU", Missing)
    for ask in (
        lambda: metrics.check_tokenizer("ja-mecab"),
        lambda: metrics.corpus_score(["a"], ["a"], tokenize="flores200"),
    ):
        with pytest.raises(UserError, match="cannot be used here") as told:
            ask()
        assert "\n" not in str(told.value)
