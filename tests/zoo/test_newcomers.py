"""The files of a new family: one, and for a part of its own also a spec and a block."""

from pathlib import Path

import pytest
import torch
from torch import nn

import transformer_zoo as tz
from tests.zoo.huggingface.models import TEXT_CASES
from transformer_zoo.blocks.mixture import Mixture
from transformer_zoo.config import DecoderConfig
from transformer_zoo.config.mixture import MixtureSpec
from transformer_zoo.zoo.families import FAMILIES

PACKAGE = Path(tz.__file__).parent
FILES = {
    "mixture": {"config/mixture.py", "blocks/mixture.py", "zoo/families/mixtral.py"},
    "mixtral": {"blocks/mixture.py", "zoo/families/mixtral.py", "config/mixture.py"},
    # The other is another program's table of names, for its own files.
    "gemma3": {"zoo/families/gemma3.py", "zoo/huggingface/gguf.py"},
    "latentattention": {"blocks/latent_attention.py", "config/latent_attention.py"},
    "latentspec": {"config/latent_attention.py", "zoo/families/deepseek.py"},
    "deepseek_v3": {"zoo/families/deepseek.py"},
}


@pytest.mark.parametrize("word", FILES)
def test_no_other_file_of_the_package_knows_it(word: str) -> None:
    found = {path for path in PACKAGE.rglob("*.py") if word in path.read_text("utf-8").lower()}
    assert {path.relative_to(PACKAGE).as_posix() for path in found} <= FILES[word]


def test_it_is_known_all_the_same() -> None:
    assert {"mixtral", "gemma3_text", "deepseek_v3"} <= FAMILIES.keys()
    assert {"mixtral-8x7b", "gemma-3-1b"} <= set(tz.list_models())
    # Which every test of what is read and written goes through.
    assert {"mixtral", "gemma3", "deepseek_v3"} <= TEXT_CASES.keys()


def every_other() -> DecoderConfig:
    layer = [{}, {"ffn": MixtureSpec(n_experts=4, n_active=2, d_ff=20)}]
    return DecoderConfig.of(vocab_size=31, d_model=24, n_heads=3, d_ff=37, n_layers=5, max_seq_len=17, layer=layer)


def test_a_mixture_in_every_other_layer() -> None:
    config = every_other()
    assert DecoderConfig.from_dict(config.to_dict()) == config
    model = tz.DecoderOnly(config).eval()
    assert [isinstance(layer.ffn, Mixture) for layer in model.decoder.layers] == [False, True, False, True, False]
    ids = torch.randint(31, (2, 9))
    cache = model.new_cache(2, 9)
    steps = [model(ids[:, i : i + 1], cache=cache) for i in range(9)]
    torch.testing.assert_close(torch.cat(steps, 1), model(ids), atol=1e-5, rtol=1e-4)
    model(ids).square().mean().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_a_mixture_by_hand() -> None:
    """Each position: the few experts with the highest logits, weighed by the softmax over these."""
    mixture, x = Mixture(6, 10, n_experts=5, n_active=2), torch.randn(3, 4, 6)
    nn.init.normal_(mixture.router.weight, std=3.0)
    wanted = torch.empty_like(x)
    for i, j in torch.cartesian_prod(torch.arange(3), torch.arange(4)).tolist():
        logits = mixture.router(x[i, j])
        best = logits.argsort(descending=True)[:2].tolist()
        shares = logits[best].softmax(0)
        wanted[i, j] = sum(share * mixture.experts[k](x[i, j]) for share, k in zip(shares, best, strict=True))
    torch.testing.assert_close(mixture(x), wanted)


def test_of_a_mixture_few_experts_count_as_operations() -> None:
    mixture = Mixture(6, 10, n_experts=5, n_active=2)
    assert mixture.flops(1) == 2 * (6 * 5 + 2 * 3 * 6 * 10)


def test_two_rotations_in_one_stack() -> None:
    model = tz.create_model("gemma-3-270m", vocab_size=29, n_layers=7, d_model=24, d_ff=30, n_heads=2, head_dim=6)
    bases = [model.config.decoder.positions_of(layer).base for layer in model.config.decoder.layers]  # type: ignore[union-attr]
    assert bases == [1e4] * 5 + [1e6, 1e4]
