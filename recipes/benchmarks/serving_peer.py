"""CTranslate2 behind our server: the same HTTP, the same batches of waiting lines, its search instead of ours.

python recipes/benchmarks/serving_peer.py RUN [--compute-type float32]
"""

import math
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from jsonargparse import ArgumentParser

if not __package__:  # instead of this folder, whose kernels.py others would take for a package
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from transformer_zoo.config import BeamSearch
from transformer_zoo.config.serving import ServingSettings
from transformer_zoo.inference import Translation
from transformer_zoo.inference.codec import codec_of
from transformer_zoo.runs import Run, load_translation_run
from transformer_zoo.serving import Engine, Request
from transformer_zoo.serving.app import create_app
from transformer_zoo.serving.running import Server, listen


@dataclass
class Line:
    """Waiting lines as tokens under the peer's names; and their translations."""

    tokens: list[str]
    found: str | None = None


class TheirEngine(Engine):
    """An engine whose translations are CTranslate2's; waiting lines are translated together, up to `max_batch`
    lines."""

    def __init__(self, run: Run, compute_type: str, max_batch: int = 16) -> None:
        import ctranslate2

        from transformer_zoo.zoo.ctranslate2.write import to_ctranslate2

        super().__init__(run, max_batch=max_batch)
        sizes, sides = (run.model.config.vocab_size, run.model.config.target_size), run.tokenizer
        pieces = [[*side.pieces, *[""] * n][:n] for side, n in zip((sides.source, sides.target), sizes, strict=True)]
        threads = torch.get_num_threads()
        with TemporaryDirectory() as folder:
            self.source, self.target = to_ctranslate2(run.model, Path(folder), pieces)
            self.theirs = ctranslate2.Translator(
                folder, compute_type=compute_type, inter_threads=1, intra_threads=threads
            )
        self.codec, self.most = codec_of(run.model, run.tokenizer), max_batch
        self.ids = {name: i for i, name in enumerate(self.target)}
        self.waiting = deque[Line]()

    def translate(self, texts: str | Sequence[str], how: BeamSearch = BeamSearch(), **_: Any) -> Request[Any]:
        """One line at a time."""
        assert isinstance(texts, str)
        [given] = self.codec.encode([texts])
        line = Line([self.source[i] for i in given])
        self.waiting.append(line)

        def translated() -> list[list[Translation]]:
            while line.found is None:
                self._translate_some(how)
            return [[Translation(line.found, math.nan, math.nan, math.nan)]]

        return self.call(translated)

    def _translate_some(self, how: BeamSearch) -> None:
        some = [self.waiting.popleft() for _ in range(min(self.most, len(self.waiting)))]
        longest = max(len(line.tokens) for line in some)
        found = self.theirs.translate_batch(
            [line.tokens for line in some],
            beam_size=how.beam,
            length_penalty=how.length_penalty,
            max_decoding_length=longest + how.max_extra,
        )
        for line, result in zip(some, found, strict=True):
            line.found = self.codec.target.decode([self.ids[token] for token in result.hypotheses[0]])


def main(arguments: Sequence[str]) -> None:
    """Serve until a signal."""
    parser = ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, help="folder of a translation run")
    parser.add_argument("--compute-type", type=str, default="float32", help="CTranslate2's: float32, int8, ...")
    options = parser.parse_args(list(arguments))
    run, settings = load_translation_run(options.run), ServingSettings()
    with TheirEngine(run, options.compute_type) as engine, listen(settings.host, 0) as listener:
        said = f"{options.run.name}: http://127.0.0.1:{listener.getsockname()[1]} (Ctrl-C ends)"
        app = create_app({options.run.name: engine}, settings)
        Server(app, [engine], settings, lambda: print(said, file=sys.stderr, flush=True)).run([listener])


if __name__ == "__main__":
    main(sys.argv[1:])
