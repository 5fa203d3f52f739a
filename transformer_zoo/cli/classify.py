"""`transformer-zoo classify`: labels of lines, or of their tokens."""

import json
from pathlib import Path
from typing import Any, Literal

from jsonargparse.typing import PositiveInt

from transformer_zoo.cli.embed import WINDOW
from transformer_zoo.cli.streams import input_lines, open_output, windows, with_progress


def classify(
    run: Path,
    input: Path | None = None,
    output: Path | None = None,
    batch_size: PositiveInt = 32,
    device: str = "auto",
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
) -> None:
    """Label each line of a text, or its tokens, by an encoder that was trained for it.

    It writes a line of JSON for each line, in the order of the input. A head for texts gives all labels with their
    scores, the most likely first. A head for tokens gives each token with its most likely label. Scores are
    probabilities, unless the head gives measures. A long line is read up to the model's limit.

    Args:
        run: Folder of a run of an encoder with a head for labels, such as an imported one.
        input: Text file, plain or .gz; standard input by default.
        output: File for the labels; standard output by default.
        batch_size: Number of lines that are read at once.
        device: cpu, cuda, cuda:N or mps; auto is the GPU if there is one.
        dtype: Type of the matrix products.

    Examples:
        transformer-zoo classify runs/sst2
        transformer-zoo classify runs/sst2 --input lines.txt --output labels.jsonl
        transformer-zoo classify runs/names --input lines.txt --device cuda
    """
    import torch

    from transformer_zoo.inference import check_labels, classify_tokens
    from transformer_zoo.inference import classify as classify_texts
    from transformer_zoo.runs import load_encoder_run
    from transformer_zoo.training.device import choose_device

    loaded, lines = load_encoder_run(run, device=choose_device(device)), input_lines(input)
    label: Any = {"texts": classify_texts, "tokens": classify_tokens}[check_labels(loaded.model, f"classify {run}")]

    how: Any = {"batch_size": batch_size, "dtype": getattr(torch, dtype)}
    read = windows(lines, WINDOW * batch_size)
    labels = (found for some in read for found in label(loaded.model, loaded.tokenizer, some, **how))
    with open_output(output) as file:
        for found in with_progress(labels, "classified", shown=output is not None):
            print(json.dumps([_fields(one) for one in found], ensure_ascii=False), file=file)


def _fields(found: Any) -> dict[str, Any]:
    return {**found._asdict(), "score": float(f"{found.score:.6g}")}
