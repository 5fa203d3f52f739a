"""The tests of a translation run: its translations and scores, kept in its folder with the texts they were made
from."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from transformer_zoo.data import ParallelFiles, ParallelText
from transformer_zoo.errors import UserError
from transformer_zoo.evaluation import corpus_score
from transformer_zoo.files import make_folder, write_text
from transformer_zoo.inference import Translation, translate_n_best
from transformer_zoo.runs.folder import read_results, trained_on
from transformer_zoo.runs.load import load_translation_run
from transformer_zoo.training.tasks.translation_recipe import TranslationRecipe


def score_tests(
    recipe: TranslationRecipe, tests: Mapping[str, ParallelText], run_dir: Path, device: torch.device
) -> dict[str, Any]:
    """Translate every test with the weights of a finished run, keep the translations, and print scores with signatures.

    Returns:
        By the test's name, as plain data: scores, signatures, how many translations are exactly right or were cut, and
        the settings of the search.
    """
    run, test = load_translation_run(run_dir, device=device), recipe.test
    longest, results = test.max_source_tokens or run.max_source_tokens, {}
    make_folder(run_dir, "test")
    about = {name: value for name, value in asdict(test.search).items() if name != "n_best" and value is not None}
    for name, text in tests.items():
        lines = translate_n_best(
            run.model,
            run.tokenizer,
            text.source,
            test.search,
            scored=False,
            never=test.never,
            max_source_tokens=longest,
            language=recipe.data.source_lang,
            name=name,
        )
        found = [best for [best] in lines]
        keep_test(run_dir, name, text, [best.text for best in found])
        results[name] = {**_scores(name, text, found, recipe), **about, "max_source_tokens": longest}
    return results


def _scores(name: str, text: ParallelText, found: list[Translation], recipe: TranslationRecipe) -> dict[str, Any]:
    """The results of one test, which are printed too."""
    hypotheses = [best.text for best in found]
    scores = corpus_score(hypotheses, text.references, recipe.test.metrics, tokenize=recipe.bleu_tokenize)
    same = sum(one in references for one, *references in zip(hypotheses, *text.references, strict=True))
    for score in scores:
        exact = f"({same} of {len(text)} exactly right)"
        print(f"{name}: {score.label} {score.score:.2f}  {score.signature}  {exact}", flush=True)
    return {
        **{score.metric: score.score for score in scores},
        "signatures": {score.metric: score.signature for score in scores},
        "exact": same,
        "sentences": len(text),
        "cut": sum(best.is_cut for best in found),
    }


def keep_test(run_dir: Path, name: str, text: ParallelText, hypotheses: list[str]) -> None:
    """A test as it was scored: its source, its references, its translations."""
    files = kept_test(run_dir, name, len(text.more))
    write = {Path(path): lines for path, lines in zip(files.paths, (text.source, *text.references), strict=True)}
    for path, lines in {**write, run_dir / "test" / f"{name}.hyp": hypotheses}.items():
        write_text(path, "".join(line + "\n" for line in lines))


def kept_test(run_dir: Path, name: str, n_more: int) -> ParallelFiles:
    """The files in which a run keeps a test that it was scored on, with this many further references."""
    source, target, *more = (
        str(run_dir / "test" / f"{name}.{kind}") for kind in ("src", "ref", *(f"ref{k + 2}" for k in range(n_more)))
    )
    return ParallelFiles(source=source, target=target, references=more)


def check_kept_tests(run_dir: Path, texts: Mapping[str, ParallelText]) -> None:
    """Check that tests are still those that the run was scored on, as far as the run says. UserError names one that is
    not."""
    checksums = trained_on(read_results(run_dir))
    for name, text in texts.items():
        kept = (run_dir / "test" / f"{name}.src").exists()
        if kept and checksums.get(f"data.tests.{name}", text.checksum) != text.checksum:
            raise UserError(
                f"{text.name} is damaged, {run_dir} was scored on another text: put it back from a copy, or remove "
                f"{run_dir / 'test' / name}.* to read what data.tests names"
            )
