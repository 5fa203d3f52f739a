"""`transformer-zoo serve`: models over HTTP, and on a page."""

import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from jsonargparse.typing import NonNegativeInt, PositiveInt

from transformer_zoo.config.serving import ServingSettings
from transformer_zoo.errors import UsageError, UserError


def serve(
    runs: list[Path],
    serving: ServingSettings,
    port: NonNegativeInt = 8000,
    max_batch: PositiveInt = 16,
    max_queue: PositiveInt = 64,
    device: str = "auto",
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
) -> None:
    """Serve trained runs over HTTP: translate, continue texts, talk, embed, score, and a page at /.

    The addresses are those of LibreTranslate (/translate, /languages) and of OpenAI (/v1/models, /v1/completions,
    /v1/chat/completions, /v1/embeddings), so that their clients work. Ctrl-C or SIGTERM ends the server when running
    requests are finished; a second one ends it immediately.

    Args:
        runs: Folders of trained runs, or of models in Hugging Face's format; names on its hub; package:NAME. The last
            part of this is the model's name.
        serving: Serving.
        port: Port to listen on; 0 takes a free one, and prints it.
        max_batch: Number of texts that are written, and of lines that are translated, at the same time.
        max_queue: Number of requests that may wait; more are refused.
        device: cpu, cuda, cuda:N or mps; auto is the GPU if there is one.
        dtype: Type of the models' weights.

    Examples:
        transformer-zoo serve runs/numbers
        transformer-zoo serve runs/numbers runs/gpt2 --port 8080
        transformer-zoo serve runs/numbers --host 0.0.0.0 --keys keys.txt
    """
    if not runs:
        raise UsageError("give the folder of a RUN, or the name of a model")
    try:
        from transformer_zoo.serving import Engine
        from transformer_zoo.serving.app import create_app
        from transformer_zoo.serving.running import Server, listen
    except ImportError as error:
        if error.name not in ("fastapi", "uvicorn", "prometheus_client"):
            raise
        raise UserError(f"serve needs {error.name}: pip install 'transformer-zoo[serve]'") from None
    import torch

    from transformer_zoo.runs import load_run
    from transformer_zoo.training.device import choose_device

    listener, at = listen(serving.host, port), choose_device(device)
    with ExitStack() as stack:
        stack.callback(listener.close)
        engines = {}
        for name, path in _named(runs).items():
            loaded = load_run(path, device=at)
            loaded.model.to(getattr(torch, dtype))
            engines[name] = stack.enter_context(Engine(loaded, in_place=True, max_batch=max_batch, max_queue=max_queue))
        app = create_app(engines, serving)
        _log_to_stderr()
        host = f"[{serving.host}]" if ":" in serving.host else serving.host
        where = f"http://{host}:{listener.getsockname()[1]}"
        if serving.keys is None and not serving.is_local:
            print(f"warning: whoever reaches {where} can use it: give --keys FILE", file=sys.stderr)
        said = f"{', '.join(engines)}: {where} (Ctrl-C ends)"
        Server(app, engines.values(), serving, lambda: print(said, file=sys.stderr, flush=True)).run([listener])


def _named(runs: Sequence[Path]) -> dict[str, Path]:
    """Each model by the last part of its name: of a folder, on the hub, or of a package."""
    named: dict[str, Path] = {}
    for path in runs:
        name = path.resolve().name if path.exists() else path.name.rpartition(":")[2]
        if name in named:
            raise UsageError(f"{named[name]} and {path} would both be called {name}: give one of them another name")
        named[name] = path
    return named


def _log_to_stderr() -> None:
    """Log a line for each request."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log = logging.getLogger("transformer_zoo.serving")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
