"""What `describe` counts, in the parts that GPT-2 and the paper's Transformer lack."""

import pytest
import torch

import transformer_zoo as tz
from transformer_zoo.zoo.describe import Description, describe


def parts(name: str, **overrides: object) -> tuple[dict[str, int], Description]:
    found = describe(tz.get_config(name, **overrides))
    assert len(dict(found.parameters)) == len(found.parameters)
    return dict(found.parameters), found


@pytest.mark.parametrize("name", tz.list_models())
def test_the_parts_make_the_whole(name: str) -> None:
    counts, found = parts(name, n_layers=1)  # of two, the second may have another norm
    assert sum(count for part, count in counts.items() if not part.startswith(" ")) == found.total
    inside = sum(count for part, count in counts.items() if part.startswith(" "))
    assert inside == sum(count for part, count in counts.items() if part.endswith(" layers"))


def test_norms_before_and_after() -> None:
    counts, _ = parts("gemma-2-2b", n_layers=3)
    assert counts["  one layer's norms"] == 4 * 2304
    assert counts["decoder final norm"] == 2304


def test_a_narrower_embedding() -> None:
    counts, found = parts("opt-350m", n_layers=1)
    assert counts["token embedding"] == 50272 * 512
    assert counts["embedding to d_model"] == counts["d_model to embedding"] == 512 * 1024
    products = 4 * 1024 * 1024 + 2 * 1024 * 4096 + 2 * 512 * 1024 + 50272 * 512
    assert found.forward_flops == 2 * products + 4 * 1024 * 2048


def test_relative_positions_and_embedding_norms() -> None:
    counts, _ = parts("t5-small")
    assert counts["encoder position embedding"] == counts["decoder position embedding"] == 32 * 8
    assert counts["  one encoder layer's self-attention"] == counts["  one decoder layer's cross-attention"]
    counts, _ = parts("bloom-560m", n_layers=1)
    assert counts["decoder embedding norm"] == 2 * 1024


def test_the_cache_is_as_large_as_the_one_that_is_made() -> None:
    config = tz.get_config("gemma-2-2b", n_layers=3, sliding_window=5, max_seq_len=11)
    with torch.device("meta"):
        model = tz.DecoderOnly(config)
    cache = model.new_cache(1, 11)
    kept = sum(tensor.nbytes for layer in cache.layers for tensor in (layer.keys, layer.values))
    assert describe(config).cache_bytes == kept


def test_the_cache_of_a_decoder_with_its_own_heads() -> None:
    config = tz.get_config("transformer-base", n_heads=4, n_kv_heads=2, **{"decoder.layer.attention.n_heads": 16})
    with torch.device("meta"):
        cache = tz.EncoderDecoder(config).new_cache(torch.empty(1, 7, 512), 7)
    held = [*cache.layers, *(memory for memory in cache.memories if memory is not None)]
    assert len(held) == 2 * 6
    kept = sum(tensor.nbytes for part in held for tensor in (part.keys, part.values))
    assert describe(config, context=7).cache_bytes == kept
