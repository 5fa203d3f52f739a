"""Speed of writing and translating beside Hugging Face's `generate`, with the same weights, family by family.

    python recipes/benchmarks/zoo.py [--families gpt2 marian ...] [--batches 1 16]

Needs `pip install -e '.[benchmark]'`. Each model has random weights: ours is exported, theirs is loaded from what was
written. As the commands do it, ours is packed for batches and beams, and a copy in 8 bits helps with greedy texts, of
which neither side computes scores. Both run in this process, in alternation; a ratio is the median over the rounds of
ours / theirs in a round. Before anything is timed, both must have written the same tokens; of beam search, as many: at
the length limit, where all of these end, theirs does not count what the end costs.
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

if not __package__:  # in place of this folder, whose kernels.py others would take for a package
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import transformer_zoo as tz
from recipes.benchmarks.speed import OURS, Contestant, Row, Table, compete, machine, report
from transformer_zoo import BeamSearch, DecoderOnly, EncoderDecoder, Sampling
from transformer_zoo.config import value_at
from transformer_zoo.errors import UserError
from transformer_zoo.inference import Speculation, beam_search, draft_of, generate
from transformer_zoo.training.device import choose_device, tune_malloc
from transformer_zoo.zoo import get_config

try:
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM
except ImportError as missing:
    sys.exit(f"error: {missing}: the peer is installed by pip install -e '.[benchmark]'")

HUGGING_FACE = "Hugging Face"
# The smallest preset of each family; of those that are large all the same, a few layers.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", {}),
    "gpt_neox": ("pythia-70m", {}),
    "opt": ("opt-125m", {}),
    "bloom": ("bloom-560m", {"n_layers": 6}),
    "llama": ("llama-3.2-1b", {"n_layers": 4}),
    "mistral": ("mistral-7b-v0.1", {"n_layers": 1}),
    "qwen2": ("qwen2-0.5b", {"n_layers": 6}),
    "qwen3": ("qwen3-0.6b", {"n_layers": 6}),
    "gemma": ("gemma-2b", {"n_layers": 1}),
    "gemma2": ("gemma-2-2b", {"n_layers": 2}),
    "marian": ("opus-mt", {}),
    "bart": ("bart-base", {}),
    "mbart": ("mbart-large-50", {"n_layers": 4}),
    "m2m_100": ("nllb-600m", {"n_layers": 4}),
    "t5": ("t5-small", {}),
}


def parse_options(arguments: Sequence[str]) -> Namespace:
    """The command line."""
    parser = ArgumentParser(description="Speed of generation beside Hugging Face's, family by family.")
    add: Callable[..., Any] = parser.add_argument
    add("--families", nargs="+", choices=list(FAMILIES), default=list(FAMILIES), help="which families")
    add("--batches", nargs="+", type=int, default=[1, 16], help="texts at once")
    add("--beams", nargs="+", type=int, default=[1, 4], help="of the encoder-decoders; the others are greedy")
    add("--input-tokens", type=int, default=26, help="tokens of a prompt, or of a source")
    add("--new-tokens", type=int, default=32, help="tokens written")
    add("--rounds", type=int, default=5, help="rounds of each table")
    add("--no-draft", action="store_true", help="no copy in 8 bits that helps with greedy texts")
    add("--small", action="store_true", help="two layers of 32: for a look whether it works")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add("--threads", type=int, default=torch.get_num_threads(), help="CPU threads of everybody")
    add("--seed", type=int, default=0, help="seed of weights and tokens")
    add("--json", default=None, type=str | None, help="also write the results to this file")
    options = parser.parse_args(list(arguments))
    options.device = choose_device(options.device)
    return options


def build(family: str, options: Namespace) -> DecoderOnly | EncoderDecoder:
    """The family's model with random weights, of which no translation ends before its limit."""
    preset, changes = FAMILIES[family]
    if options.small:
        config = get_config(preset)
        sizes: dict[str, Any] = {"d_model": 32, "n_heads": 4, "d_ff": 128, "n_layers": 2}
        changes = {**changes, **sizes, "head_dim": 8, "n_kv_heads": None}
        changes |= {"positions.dim": None} if value_at(config, "positions.dim") else {}
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


def writers(
    model: DecoderOnly, peer: Any, ids: Tensor, draft: DecoderOnly | None, options: Namespace
) -> tuple[Run, Run]:
    """Greedy writing after prompts (B, T): ours and theirs."""
    n = options.new_tokens

    def theirs() -> list[list[int]]:
        written = peer.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=n, eos_token_id=None,
            pad_token_id=0,
        )  # fmt: skip
        return [row[ids.size(1) :] for row in written.tolist()]

    # Random weights repeat themselves, which a lookup would gain from more than on any text.
    guess = Speculation(lookup=0, draft=draft)
    how: Any = {"max_new_tokens": n, "ignore_eos": True, "speculation": guess}
    return lambda: generate(model, ids, Sampling(temperature=0), **how), theirs


def translators(
    model: EncoderDecoder, peer: Any, ids: Tensor, beam: int, draft: EncoderDecoder | None, options: Namespace
) -> tuple[Run, Run]:
    """Translation of sources (B, Ts), all of them up to the length limit: ours and theirs."""
    end, n = model.config.eos_id, options.new_tokens
    how = BeamSearch(beam=beam, length_penalty=1.0, penalty="length", max_length=n, max_extra=n)
    guess = Speculation(lookup=0, draft=draft)

    def ours() -> list[list[int]]:
        if beam == 1:
            return generate(model, ids, Sampling(temperature=0), max_new_tokens=n, never=(), speculation=guess)
        found = beam_search(model, ids, how, never=())
        return [hypotheses[0].tokens for hypotheses in found]

    def theirs() -> list[list[int]]:
        written = peer.generate(
            ids, attention_mask=torch.ones_like(ids), num_beams=beam, do_sample=False, max_new_tokens=n,
            length_penalty=1.0, early_stopping="never" if beam > 1 else False, forced_bos_token_id=None,
            max_length=None, bad_words_ids=None, no_repeat_ngram_size=0,
        )  # fmt: skip
        rows = written[:, 1:].tolist()  # without the start
        return [row[: row.index(end)] if end in row else row for row in rows]

    return ours, theirs


def table(family: str, options: Namespace) -> Table:
    """Tokens a second of one family, for every batch and beam."""
    model = build(family, options)
    peer, rows = load_theirs(model, family), []
    beams = [1] if isinstance(model, DecoderOnly) else options.beams
    sizes = sorted(((batch, beam) for batch in options.batches for beam in beams), key=math.prod)
    parameters = sum(p.numel() for p in model.parameters())
    helper: Any = None if options.no_draft else draft_of(model)
    for batch, beam in sizes:
        draft = helper if beam == 1 else None
        if draft is not None or batch * beam >= 4:  # from here on: it cannot be undone
            model = tz.pack(model)
        torch.manual_seed(options.seed + 1)
        ids = torch.randint(10, model.config.vocab_size, (batch, options.input_tokens), device=options.device)
        if isinstance(model, DecoderOnly):
            pair = writers(model, peer, ids, draft, options)
        else:
            ids[:, -1] = model.config.eos_id
            pair = translators(model, peer, ids, beam, draft, options)
        rows += _race(family, batch, beam, pair, options)
    notes = [
        f"{FAMILIES[family][0]} {FAMILIES[family][1] or ''}, {parameters:,} parameters, float32, random weights",
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
