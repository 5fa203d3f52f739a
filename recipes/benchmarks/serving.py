"""A server under load: answers per second and the time of one, at 1, 4, 16 and 64 clients; and a soak.

    python recipes/benchmarks/serving.py RUN [RUN ...] --source FILE [--clients 1 4 16 64] [--soak 600]
    python recipes/benchmarks/serving.py --small

It needs `pip install -e '.[serve,benchmark]'`. A RUN translates the lines of FILE, or continues the first half of each,
greedily. `transformer-zoo serve` is a process of its own. Its peer is another process, CTranslate2 behind the same
server, for runs that translate. The same work is also done offline, in batches of 16 in order of arrival, and every
answer is compared with that result. In a soak 16 clients ask all runs at the same time; a tenth of their requests break
off, a tenth are garbage. An answer may differ by rounding alone if the two best scores are within 1e-4. It fails at a
status of 500, at an answer that differs otherwise, and if more than one answer in 500 differs at all. It also fails if
the server grew by more than 5% between a fifth of the soak and its end. --small: tiny random runs, to see that it
works.
"""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

import torch
from jsonargparse import ArgumentParser, Namespace

if not __package__:  # instead of this folder, whose kernels.py others would take for a package
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import transformer_zoo as tz
from recipes.benchmarks.options import parsed
from recipes.benchmarks.serving_clients import Load, Question, Soaked, measure, soak
from recipes.benchmarks.speed import machine
from transformer_zoo.data.parallel import read_lines
from transformer_zoo.errors import UserError, run_program
from transformer_zoo.files import write_json
from transformer_zoo.inference import Batching
from transformer_zoo.runs import Run, TextRun, Translator, Writer, load_run, save_run
from transformer_zoo.tokenizers import ByteTokenizer, TranslationTokenizer, TranslationTokenizerSettings

BATCH = 16
CLOSE, MOST_OTHERS, MOST_GROWTH = 1e-4, 1 / 500, 1.05
SERVE = ("-m", "transformer_zoo", "serve", "--port", "0")
PEER = Path(__file__).with_name("serving_peer.py")


def parse_options(arguments: Sequence[str]) -> Namespace:
    """The command line."""
    parser = ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add: Callable[..., Any] = parser.add_argument
    add("runs", type=Path, nargs="*", default=[], help="folders of runs that translate, or write")
    add("--source", type=Path | None, default=None, help="text, a line each")
    add("--lines", type=int, default=500, help="of it, from its beginning")
    add("--clients", nargs="+", type=int, default=[1, 4, 16, 64], help="at once")
    add("--seconds", type=float, default=30.0, help="of each number of clients")
    add("--new-tokens", type=int, default=64, help="of what is written")
    add("--peer", nargs="*", type=str, default=["float32"], help="CTranslate2's compute types; none leaves it out")
    add("--soak", type=float, default=0.0, help="seconds; 0: none")
    add("--small", action="store_true", help="tiny runs, seconds")
    add("--json", default=None, type=str | None, help="also write the results to this file")
    options = parsed(parser, arguments)
    if options.small:
        options.lines, options.clients, options.seconds, options.new_tokens = 8, [1, 4], 1.0, 8
        options.soak = options.soak or 2.0
    elif not options.runs or options.source is None:
        parser.error("give a RUN and --source, or --small")
    return options


