"""The objective and the metrics of language models."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from transformer_zoo import DecoderConfig, DecoderOnly
from transformer_zoo.data import TextFiles, TokenBatch
from transformer_zoo.data.windows import IGNORED
from transformer_zoo.errors import UserError
from transformer_zoo.training.tasks.language import GptRecipe, TextConfig, text_metrics
from transformer_zoo.training.tasks.objectives import GptObjective

V, T = 29, 7


def objective(**changes: Any) -> GptObjective:
    fields = {"vocab_size": V, "d_model": 12, "n_heads": 2, "d_ff": 17, "n_layers": 2, "max_seq_len": T, "dropout": 0.0}
    model = DecoderOnly(DecoderConfig.of(**fields | {"attention_dropout": 0.0} | changes)).double()
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.3 * torch.randn_like(weight)
    return GptObjective(model)


def batch(rows: int = 4, ignored: int = 0) -> TokenBatch:
    tokens = torch.randint(V, (rows, T + 1))
    targets = tokens[:, 1:].clone()
    targets[-1, T - ignored :] = IGNORED
    return TokenBatch(tokens[:, :-1], targets, None, None, rows * T - ignored)


@pytest.mark.parametrize("ignored", [0, 3])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"logit_softcap": 2.0, "vocab_multiple": 16, "tie_embeddings": False},
        {"logit_softcap": 2.0, "vocab_multiple": 16, "logit_bias": True},
    ],
)
def test_the_sum_of_the_cross_entropies(changes: dict[str, Any], ignored: int) -> None:
    ours, pairs = objective(**changes), batch(ignored=ignored)
    loss, nll = ours(pairs)
    logits = ours.model(pairs.ids)
    wanted = F.cross_entropy(logits.flatten(0, 1), pairs.targets.flatten(), ignore_index=IGNORED, reduction="sum")
    assert_close(loss, wanted)
    assert_close(nll, wanted.detach())
    mine = torch.autograd.grad(loss, list(ours.parameters()))
    theirs = torch.autograd.grad(wanted, list(ours.parameters()))
    assert_close(mine, theirs)


def test_two_halves_are_the_whole() -> None:
    ours, whole = objective(), batch()

    def gradients(*parts: TokenBatch) -> list[Tensor | None]:
        ours.zero_grad()
        for part in parts:
            (ours(part)[0] / whole.n_tokens).backward()
        return [p.grad for p in ours.parameters()]

    halves = [
        TokenBatch(whole.ids[rows], whole.targets[rows], None, None, 2 * T) for rows in (slice(0, 2), slice(2, 4))
    ]
    assert_close(gradients(whole), gradients(*halves))


def test_packed_documents_are_read_apart() -> None:
    ours, pairs = objective(), batch(rows=1)
    documents = torch.tensor([[0, 0, 0, 1, 1, 1, 1]])
    positions = torch.tensor([[0, 1, 2, 0, 1, 2, 3]])
    packed, _ = ours(TokenBatch(pairs.ids, pairs.targets, documents, positions, T))
    apart = sum(
        ours(TokenBatch(pairs.ids[:, part], pairs.targets[:, part], None, None, n))[0]
        for part, n in ((slice(0, 3), 3), (slice(3, 7), 4))
    )
    assert_close(packed, apart)


def test_metrics_by_hand() -> None:
    """All logits equal: log V nats a token, of which 11 in 5 bytes."""
    ours = objective()
    with torch.no_grad():
        ours.model.embedding.weight.zero_()
    found = text_metrics(ours, [batch(rows=1), batch(rows=1, ignored=3)], n_bytes=5)
    assert found["loss"] == pytest.approx(math.log(V))
    assert found["perplexity"] == pytest.approx(V)
    assert found["bits_per_byte"] == pytest.approx(11 * math.log2(V) / 5)
    assert not ours.training


def test_a_folder_for_tokens_that_is_a_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("some text")
    text = TextFiles(path=str(tmp_path / "text.txt"))
    data = TextConfig(train=text, validation=text, tokens=str(tmp_path / "text.txt"))
    with pytest.raises(UserError, match=r"data\.tokens: .*text\.txt cannot be written"):
        GptRecipe(run_dir=str(tmp_path / "run"), data=data).validate()
