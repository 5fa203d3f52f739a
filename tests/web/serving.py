"""A server in this process that can be stopped and started at one port, and small models for it, trained in seconds."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from transformer_zoo.config.serving import ServingSettings
from transformer_zoo.serving import Engine
from transformer_zoo.serving.app import create_app
from transformer_zoo.serving.running import Server, listen

from ..faults.tiny import gpt, main_of, translation


def trained(folder: Path, kind: str, **training: Any) -> Path:
    """A run of a recipe of tests.faults that has learned its few words."""
    fields = {"translation": translation, "gpt": gpt}[kind](folder)
    fields["data"].pop("tests", None)
    if kind == "translation":
        fields["test"] = {"beam": 5}
    fields["model"] |= {"d_model": 32, "d_ff": 64} | ({"max_seq_len": 64} if kind == "gpt" else {})
    fields["training"] = {**training, "batch_tokens": 256}
    fields["schedule"] = {"name": "linear", "warmup": 10}
    fields["optimizer"] = {"name": "muon", "lr": 0.02}
    for section in ("validation", "checkpoint"):
        fields[section] |= {"every": 10_000}
    path, common = folder / f"{kind}.yaml", {"run_dir": str(folder / "run"), "device": "cpu", "precision": "float32"}
    path.write_text(yaml.safe_dump({**common, **fields}), "utf-8")
    main_of(kind)([str(path)])
    return folder / "run"


class Served:
    """Runs behind an address."""

    def __init__(self, runs: Mapping[str, Any], keys: Path | None = None) -> None:
        self.runs, self.settings = runs, ServingSettings(grace=1, keys=keys)
        self.port = 0  # any that is free, and then the same

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        listener, settings, started = listen("127.0.0.1", self.port), self.settings, threading.Event()
        self.port = listener.getsockname()[1]
        self.engines = {name: Engine(run) for name, run in self.runs.items()}
        self.server = Server(create_app(self.engines, settings), self.engines.values(), settings, started.set)
        self.thread = threading.Thread(target=self.server.run, args=([listener],), daemon=True)
        self.thread.start()
        assert started.wait(30)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join()
        for engine in self.engines.values():
            engine.close()


@contextmanager
def serving(runs: Mapping[str, Any], keys: Path | None = None) -> Iterator[Served]:
    served = Served(runs, keys)
    served.start()
    try:
        yield served
    finally:
        served.stop()
