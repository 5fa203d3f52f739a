"""The commands of `transformer-zoo`; their docstrings are its --help. Torch is imported when they run."""

import json as jsonlib
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jsonargparse.typing import PositiveInt

from transformer_zoo.cli.scoring import PredictionOptions, ScoreOptions, TextOptions, given, refuse_beside
from transformer_zoo.cli.search import Languages, SearchOptions
from transformer_zoo.cli.streams import input_lines, open_output, with_progress
from transformer_zoo.cli.terminal import answered, is_typed, typed_lines
from transformer_zoo.errors import UsageError, UserError

if TYPE_CHECKING:
    from transformer_zoo.inference import Translation


def translate(
    run: Path,
    search: SearchOptions,
    languages: Languages,
    input: Path | None = None,
    output: Path | None = None,
    n_best: PositiveInt | None = None,
    prefix: str = "",
    window: PositiveInt | None = None,
    json: bool = False,
) -> None:
    """Translate text: a line in, a line out, in the order of the input. A line typed into a terminal is answered
    immediately.

    A decoder-only run writes the best continuation of each line. Translations are written as batches finish. An empty
    line gives an empty line. A line much longer than those the model was trained on is cut at the ends of sentences and
    translated in pieces. Warnings count such lines, and translations that --max-extra ended.

    Args:
        run: Folder of a trained run.
        search: Search.
        languages: Languages.
        input: Text to translate, one sentence a line, plain or .gz; standard input by default.
        output: File for the translations; standard output by default.
        n_best: Write the N best translations of each line, N different texts, as `line number ||| log-probability |||
            translation`, the most likely first. The log-probability is the one that `score` computes. If --beam
            hypotheses are not enough, the beam is widened; fewer are written if there are no more.
        prefix: Every translation begins with this text.
        window: Number of lines that are read ahead and sorted by length. A smaller number answers sooner, a larger one
            is faster. 1 answers line by line, and is the default for lines typed into a terminal; otherwise it is 2048.
        json: Write a line of JSON for each line instead: its number and translations, each with text, log-probability,
            and the search's own log-probability and score.

    Examples:
        transformer-zoo translate runs/my
        transformer-zoo translate runs/my --input test.en --output test.de
        transformer-zoo translate runs/my --input test.en --n-best 5 --beam 8
    """
    from transformer_zoo.runs.load import load_writer
    from transformer_zoo.training.device import choose_device

    loaded, scored = load_writer(run, device=choose_device(search.device)), json or n_best is not None
    how = {"window": window or (1 if is_typed(input) else 2048), "prefix": prefix, **vars(languages)}
    translator = search.translator(loaded, name=str(run), scored=scored, **how)

    def translated(lines: Iterator[str]) -> "Iterator[list[Translation]]":
        return translator.best(lines, n_best=n_best or 1, scored=scored)

    if is_typed(input):
        found = answered(translated, typed_lines("translate", translator.wants))
    else:
        found = with_progress(translated(input_lines(input)), "translated", shown=output is not None)
    with open_output(output) as file:
        for number, translations in enumerate(found, start=1):
            if json:
                print(_as_json(number, translations), file=file)
            else:
                for one in translations:
                    print(f"{number} ||| {one.log_prob:.4f} ||| {one.text}" if n_best else one.text, file=file)
            file.flush()


def _as_json(number: int, translations: "Sequence[Translation]") -> str:
    def finite(x: float) -> float | None:
        return x if math.isfinite(x) else None

    found = [
        {
            "text": one.text,
            "log_prob": finite(one.log_prob),
            "search": {"log_prob": finite(one.search_log_prob), "score": finite(one.search_score)},
            "is_cut": one.is_cut,
        }
        for one in translations
    ]
    return jsonlib.dumps({"line": number, "translations": found}, ensure_ascii=False)


