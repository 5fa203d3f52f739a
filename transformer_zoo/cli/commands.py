"""The commands of `transformer-zoo`; their docstrings are its --help. Torch is imported when they run."""

import json as jsonlib
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jsonargparse.typing import PositiveInt

from transformer_zoo.cli.search import Languages, SearchOptions
from transformer_zoo.cli.streams import input_lines, open_output, warn_of_cuts, with_progress
from transformer_zoo.errors import UsageError, UserError

if TYPE_CHECKING:
    from transformer_zoo.data.parallel import ParallelText


def translate(
    run: Path,
    search: SearchOptions,
    languages: Languages,
    input: Path | None = None,
    output: Path | None = None,
    n_best: PositiveInt | None = None,
    prefix: str = "",
    window: PositiveInt | None = None,
) -> None:
    """Translate text: a line in, a line out, in the order of the input.

    Translations are written as batches finish. An empty line gives an empty line. A line longer than those the
    model was trained on is translated in pieces, and a warning gives its number; another one if a translation
    was ended by --max-extra.

    Args:
        run: Folder of a trained run.
        search: Search.
        languages: Languages.
        input: Text to translate, one sentence a line, plain or .gz; standard input by default.
        output: Where translations go; standard output by default.
        n_best: Write the N best translations of each line, best first, as `line number ||| score |||
            translation`, where the score is log-probability over length penalty. At most as many as --beam.
        prefix: Every translation begins with this text.
        window: Lines read ahead and sorted by length. Fewer answer sooner, more are faster; 1 answers line by
            line, and is the default where lines are typed into a terminal. Elsewhere it is 2048.
    """
    from transformer_zoo.generation import translate_n_best

    loaded = search.load(run, languages)
    window = window or (1 if input is None and sys.stdin.isatty() else 2048)
    how = search.prepare(loaded, alone=window == 1, scored=n_best is not None)
    how |= {"prefix": prefix, "window": window, "n_best": n_best or 1}
    lines = translate_n_best(loaded.model, loaded.tokenizer, input_lines(input), **how)
    with open_output(output) as file:
        for number, found in enumerate(with_progress(lines, "translated", shown=output is not None), start=1):
            warn_of_cuts([number] if found[0].is_cut else [])
            for translation in found:
                score = f"{number} ||| {translation.score:.4f} ||| " if n_best else ""
                print(score + translation.text, file=file)
            file.flush()


def evaluate(
    run: Path,
    search: SearchOptions,
    languages: Languages,
    split: str | None = None,
    source: Path | None = None,
    reference: Path | None = None,
    file: Path | None = None,
    separator: str | None = None,
    stride: PositiveInt | None = None,
    metrics: list[Literal["bleu", "chrf", "ter"]] = ["bleu"],  # noqa: B006  (it is only read)
    tokenize: str | None = None,
    lowercase: bool = False,
    compare: Path | None = None,
    json: bool = False,
) -> None:
    """Translate a test set and score it with sacreBLEU, or say how well a decoder-only run predicts a text.

    Translations are kept in RUN/evaluation, with settings, scores and signatures beside them. With --file the run is a
    decoder-only one: nats per token, perplexity and bits per byte are printed, by a window that slides over the text.

    Args:
        run: Folder of a trained run.
        search: Search.
        languages: Languages.
        split: Text that the run's recipe names: one of its data.tests, or validation. By default all of
            data.tests.
        source: Text to translate instead of a split, together with --reference.
        reference: Its translations, line for line.
        file: Text to predict: a file, a folder or a pattern, plain, .gz or JSON lines.
        separator: Line of --file that stands between two documents, which are predicted apart. By default that of the
            validation text in the run's recipe.
        stride: The window moves by so many tokens; fewer predict better, and take longer. By default half of the
            model's context.
        metrics: One or more of bleu, chrf, ter.
        tokenize: sacreBLEU's tokenizer for BLEU: 13a, intl, zh, ...; none for text that is tokenized already.
            By default the recipe's test.bleu_tokenize, or 13a.
        lowercase: Ignore case in BLEU and chrF.
        compare: Folder of a second run: translate with it too, in the same languages, and test the difference by
            paired bootstrap resampling.
        json: Print JSON instead of a table.
    """
    from transformer_zoo.cli.evaluate import compare_runs, evaluate_run, evaluate_text, print_comparisons, print_scores
    from transformer_zoo.data.parallel import ParallelFiles, read_parallel
    from transformer_zoo.evaluation import check_tokenizer

    if file is not None:
        if any(other is not None for other in (split, source, reference, compare, *vars(languages).values())):
            raise UsageError("--file excludes --split, --source, --reference, --compare and languages")
        scored = metrics != ["bleu"] or tokenize or lowercase
        if scored or search.beam or search.penalty or search.length_penalty is not None:
            raise UsageError("--file excludes what is about translations: --metrics, --tokenize, --lowercase, search")
        return evaluate_text(run, file, separator, stride, search, json)
    if stride is not None or separator is not None:
        raise UsageError("--stride and --separator are for --file")
    if (source is None) != (reference is None):
        raise UsageError("--source and --reference go together")
    if source is not None and split is not None:
        raise UsageError("--split and --source exclude each other")
    loaded = search.load(run, languages)
    if source is not None:
        texts = {source.name: read_parallel(ParallelFiles(source=str(source), target=str(reference)))}
    else:
        texts = named_texts(run, loaded.recipe, split)
    tokenize = tokenize or (loaded.recipe.get("test") or {}).get("bleu_tokenize") or "13a"
    if "bleu" in metrics:
        check_tokenizer(tokenize)  # before hours of translating
    scoring = {"metrics": metrics, "tokenize": tokenize, "lowercase": lowercase}
    results = evaluate_run(run, loaded, texts, search, scoring)
    report: dict[str, Any] = {"run": str(run), "splits": [result.report for result in results]}
    if compare is None:
        print_scores(report) if not json else print(jsonlib.dumps(report, indent=2, ensure_ascii=False))
        return
    other = search.load(compare, languages)
    others = evaluate_run(compare, other, texts, search, scoring)
    report["compared_with"] = {"run": str(compare), "splits": [result.report for result in others]}
    report["comparisons"] = compare_runs(results, others, texts, scoring)
    print_comparisons(report) if not json else print(jsonlib.dumps(report, indent=2, ensure_ascii=False))


