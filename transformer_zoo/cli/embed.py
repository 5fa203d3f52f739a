"""`transformer-zoo embed`: vectors of lines."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jsonargparse.typing import PositiveInt

from transformer_zoo.cli.streams import input_lines, open_output, windows, with_progress
from transformer_zoo.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

WINDOW = 64  # number of batches that are read ahead and sorted by length


def embed(
    run: Path,
    input: Path | None = None,
    output: Path | None = None,
    batch_size: PositiveInt = 32,
    device: str = "auto",
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
) -> None:
    """Write a vector for each line of a text, by an encoder. Lines with similar meaning have similar vectors.

    It writes a line of JSON for each line, a list of numbers, in the order of the input; or a NumPy array. A long line
    is read up to the model's limit.

    Args:
        run: Folder of a run of an encoder, trained here or imported, such as all-MiniLM-L6-v2.
        input: Text file, plain or .gz; standard input by default.
        output: File for the vectors; standard output by default. A name in .npy gets an array (lines, width) of
            float32.
        batch_size: Number of lines that are read at once.
        device: cpu, cuda, cuda:N or mps; auto is the GPU if there is one.
        dtype: Type of the matrix products.

    Examples:
        transformer-zoo embed runs/minilm
        transformer-zoo embed runs/minilm --input lines.txt --output vectors.npy
        transformer-zoo embed runs/minilm --input lines.txt --output vectors.jsonl
    """
    import torch

    from transformer_zoo.inference import embed as vectors_of
    from transformer_zoo.runs import load_encoder_run
    from transformer_zoo.training.device import choose_device

    if output is not None and output.suffix not in (".npy", ".json", ".jsonl"):
        raise UsageError(f"--output {output} must end in .npy, .json or .jsonl, which says what is written")
    loaded, lines = load_encoder_run(run, device=choose_device(device)), input_lines(input)

    how: Any = {"batch_size": batch_size, "dtype": getattr(torch, dtype)}
    read = windows(lines, WINDOW * batch_size)
    vectors = (vector for some in read for vector in vectors_of(loaded.model, loaded.tokenizer, some, **how))
    found = with_progress(vectors, "embedded", shown=output is not None)
    if output is not None and output.suffix == ".npy":
        _write_array(found, output, loaded.model.config.d_model)
        return
    with open_output(output) as file:
        for vector in found:
            print(json.dumps([float(f"{x:.9g}") for x in vector.tolist()]), file=file)


def _write_array(vectors: "Iterator[Tensor]", output: Path, width: int) -> None:
    import numpy as np
    import torch

    from transformer_zoo.files import replacing

    with replacing(output) as part, open(part, "wb") as file:
        rows = list(vectors)
        np.save(file, torch.stack(rows).numpy() if rows else np.zeros((0, width), np.float32))
