"""One side of guard.py: does the work of a row as often as it is told to, with the package that PYTHONPATH names.

Each line of standard input names a row, such as `beam float32`; the answer is a line with the seconds that it took. It
uses only what both commits have.
"""

import json
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

import transformer_zoo as tz
from transformer_zoo.data import (
    ParallelText,
    TokenBatch,
    batch_indices,
    collate,
    encode_corpus,
)
from transformer_zoo.training.device import tune_malloc

try:
    from transformer_zoo.training.tasks.objectives import GptObjective, TranslationObjective
    from transformer_zoo.training.tasks.translation import special_ids
except ImportError:  # the older of the two
    from transformer_zoo.training.gpt import GptObjective  # type: ignore[import-not-found,no-redef]
    from transformer_zoo.training.translation import (  # type: ignore[import-not-found,no-redef]
        TranslationObjective,
        special_ids,
    )
try:
    from transformer_zoo.tokenizers import TranslationTokenizer
    from transformer_zoo.tokenizers import TranslationTokenizerSettings as TokenizerSettings
except ImportError:
    from transformer_zoo.data import TokenizerSettings, TranslationTokenizer  # type: ignore[attr-defined,no-redef]

try:
    from transformer_zoo.inference import Batching, BeamSearch, translate

    def translated(model: Any, tokenizer: Any, lines: list[str], beam: int, dtype: torch.dtype) -> list[str]:
        """The best translation of every line."""
        how = BeamSearch(beam=beam, max_extra=NEW_TOKENS)
        return list(translate(model, tokenizer, lines, how, batching=Batching(dtype=dtype)))

except ImportError:  # the older of the two
    from transformer_zoo.generation import translate as old_translate  # type: ignore[import-not-found]

    def translated(model: Any, tokenizer: Any, lines: list[str], beam: int, dtype: torch.dtype) -> list[str]:
        """The best translation of every line."""
        return list(old_translate(model, tokenizer, lines, beam=beam, dtype=dtype, max_extra=NEW_TOKENS))


SEED, STEPS, SENTENCES, NEW_TOKENS = 1, 1, 16, 10
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
Work = Callable[[], object]


def corpus(n: int) -> ParallelText:
    """Made-up sentences of lengths as they are in real text."""
    draw = random.Random(SEED)
    syllables = [consonant + vowel for consonant in "bdfgklmnprst" for vowel in "aeiou"]
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 3))) for _ in range(2000)]
    sides = [
        [" ".join(draw.choices(words, k=min(40, 3 + int(draw.gammavariate(4, 3))))) for _ in range(n)] for _ in "st"
    ]
    return ParallelText(sides[0], sides[1])


def update(objective: Any, optimizer: Any, batch: Any, dtype: torch.dtype) -> None:
    """Forward, backward, clip, step."""
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        loss = objective(batch)[0]
    (loss / batch.n_tokens).backward()
    torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def training(objective: Any, batches: list[Any], dtype: torch.dtype) -> Work:
    """Some updates, the same ones each time."""
    objective.train()
    optimizer = torch.optim.Adam(objective.parameters(), lr=1e-5, fused=True)

    def work() -> None:
        for number, batch in enumerate(batches):
            torch.manual_seed(number)
            update(objective, optimizer, batch, dtype)

    return work


def translation_step(dtype: torch.dtype) -> Work:
    """Updates of transformer-small on batches of 4,096 tokens, as the package cuts them."""
    text = corpus(2000)
    tokenizer = TranslationTokenizer.train(text.source, text.target, TokenizerSettings(vocab_size=2000), seed=SEED)
    model: Any = tz.create_model("transformer-small", vocab_size=2000)
    encoded = encode_corpus(text, tokenizer)
    cut = batch_indices(encoded.source_lengths, encoded.target_lengths, batch_tokens=4096, seed=SEED, epoch=0)
    batches = [collate(encoded, indices, special_ids(model.config)) for indices in list(cut)[:STEPS]]
    return training(TranslationObjective(model, label_smoothing=0.1), batches, dtype)


def gpt_step(dtype: torch.dtype) -> Work:
    """Updates of a GPT-2 of 6 layers on 4 windows of 256."""
    model: Any = tz.create_model("gpt2", d_model=384, n_layers=6, n_heads=6, d_ff=1536, vocab_size=8000, eos_id=None)
    tokens = torch.randint(8000, (4, 257))
    batch = TokenBatch(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous(), None, None, 4 * 256)
    return training(GptObjective(model), [batch] * STEPS, dtype)


def translating(dtype: torch.dtype, beam: int) -> Work:
    """Sentences by transformer-iwslt with random weights that hardly ever end, so that all go to the limit."""
    text = corpus(2000)
    tokenizer = TranslationTokenizer.train(text.source, text.target, TokenizerSettings(vocab_size=2000), seed=SEED)
    model: Any = tz.create_model("transformer-iwslt", vocab_size=2000)
    with torch.no_grad():
        model.decoder.layers[-1].ffn_norm.bias -= 6 * F.normalize(model.head_weight[model.config.eos_id], dim=-1)
    lines = sorted(text.source[:SENTENCES], key=len)
    return lambda: translated(model.eval(), tokenizer, lines, beam, dtype)


ROWS: dict[str, Callable[[torch.dtype], Work]] = {
    "translation step": translation_step,
    "GPT step": gpt_step,
    "greedy": lambda dtype: translating(dtype, 1),
    "beam": lambda dtype: translating(dtype, 5),
}


def main(threads: int) -> None:
    """Answers until standard input ends."""
    torch.set_num_threads(threads)
    tune_malloc()
    ready: dict[str, Work] = {}
    for line in sys.stdin:
        name = line.strip()
        row, _, precision = name.rpartition(" ")
        if name not in ready:
            torch.manual_seed(SEED)
            ready[name] = ROWS[row](DTYPES[precision])
            ready[name]()  # warm up
        start = time.perf_counter()
        ready[name]()
        print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
