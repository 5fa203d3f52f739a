"""Part 2 of gpu.py: writing and searching compared with Hugging Face, and with the limit of the memory's speed."""

import argparse
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from recipes.benchmarks.gpu_report import Figure
from recipes.benchmarks.gpu_setting import NotHere, Setting
from recipes.benchmarks.gpu_training import translation_model
from recipes.benchmarks.speed import OURS, Contestant, compete
from recipes.benchmarks.translation_contestants import MARIAN, discourage_specials, search_marian, search_ours
from recipes.benchmarks.translation_peers import to_marian
from transformer_zoo import DecoderOnly, Sampling
from transformer_zoo.config.changes import value_at
from transformer_zoo.errors import UserError
from transformer_zoo.inference import Speculation, generate_stream
from transformer_zoo.inference import Steps as How
from transformer_zoo.zoo.huggingface.save import choose

PROMPT, NEW = 128, 256  # tokens
FIRST = 8  # steps that are not timed: there the step is captured, and compiled


def speeds(setting: Setting) -> Iterator[Figure]:
    """The device's limits: bytes per second of a large copy, operations per second of a large product."""
    yield Figure("copy, read and written", bandwidth(setting) / 1e12, "TB/s")
    n = setting.size(8192, 64)
    a, b = (torch.randn(n, n, device=setting.device, dtype=torch.bfloat16) for _ in range(2))
    seconds = setting.seconds(lambda: a @ b, rounds=20)
    yield Figure(f"bfloat16 product of {n} x {n}", 2 * n**3 / seconds / 1e12, "TFLOP/s")
    try:
        yield Figure("published bfloat16 peak", setting.peak / 1e12, "TFLOP/s")
    except NotHere as reason:
        yield Figure("published bfloat16 peak", unit="TFLOP/s", note=str(reason))


def bandwidth(setting: Setting) -> float:
    """Bytes a second, read and written, of a copy too large for any cache."""
    source = torch.empty(setting.size(1 << 32, 1 << 20), dtype=torch.uint8, device=setting.device).random_()
    target = torch.empty_like(source)
    return 2 * source.numel() / setting.seconds(lambda: target.copy_(source), rounds=10)


def bytes_of_step(model: DecoderOnly, batch: int, length: float) -> float:
    """The bytes that a step must read: each weight of a product once, and the keys and values of every row.

    Args:
        length: Number of tokens in the cache.
    """
    c, weight = model.config, model.head_weight
    looked_up = 0 if c.tie_embeddings else model.embedding.weight.numel()  # a row of it for a token
    weights = sum(p.numel() for p in model.parameters()) - looked_up
    heads: int = value_at(c, "n_kv_heads") or value_at(c, "n_heads")
    cache = 2 * c.decoder.n_layers * heads * c.decoder.layers[0].attention.width(c.d_model) * length * batch
    return (weights + cache) * weight.element_size()


class Steps:
    """The times at which a batch got its tokens; a `streamer` for `generate` of transformers."""

    def __init__(self, setting: Setting) -> None:
        self.setting, self.times = setting, list[float]()

    def put(self, tokens: Any) -> None:
        """The tokens have arrived: the caller has waited for them, or waits now."""
        self.setting.wait()
        self.times.append(time.perf_counter())

    def end(self) -> None:
        """All tokens have arrived."""

    def per_second(self) -> float:
        """Steps, without the first ones. Ours come 8 at a time, so it begins at the last of the first ones."""
        timed = self.times[self.setting.size(FIRST, 2) - 1 :]
        return (len(timed) - 1) / (timed[-1] - timed[0])


def ours(model: DecoderOnly, prompts: torch.Tensor, setting: Setting, *, compile: bool) -> float:
    """Steps a second of greedy writing, captured on a GPU."""
    steps = Steps(setting)
    how: Any = {"max_new_tokens": setting.size(NEW, 8), "ignore_eos": True, "speculation": Speculation(lookup=0)}
    how["steps"] = How(static=True, compile=compile)
    for token in generate_stream(model, prompts, Sampling(temperature=0), **how):
        if token.row == 0:
            steps.put(token)
    return steps.per_second()


