"""Speed of writing and translating compared with Hugging Face's `generate`, with the same weights, family by family.

    python recipes/benchmarks/zoo.py [--families gpt2 marian ...] [--batches 1 16]

It needs `pip install -e '.[benchmark]'`. Each model has random weights: ours is exported, and theirs is loaded from the
export. As in the commands, ours is packed for batches and beams, and a copy in 8 bits helps with greedy texts; neither
side computes their scores. Both run in this process, in alternation; a ratio is the median over the rounds of ours /
theirs in a round. Before the timing, both must have written the same tokens. In beam search they must have written
equally many, because at the length limit, where all of these end, theirs does not count the cost of the end.
"""

import math
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from jsonargparse import ArgumentParser, Namespace
from torch import Tensor
from tqdm import tqdm

if not __package__:  # instead of this folder, whose kernels.py others would take for a package
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import transformer_zoo as tz
from recipes.benchmarks.options import parsed
from recipes.benchmarks.speed import OURS, Contestant, Row, Table, compete, machine, report
from transformer_zoo import BeamSearch, DecoderOnly, EncoderDecoder, Sampling
from transformer_zoo.config import DecoderConfig, EncoderConfig
from transformer_zoo.config.changes import value_at
from transformer_zoo.errors import UserError
from transformer_zoo.inference import Speculation, beam_search, draft_of, generate
from transformer_zoo.models.empty import n_parameters
from transformer_zoo.training.device import choose_device, tune_malloc
from transformer_zoo.zoo import get_config
from transformer_zoo.zoo.counts import recorded_counts
from transformer_zoo.zoo.families import FAMILIES as SUPPORTED

try:
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM
except ImportError as missing:
    sys.exit(f"error: {missing}: the peer is installed by pip install -e '.[benchmark]'")

HUGGING_FACE = "Hugging Face"
FAMILIES = {
    name: min(family.sizes, key=recorded_counts().get)  # type: ignore[arg-type]
    for name, family in SUPPORTED.items()
    if family.sizes and family.config is not EncoderConfig
}
"""The smallest preset of each family."""