def evaluate(
    runs: list[Path],
    texts: TextOptions,
    scoring: ScoreOptions,
    search: SearchOptions,
    languages: Languages,
    prediction: PredictionOptions,
    compare: Path | None = None,
    mean: bool = False,
    json: bool = False,
    latex: bool = False,
) -> None:
    """Translate a test set and score it with sacreBLEU, or measure how well a decoder-only run predicts a text.

    Translations are kept in RUN/evaluation, with settings, scores and signatures; those of a run on the hub are not
    kept. With --hypothesis no run is needed: it scores a file of translations by any system. With --file the run is
    decoder-only: it prints nats per token, perplexity and bits per byte, by a window that slides over the text.

    Args:
        runs: Folder of a trained run; with --mean folders of two or more.
        texts: Text.
        scoring: Scores.
        search: Search.
        languages: Languages.
        prediction: Prediction.
        compare: Folder of a second run: translate with it too, in the same languages, and test the difference by paired
            bootstrap resampling. It can also be a file with another system's translations of the same text.
        mean: Mean and sample standard deviation of the scores of several runs of one recipe with different seeds.
        json: Print JSON instead of a table.
        latex: Print the table as LaTeX.

    Examples:
        transformer-zoo evaluate runs/my
        transformer-zoo evaluate runs/my --source test.en --reference test.de --metrics bleu chrf
        transformer-zoo evaluate runs/gpt --file held_out.txt
    """
    if prediction.file is not None:
        flags = {"--compare": compare is not None, "--mean": mean, "--latex": latex, "more than one RUN": len(runs) > 1}
        refuse_beside("--file", given(texts, scoring, languages, search, but=["device", "dtype"]), flags)
        if not runs:
            raise UsageError("--file needs a RUN")
        from transformer_zoo.cli.evaluate import evaluate_text

        return evaluate_text(runs[0], prediction, search, json)
    if prediction != PredictionOptions():
        raise UsageError("--stride and --separator are for --file")
    if json and latex:
        raise UsageError("--json and --latex exclude each other")
    texts.check()
    if texts.hypothesis is not None:
        refuse_beside(
            "--hypothesis", given(languages, search, but=["target_lang"]), {"--mean": mean, "RUN": bool(runs)}
        )
    elif not runs:
        raise UsageError("give the folder of a RUN, or --hypothesis and --reference")
    elif mean and (len(runs) < 2 or compare is not None):
        raise UsageError("--mean takes two runs or more, and excludes --compare")
    elif len(runs) > 1 and not mean:
        raise UsageError("several runs are for --mean; two are compared by --compare")
    from transformer_zoo.cli.evaluate import evaluate_file, evaluate_runs
    from transformer_zoo.cli.tables import print_report

    if texts.hypothesis is not None:
        report = evaluate_file(texts, scoring, languages.target_lang, compare)
    else:
        report = evaluate_runs(runs, compare, texts, scoring, search, languages)
    print(jsonlib.dumps(report, indent=2, ensure_ascii=False)) if json else print_report(report, latex=latex)


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
    """Print how likely the model finds given translations, or a decoder-only model given continuations of prompts.

    It prints log-probability and perplexity of each line with a tab between them, and those of the whole text on
    standard error.

    Args:
        run: Folder of a trained run.
        languages: Languages.
        source: Text file, one sentence or prompt a line.
        target: Its translations, or continuations of the prompts, line for line.
        batch_tokens: Number of tokens of a batch on either side, at most, padding included.
        device: cpu, cuda, cuda:N or mps; auto is the GPU if there is one.
        dtype: Type of the matrix products.
        json: Print JSON instead, with every token's log-probability.

    Examples:
        transformer-zoo score runs/my --source test.en --target test.de
        transformer-zoo score runs/gpt --source prompts.txt --target answers.txt
        transformer-zoo score runs/my --source test.en --target test.de --json
    """
    if source is None or target is None:
        raise UsageError("--source and --target are both needed")
    import torch

    from transformer_zoo.data.parallel import ParallelFiles, read_parallel
    from transformer_zoo.inference import perplexity
    from transformer_zoo.runs import Scorer

    text = read_parallel(ParallelFiles(source=str(source), target=str(target)))
    loaded = SearchOptions(device=device, dtype=dtype).load(run, languages)
    scorer = Scorer(loaded, batch_tokens=batch_tokens, dtype=getattr(torch, dtype))
    scores = scorer(text.source, text.target)
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
        output: File for the average, as safetensors; the run's weights then do not change.
        last: Number of checkpoints, counted from the end; a run keeps checkpoint.average_last of them.

    Examples:
        transformer-zoo average runs/my
        transformer-zoo average runs/my --last 3
        transformer-zoo average runs/my --output average.safetensors
    """
    from transformer_zoo.training.weights import average_checkpoints, save_weights, snapshot_paths

    if not run.is_dir():
        raise UserError(f"{run}: no such run folder")
    paths = snapshot_paths(run)
    if len(paths) < last:
        raise UserError(
            f"{run / 'checkpoints'} has {len(paths)} checkpoints to average, not {last}: "
            "give a smaller --last, or train with a larger checkpoint.average_last"
        )
    path = output or run / "model.safetensors"
    replaced = ", instead of what was there" if path.exists() else ""
    save_weights(path, average_checkpoints(paths[-last:]))
    print(f"{path}: average of {', '.join(path.stem for path in paths[-last:])}{replaced}")