class Work:
    """The requests to one run, and how they are answered offline."""

    def __init__(self, folder: Path, lines: Sequence[str], new_tokens: int) -> None:
        loaded = load_run(folder)
        if not isinstance(loaded, Run | TextRun):
            raise UserError(f"{folder}: only runs that translate or write are measured")
        self.folder, self.run, self.new_tokens = folder, loaded, new_tokens
        self.questions = [self._question(line) for line in lines]

    def _question(self, line: str) -> Question:
        name = self.folder.resolve().name
        if isinstance(self.run, Run):
            languages = {"source": self.run.source_language or "und", "target": self.run.target_language or "und"}
            return Question(name, line, "/translate", {"model": name, "q": line, **languages})
        words = line.split(" ")
        prompt, how = " ".join(words[: len(words) // 2 + 1]), {"temperature": 0, "max_tokens": self.new_tokens}
        return Question(name, prompt, "/v1/completions", {"model": name, "prompt": prompt, **how})

    @cached_property
    def translator(self) -> Translator:
        """For batches of 16 lines as they come."""
        assert isinstance(self.run, Run)
        return Translator(self.run, batching=Batching(window=BATCH))

    @cached_property
    def writer(self) -> Writer:
        """For as many prompts."""
        return Writer(self.run, batch_size=BATCH, temperature=0, max_new_tokens=self.new_tokens)

    def answer(self, texts: Sequence[str]) -> list[str]:
        """What the commands give."""
        return self.translator(list(texts)) if isinstance(self.run, Run) else self.writer(list(texts))

    def is_close(self, text: str, expected: str, said: str) -> bool:
        """Whether another answer differs by rounding alone."""
        if isinstance(self.run, Run):
            n = max(2, self.translator.how.search.beam)
            [found] = self.translator.best([text], n_best=n, scored=False)
            scores = {one.text: one.search_score for one in found}
            return said in scores and abs(scores[said] - scores[expected]) <= CLOSE
        tokenizer = self.run.tokenizer
        both = [tokenizer.encode(text + answer) for answer in (expected, said)]
        same = next((i for i, (a, b) in enumerate(zip(*both, strict=False)) if a != b), min(map(len, both)))
        first, second = self.writer.next_tokens([*tokenizer.start_ids, *both[0][:same]], k=2)
        return first.probability <= second.probability * (1 + CLOSE)


@contextmanager
def served(command: Sequence[str | Path]) -> Iterator[tuple[str, int]]:
    """Address and process of a server that runs meanwhile."""
    with TemporaryFile("w+") as said:
        process = subprocess.Popen([sys.executable, *map(str, command)], stderr=said)
        try:
            while not (found := re.search(r"(http://\S+) \(Ctrl-C", _read(said))):
                if process.poll() is not None:
                    raise UserError(f"the server ended: {_read(said).strip()}")
                time.sleep(0.1)
            yield found[1], process.pid
        finally:
            process.terminate()
            process.wait()


def _read(file: Any) -> str:
    file.seek(0)
    return str(file.read())


def measure_run(work: Work, options: Namespace) -> tuple[dict[Question, str], dict[str, Any]]:
    """The table of one run, which is printed; and the answers that are expected."""
    texts = [question.text for question in work.questions]
    work.answer(texts[:BATCH])  # to warm up
    start = time.perf_counter()
    expected = dict(zip(work.questions, work.answer(texts), strict=True))
    offline = len(texts) / (time.perf_counter() - start)
    sides: dict[str, list[str | Path]] = {
        "transformer_zoo": ["-m", "transformer_zoo", "serve", work.folder, "--port", "0"]
    }
    for kind in options.peer if isinstance(work.run, Run) else []:
        sides[f"CTranslate2 {kind}"] = [PEER, work.folder, "--compute-type", kind]
    rows, others = dict[str, list[Load]](), 0
    for name, command in sides.items():
        with served(command) as (url, _):
            rows[name] = []
            for clients in options.clients:
                load, answers = measure(url, work.questions, clients, options.seconds)
                rows[name].append(load)
                others += sum(answers[one] != expected[one] for one in answers) if name == "transformer_zoo" else 0
    print(
        f"\n### {work.folder.name}\n\n{_table(rows, offline)}\n\n- {others} answers differ from those offline",
        flush=True,
    )
    loads = {name: [asdict(load) for load in found] for name, found in rows.items()}
    return expected, {"run": work.folder.name, "offline": offline, "others": others, "loads": loads}


def _table(rows: dict[str, list[Load]], offline: float) -> str:
    lines = ["| server | clients | answers/s | of offline | p50 ms | p95 ms |", "|---|--:|--:|--:|--:|--:|"]
    lines.append(f"| offline, batches of {BATCH} | | {offline:.2f} | 1.00 | | |")
    for name, loads in rows.items():
        for load in loads:
            waits = f"{1000 * load.p50:.0f} | {1000 * load.p95:.0f}"
            share = load.per_second / offline
            lines.append(f"| {name} | {load.clients} | {load.per_second:.2f} | {share:.2f} | {waits} |")
    return "\n".join(lines)


def soak_runs(works: dict[str, Work], expected: dict[Question, str], options: Namespace) -> dict[str, Any]:
    """The soak of all runs behind one server; errors are listed under `faults`."""
    folders = [work.folder for work in works.values()]
    with served([*SERVE, *folders]) as (url, process):
        found = soak(url, process, expected, BATCH, options.soak)
    far = [one for one, said in found.others if not works[one.model].is_close(one.text, expected[one], said)]
    growth = found.growth(options.soak / 5)
    print(
        f"\n### Soak of {options.soak:.0f} s at {BATCH} clients\n\n- {found.answers:,} answers, {found.broken_off:,} "
        f"broken off; statuses {dict(sorted(found.statuses.items()))}\n- {len(found.others)} answers differ, "
        f"{len(far)} of them by more than rounding\n- resident size at the end by that after a fifth: {growth:.3f}"
    )
    faults = _faults(found, len(far), growth, is_short=options.small)
    return {"answers": found.answers, "statuses": found.statuses, "others": len(found.others), "faults": faults}


def _faults(found: Soaked, n_far: int, growth: float, *, is_short: bool) -> list[str]:
    return [
        fault
        for fault, is_there in {
            "an answer of 500": any(status >= 500 for status in found.statuses),
            "an answer that differs by more than rounding": n_far > 0,
            "more than one answer in 500 that differs": len(found.others) > found.answers * MOST_OTHERS,
            "a server that grows": growth > MOST_GROWTH and not is_short,
            "no answers": found.answers == 0,
        }.items()
        if is_there
    ]


def make_small_runs(folder: Path) -> list[Path]:
    """A run that translates and one that writes, of bytes and of random weights."""
    torch.manual_seed(0)
    pair = TranslationTokenizer.train(["ja"], ["yes"], TranslationTokenizerSettings(kind="bytes"))
    models: list[Any] = [
        tz.create_model("transformer-tiny", vocab_size=261),
        tz.create_model("gpt-nano", vocab_size=257, eos_id=256),
    ]
    translating = Run(models[0], pair, {}, max_source_tokens=50)
    writing = TextRun(models[1], ByteTokenizer(), {})
    recipe = {"data": {"source_lang": "de", "target_lang": "en"}, "test": {"beam": 2, "max_extra": 4}}
    save_run(translating, folder / "translates", recipe)
    save_run(writing, folder / "writes", {})
    return [folder / "translates", folder / "writes"]


def main(arguments: Sequence[str]) -> None:
    """Measure, print, and write. UserError: the soak found something wrong."""
    options = parse_options(arguments)
    described = machine(torch.device("cpu"))
    print("\n".join(f"{name}: {value}" for name, value in described.items()))
    with ExitStack() as stack:
        if options.small:
            runs, lines = make_small_runs(Path(stack.enter_context(TemporaryDirectory()))), ["ja und nein", "acht"] * 4
        else:
            runs, lines = options.runs, [line for line in read_lines(options.source) if line.strip()]
        lines = list(dict.fromkeys(lines))[: options.lines]
        works = {folder.resolve().name: Work(folder, lines, options.new_tokens) for folder in runs}
        expected, tables, soaked = dict[Question, str](), [], None
        for work in works.values():
            found, table = measure_run(work, options)
            expected |= found
            tables.append(table)
        if options.soak:
            soaked = soak_runs(works, expected, options)
    if options.json is not None:
        given = {name: str(value) for name, value in vars(options).items()}
        write_json(Path(options.json), {"machine": described, "options": given, "tables": tables, "soak": soaked})
    if soaked and soaked["faults"]:
        raise UserError(f"the soak met with {', and '.join(soaked['faults'])}")


if __name__ == "__main__":
    sys.exit(run_program(lambda: main(sys.argv[1:])))