def shape(family: str, large: int) -> dict[str, Any]:
    """A few layers of a preset of more parameters than `large`; where one layer is large too, fewer tokens or half of
    the experts."""
    config, changes = get_config(FAMILIES[family]), dict[str, Any]()
    n_layers = n_written = max(len(stack.layers) for _, stack in config.stacks())
    while n_parameters(config.changed(**changes)) > large and n_layers > 1:
        n_layers //= 2
        changes = {"n_layers": n_layers}
    if n_parameters(config.changed(**changes)) > 2 * large:
        n_experts = next((getattr(stack.layers[0].ffn, "n_experts", None) for _, stack in config.stacks()), None)
        changes |= {"vocab_size": 32_000} if n_experts is None else {"ffn.n_experts": n_experts // 2}
    return changes if n_layers < n_written else {}


def parse_options(arguments: Sequence[str]) -> Namespace:
    """The command line."""
    parser = ArgumentParser(description="Speed of generation beside Hugging Face's, family by family.")
    add: Callable[..., Any] = parser.add_argument
    add("--families", nargs="+", choices=list(FAMILIES), default=list(FAMILIES), help="which families")
    add("--batches", nargs="+", type=int, default=[1, 16], help="texts at once")
    add("--beams", nargs="+", type=int, default=[1, 4], help="widths of the search; 1 is greedy")
    add("--input-tokens", type=int, default=26, help="tokens of a prompt, or of a source")
    add("--new-tokens", type=int, default=32, help="tokens written")
    add("--rounds", type=int, default=5, help="rounds of each table")
    add("--no-draft", action="store_true", help="no copy in 8 bits that helps with greedy texts")
    add("--large", type=int, default=500_000_000, help="parameters; a model that has more gets fewer layers")
    add("--small", action="store_true", help="two layers of 32: for a look whether it works")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    add("--threads", type=int, default=torch.get_num_threads(), help="CPU threads of everybody")
    add("--seed", type=int, default=0, help="seed of weights and tokens")
    add("--json", default=None, type=str | None, help="also write the results to this file")
    options = parsed(parser, arguments)
    options.device = choose_device(options.device)
    return options


def build(family: str, options: Namespace) -> DecoderOnly | EncoderDecoder:
    """The family's model with random weights, of which no translation ends before its limit."""
    preset, changes = FAMILIES[family], shape(family, options.large)
    config = get_config(preset)
    if options.small:
        sizes: dict[str, Any] = {"d_model": 32, "n_heads": 4, "d_ff": 128, "n_layers": 2}
        changes = {**changes, **sizes, "head_dim": 8, "n_kv_heads": None}
        changes |= {"positions.dim": None} if value_at(config, "positions.dim") else {}
    if isinstance(config, DecoderConfig):  # no text ends before its limit
        changes |= {"eos_id": None, "stop_ids": None}
    torch.manual_seed(options.seed)
    made: Any = tz.create_model(preset, **changes)
    model: DecoderOnly | EncoderDecoder = made.to(options.device).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 1:  # biases of 0 and norms of 1 are special
                weight.add_(torch.randn_like(weight), alpha=0.02)
        if isinstance(model, EncoderDecoder):  # a tied model says again what it reads, and it reads the end first
            for matrix in {model.head_weight, model.embedding.weight if model.embedding else model.head_weight}:
                matrix[[model.config.pad_id, model.config.bos_id, model.config.eos_id]] = 0
    return model


def load_theirs(model: DecoderOnly | EncoderDecoder, family: str) -> Any:
    """Hugging Face's model with these weights."""
    kind = AutoModelForCausalLM if isinstance(model, DecoderOnly) else AutoModelForSeq2SeqLM
    with TemporaryDirectory() as folder:
        tz.to_huggingface(model, folder, family=family)
        peer: Any = kind.from_pretrained(folder, dtype=torch.float32)
    return peer.to(model.head_weight.device).eval()


Run = Callable[[], list[list[int]]]


def writers(model: Any, peer: Any, ids: Tensor, beam: int, draft: Any, options: Namespace) -> tuple[Run, Run]:
    """Answers to (B, T) prompts or sources, all of them up to the length limit: ours and theirs."""
    n, has_source, end = options.new_tokens, model.facts.has_source, model.config.eos_id
    start = 1 if has_source else ids.size(1)
    how = BeamSearch(beam=beam, length_penalty=1.0, penalty="length", max_length=n, max_extra=n)
    # Random weights repeat themselves, which a lookup would gain from more than on any text.
    guess, none = Speculation(lookup=0, draft=draft), dict[str, Any]()
    if not has_source:
        none = {"eos_token_id": None, "pad_token_id": 0}

    def ours() -> list[list[int]]:
        if beam == 1:
            return generate(model, ids, Sampling(temperature=0), max_new_tokens=n, never=(), speculation=guess)
        return [hypotheses[0].tokens for hypotheses in beam_search(model, ids, how, never=())]

    def theirs() -> list[list[int]]:
        written = peer.generate(
            ids, attention_mask=torch.ones_like(ids), num_beams=beam, do_sample=False, max_new_tokens=n,
            length_penalty=1.0, early_stopping="never" if beam > 1 else False, forced_bos_token_id=None,
            max_length=None, bad_words_ids=None, no_repeat_ngram_size=0,
            **none,
        )  # fmt: skip
        rows = written[:, start:].tolist()
        return [row[: row.index(end)] if end in row else row for row in rows]

    return ours, theirs


def table(family: str, options: Namespace) -> Table:
    """Tokens a second of one family, for every batch and beam."""
    model = build(family, options)
    peer, rows = load_theirs(model, family), []
    sizes = sorted(((batch, beam) for batch in options.batches for beam in options.beams), key=math.prod)
    parameters = sum(p.numel() for p in model.parameters())
    helper: Any = None if options.no_draft else draft_of(model)
    for batch, beam in sizes:
        draft = helper if beam == 1 else None
        if draft is not None or batch * beam >= 4:  # from here on: it cannot be undone
            model = tz.pack(model)
        torch.manual_seed(options.seed + 1)
        ids = torch.randint(10, model.config.vocab_size, (batch, options.input_tokens), device=options.device)
        if model.facts.has_source:
            ids[:, -1] = model.config.eos_id or 0
        rows += _race(family, batch, beam, writers(model, peer, ids, beam, draft, options), options)
    notes = [
        f"{FAMILIES[family]} {shape(family, options.large) or ''}, {parameters:,} parameters, float32, random weights",
        f"{options.rounds} rounds; {options.new_tokens} tokens after {options.input_tokens}, greedy or beam search",
    ]
    return Table(family, "tokens/s", notes, rows)


@torch.inference_mode()
def _race(family: str, batch: int, beam: int, pair: tuple[Run, Run], options: Namespace) -> list[Row]:
    ours, theirs = (run() for run in pair)
    same = sum(mine == yours for mine, yours in zip(ours, theirs, strict=True))
    if beam == 1 and 2 * same < batch:  # where two tokens are as likely as each other, rounding decides: not for most
        raise UserError(f"{family}, batch {batch}: only {same} texts are the same as theirs")
    amount, other = (float(sum(map(len, texts))) for texts in (ours, theirs))
    if amount != other or not amount:
        raise UserError(f"{family}, batch {batch}, beam {beam}: {amount:.0f} tokens, and {other:.0f} theirs")

    def measure(run: Run, number: int) -> float:
        run()
        return amount

    contestants = [
        Contestant(name, "float32", partial(measure, run)) for name, run in zip((OURS, HUGGING_FACE), pair, strict=True)
    ]
    rows = compete(contestants, options.rounds, family, options.device)
    for row in rows:
        row.name += f", batch {batch}, {f'beam {beam}' if beam > 1 else 'greedy'}"
    return rows


def main(arguments: Sequence[str]) -> None:
    """Measure, print, and write."""
    options = parse_options(arguments)
    torch.set_num_threads(options.threads)
    described = machine(options.device)
    described["malloc"] = "tuned for all" if tune_malloc() else "as the system has it, for all"
    families = tqdm(options.families, desc="families", disable=None, leave=False)
    report(described, (table(family, options) for family in families), options.as_dict(), options.json)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