def theirs(peer: Any, prompts: torch.Tensor, setting: Setting, *, compile: bool) -> float:
    """The same by Hugging Face's `generate`, with its static cache."""
    steps, n = Steps(setting), setting.size(NEW, 8)
    peer.generate(
        prompts, attention_mask=torch.ones_like(prompts), do_sample=False, max_new_tokens=n, min_new_tokens=n,
        pad_token_id=0, cache_implementation="static", disable_compile=not compile, streamer=steps,
    )  # fmt: skip
    return steps.per_second()


def hugging_face(model: DecoderOnly) -> Any:
    """Their model of this shape, with random weights of its own.

    Raises:
        NotHere: transformers is not installed.
    """
    try:
        from transformers import AutoConfig, AutoModelForCausalLM
    except ImportError:
        raise NotHere("transformers is not installed") from None
    family, config = choose(model.config)
    fields = family.write(config)
    with torch.device(model.head_weight.device):
        make: Any = AutoModelForCausalLM.from_config
        peer: Any = make(AutoConfig.for_model(**fields), dtype=model.head_weight.dtype)
    return peer.to(model.head_weight.device).eval()


def writing(setting: Setting, preset: str, batch: int, all_compiled: bool) -> Iterator[Figure]:
    """Greedy tokens a second of a batch, weights in bfloat16: captured, if asked compiled too, and beside theirs."""
    longest = setting.size(PROMPT + NEW, 24)
    model = setting.model(preset, torch.bfloat16, max_seq_len=setting.size(1024, 64)).eval()
    prompts = torch.randint(10, model.config.vocab_size - 10, (batch, setting.size(PROMPT, 8)), device=setting.device)
    words = f"{prompts.size(1)} tokens read, {setting.size(NEW, 8)} written"
    allowed = bandwidth(setting) / bytes_of_step(model, batch, (prompts.size(1) + longest) / 2)  # steps a second
    best = 0.0
    for compile in (False, True) if all_compiled else (False,):
        steps = ours(model, prompts, setting, compile=compile)
        best = max(best, steps)
        yield Figure(f"captured{' and compiled' * compile}", batch * steps, "tokens/s", note=words)
    yield Figure(
        "of what the memory's speed allows", 100 * best / allowed, "%", note=f"{batch * allowed:,.0f} tokens/s"
    )
    peer, fastest = hugging_face(model), 0.0
    for compile in (False, True) if all_compiled else (False,):
        steps = theirs(peer, prompts, setting, compile=compile)
        fastest = max(fastest, steps)
        how = f"static cache, {'' if compile else 'not '}compiled"
        yield Figure(f"Hugging Face, {how}", batch * steps, "tokens/s", note=words)
        if compile == all_compiled:
            yield Figure("ours / Hugging Face", best / fastest, note=f"the faster one of each; theirs {how}")


def search(setting: Setting) -> Iterator[Figure]:
    """Beam search of transformer-base, all translations up to the same length, beside Hugging Face's."""
    model = translation_model(setting, vocab_size=32_000).eval()
    discourage_specials(model)
    batch, beam = setting.size(64, 3), 4
    options = argparse.Namespace(beam=beam, new_tokens=setting.size(26, 4))
    source = torch.randint(10, model.config.vocab_size, (batch, setting.size(26, 7)), device=setting.device)
    source[:, -1] = model.config.eos_id

    def run(searching: Any, network: Any, number: int) -> float:
        with setting.autocast():
            searching(network, source, None, options)
        return float(batch)

    contestants = [Contestant(OURS, "bfloat16", partial(run, search_ours, model))]
    missing = ""
    try:
        marian: Any = to_marian(model)
        marian = marian.to(setting.device).eval()
        contestants.append(Contestant(MARIAN, "bfloat16", partial(run, search_marian, marian)))
    except UserError as error:
        missing = str(error)
    rows = compete(contestants, setting.size(5, 1), "beam search", setting.device)
    words = f"{batch} sources of {source.size(1)} tokens, beam {beam}, {options.new_tokens} steps, bfloat16 autocast"
    for row in rows:
        yield Figure(row.name, row.speed, "sentences/s", note=words)
    if missing:
        raise NotHere(missing)
    yield Figure("ours / Hugging Face", rows[-1].ratio, note=words)