def named_texts(run: Path, recipe: dict[str, Any], split: str | None) -> "dict[str, ParallelText]":
    """The text of a split that the recipe names, or of all its tests.

    Of a test that was scored the run keeps a copy, which is there also where the run was moved.
    """
    from transformer_zoo.data.parallel import ParallelFiles, read_parallel

    data = recipe.get("data") or {}
    tests = data.get("tests") or {}
    splits = {**tests, **{name: data[name] for name in ("validation", "train") if data.get(name)}}
    if split is None and not tests:
        raise UserError(
            f"{run / 'config.yaml'} has no data.tests: give --split validation, or --source and --reference"
        )
    if split is not None and split not in splits:
        raise UserError(f"{run / 'config.yaml'} has no split {split!r}: take one of {', '.join(splits)}")
    wanted = tests if split is None else {split: splits[split]}
    files = {name: ParallelFiles(**fields) for name, fields in wanted.items()}
    for name in files:
        source, target = (run / "test" / f"{name}.{kind}" for kind in ("src", "ref"))
        if name in tests and source.exists() and target.exists():
            files[name] = ParallelFiles(source=str(source), target=str(target))
    return {name: read_parallel(fields) for name, fields in files.items()}


def score(
    run: Path,
    languages: Languages,
    source: Path | None = None,
    target: Path | None = None,
    batch_tokens: PositiveInt = 8192,
    device: str = "auto",
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    json: bool = False,
) -> None:
    """Say how likely the model finds given translations.

    Prints log-probability and perplexity of each line with a tab between, and those of the whole on standard
    error.

    Args:
        run: Folder of a trained run.
        languages: Languages.
        source: Text, one sentence a line.
        target: Its translations, line for line.
        batch_tokens: Most tokens of a batch on either side, padding included.
        device: cpu, cuda or cuda:N; auto is the GPU where there is one.
        dtype: Precision of the matrix products.
        json: Print JSON instead, with every token's log-probability.
    """
    if source is None or target is None:
        raise UsageError("--source and --target are both needed")
    import torch

    from transformer_zoo.data.parallel import ParallelFiles, read_parallel
    from transformer_zoo.generation import perplexity
    from transformer_zoo.generation import score as score_targets

    text = read_parallel(ParallelFiles(source=str(source), target=str(target)))
    loaded = SearchOptions(device=device, dtype=dtype).load(run, languages)
    how: dict[str, Any] = {"batch_tokens": batch_tokens, "dtype": getattr(torch, dtype)}
    scores = score_targets(loaded.model, loaded.tokenizer, text.source, text.target, **how)
    tokens = sum(len(one.token_log_probs) for one in scores)
    total = {
        "log_prob": math.fsum(one.log_prob for one in scores),
        "tokens": tokens,
        "perplexity": perplexity(scores),
    }
    if json:
        lines = [{"log_prob": one.log_prob, "perplexity": perplexity([one]), **asdict(one)} for one in scores]
        print(jsonlib.dumps({**total, "lines": lines}, indent=2))
        return
    for one in scores:
        print(f"{one.log_prob:.4f}\t{perplexity([one]):.4f}")
    print(
        f"{len(scores)} lines, {tokens} tokens: log-probability {total['log_prob']:.4f}, "
        f"perplexity {total['perplexity']:.4f}",
        file=sys.stderr,
    )


def average(run: Path, output: Path | None = None, last: PositiveInt = 5) -> None:
    """Average the weights of a run's last checkpoints in float32.

    Without --output the average replaces the run's weights, model.safetensors.

    Args:
        run: Folder of a run.
        output: File for the average, as safetensors; the run's weights stay as they are.
        last: How many checkpoints, counted from the end; a run keeps checkpoint.average_last of them.
    """
    from transformer_zoo.training.checkpoint import average_checkpoints, save_weights, snapshot_paths

    if not run.is_dir():
        raise UserError(f"{run}: no such run folder")
    paths = snapshot_paths(run)
    if len(paths) < last:
        raise UserError(
            f"{run / 'checkpoints'} has {len(paths)} checkpoints to average, not {last}: "
            "give a smaller --last, or train with a larger checkpoint.average_last"
        )
    path = output or run / "model.safetensors"
    replaced = ", in place of what was there" if path.exists() else ""
    save_weights(path, average_checkpoints(paths[-last:]))
    print(f"{path}: average of {', '.join(path.stem for path in paths[-last:])}{replaced}")
