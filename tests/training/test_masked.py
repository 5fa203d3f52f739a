"""Masked language modelling: what is hidden, what the loss counts, and a run from text to results and on."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from safetensors.torch import load_file
from torch import Tensor
from torch.testing import assert_close

from tests.faults.tiny import main_of, write_recipe
from transformer_zoo import EncoderConfig, EncoderOnly, UserError
from transformer_zoo.cli import main
from transformer_zoo.commandline import parse_recipe
from transformer_zoo.data import MaskedWindows, TokenBatch, TokenFile, write_tokens
from transformer_zoo.data.windows import IGNORED
from transformer_zoo.runs import load_encoder_run, load_run, load_text_run
from transformer_zoo.tokenizers import CharacterTokenizer
from transformer_zoo.training.tasks.masked import MaskedRecipe, masked_metrics, model_config
from transformer_zoo.training.tasks.objectives import MaskedObjective

LETTERS = "abcdefghijklmnopqrstuvwxyz"
N, MASK, SPECIAL = len(LETTERS), 99, (0, 3)
LENGTH, SEED = 40, 5


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> TokenFile:
    text = "".join(LETTERS[i] for i in np.random.default_rng(0).integers(N, size=20_003))
    return write_tokens([text], CharacterTokenizer(LETTERS, end_of_text=False), tmp_path_factory.mktemp("t"), "train")


def windows(tokens: TokenFile, **changes: Any) -> MaskedWindows:
    about = {"share": 0.15, "mask_id": MASK, "vocab_size": N, "special": SPECIAL}
    return MaskedWindows(tokens, LENGTH, **about | changes)


def epoch_of(of: MaskedWindows, epoch: int, *, batch_size: int = 7, seed: int = SEED) -> list[TokenBatch]:
    return [of.load(place, batch_size=batch_size, seed=seed) for place in of.plan(epoch, batch_size=batch_size)]


def joined(batches: list[TokenBatch]) -> tuple[Tensor, Tensor]:
    return torch.cat([batch.ids for batch in batches]), torch.cat([batch.targets for batch in batches])


def texts(ids: Tensor, targets: Tensor) -> Tensor:
    """What stood there; only where it is to be guessed can another token be read."""
    return torch.where(targets == IGNORED, ids, targets)


def test_how_many_are_chosen_and_what_is_read_in_their_place(tokens: TokenFile) -> None:
    batches = epoch_of(windows(tokens), 0)
    ids, targets = joined(batches)
    chosen, text = targets != IGNORED, texts(ids, targets)
    ordinary = (text[..., None] != torch.tensor(SPECIAL)).all(-1)
    assert chosen.sum() / ordinary.sum() == pytest.approx(0.15, abs=0.01)
    assert sum(batch.n_tokens for batch in batches) == chosen.sum()
    n = int(chosen.sum())
    read = ids[chosen]
    hidden, same = int((read == MASK).sum()), int((read == targets[chosen]).sum())
    assert hidden / n == pytest.approx(0.8, abs=0.03)
    assert same / n == pytest.approx(0.1 + 0.1 / (N - 2), abs=0.03)  # a random token may be the one that was there
    other = Counter(read[(read != MASK) & (read != targets[chosen])].tolist())
    assert set(other) == set(range(N)) - set(SPECIAL)
    assert max(other.values()) < 4 * min(other.values())


def test_special_tokens_are_never_chosen_nor_drawn(tokens: TokenFile) -> None:
    ids, targets = joined(epoch_of(windows(tokens, share=0.999), 0))
    for token in SPECIAL:
        assert not (targets == token).any()
        assert torch.equal(ids == token, texts(ids, targets) == token)
    with_them = joined(epoch_of(windows(tokens, share=0.999, special=()), 0))[1]
    assert all((with_them == token).any() for token in SPECIAL)


def test_each_epoch_and_seed_has_its_own_masks_and_always_the_same(tokens: TokenFile) -> None:
    of = windows(tokens)

    def chosen(epoch: int, seed: int, batch_size: int = 7) -> set[int]:
        found = set()
        for place in of.plan(epoch, batch_size=batch_size):
            places = of.places(place, batch_size=batch_size, seed=seed)[:, :-1]
            found |= set(places[(of.load(place, batch_size=batch_size, seed=seed).targets != IGNORED).numpy()].tolist())
        return found

    first = chosen(0, SEED)
    assert first == chosen(0, SEED) == chosen(0, SEED, batch_size=3)
    for other in (chosen(1, SEED), chosen(0, SEED + 1)):
        assert len(first & other) / len(first) == pytest.approx(0.15, abs=0.03)  # as by chance


def test_validation_has_the_same_masks_in_any_batches_and_each_token_once(tokens: TokenFile) -> None:
    of = windows(tokens, share=0.5)
    whole, small = (joined(list(of.evaluation(batch_size=n))) for n in (1000, 3))
    assert all(torch.equal(a, b) for a, b in zip(whole, small, strict=True))
    assert whole[0].shape == (tokens.n_tokens // LENGTH, LENGTH)
    places = torch.from_numpy(of.places((0, 0), batch_size=1000, seed=0)[:, :-1])
    assert len(places.unique()) == places.numel()
    assert torch.equal(texts(*whole), torch.from_numpy(tokens.take(places.numpy()).astype(np.int64)))


def objective(**changes: Any) -> MaskedObjective:
    fields = {"vocab_size": N, "d_model": 12, "n_heads": 2, "d_ff": 17, "n_layers": 2, "max_seq_len": LENGTH}
    model = EncoderOnly(EncoderConfig.of(**fields | {"dropout": 0.0, "attention_dropout": 0.0} | changes)).double()
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.3 * torch.randn_like(weight)
    return MaskedObjective(model)


def batch() -> TokenBatch:
    ids, targets = torch.randint(N, (3, 9)), torch.full((3, 9), IGNORED)
    targets[0, 4], targets[1, 0], targets[1, 8] = 5, 6, 7
    return TokenBatch(ids, targets, None, None, 3)


@pytest.mark.parametrize("changes", [{}, {"tie_embeddings": False, "positions": "rotary"}])
def test_the_loss_counts_what_is_to_be_guessed_and_nothing_else(changes: dict[str, Any]) -> None:
    ours, one = objective(**changes), batch()
    loss, nll = ours(one)
    chosen = one.targets != IGNORED
    wanted = F.cross_entropy(ours.model(one.ids)[chosen], one.targets[chosen], reduction="sum")
    assert_close(loss, wanted)
    assert_close(nll, wanted.detach())
    mine, theirs = (torch.autograd.grad(x, list(ours.parameters())) for x in (loss, wanted))
    assert_close(mine, theirs)


def test_metrics_by_hand() -> None:
    ours, one = objective(), batch()
    with torch.no_grad():
        ours.model.embedding.weight.zero_()
        ours.model.logit_bias.zero_()[6] = 1.0
    found = masked_metrics(ours, [one, one])
    total = N - 1 + np.e
    assert found["loss"] == pytest.approx(np.log(total) - 1 / 3)
    assert found["perplexity"] == pytest.approx(np.exp(found["loss"]))
    assert found["accuracy"] == pytest.approx(1 / 3)
    assert not ours.training


def test_from_text_to_results_and_on_in_the_same_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, train = str(write_recipe(tmp_path, "masked")), main_of("masked")
    same = ["--schedule.name", "constant", "--schedule.decay", "null", "--model.dropout", "0.1"]
    train([recipe, *same])
    run = tmp_path / "run"
    results = json.loads((run / "results.json").read_text())
    assert results["step"] == 12
    assert set(results["validation"]) >= {"loss", "perplexity", "accuracy"}
    samples = (run / "samples.txt").read_text()
    assert re.search(r"\[\w+: .*\]", samples)
    again = [recipe, *same, "--run_dir", str(tmp_path / "again")]
    train([*again, "--training.max_updates", "7"])
    train(again)
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("run", "again"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert results["validation"] == json.loads((tmp_path / "again" / "results.json").read_text())["validation"]
    loaded = load_encoder_run(run)
    config = loaded.model.config
    assert (config.vocab_size, config.pad_id, config.mask_id) == tuple(
        loaded.tokenizer.vocab_size + i for i in (2, 0, 1)
    )
    ids = torch.tensor([loaded.tokenizer.encode("the cat sat")])
    assert loaded.model.pool(loaded.model.hidden(ids)).shape == (1, config.d_model)
    assert type(load_run(run)) is type(loaded)
    with pytest.raises(UserError, match="is a run of an encoder, where a decoder-only run is needed; it is for embed"):
        load_text_run(run)
    capsys.readouterr()
    for words in (["generate", str(run), "--prompt", "a"], ["translate", str(run)]):
        assert main(words) == 1
        assert "is a run of an encoder, where" in capsys.readouterr().err


def test_it_goes_on_from_a_run_of_its_own_kind_only(tmp_path: Path) -> None:
    for kind in ("gpt", "masked"):
        (tmp_path / kind).mkdir()
        main_of(kind)(
            [str(write_recipe(tmp_path / kind, kind)), "--training.max_updates", "2", "--schedule.decay", "1"]
        )
    recipe = tmp_path / "masked" / "masked.yaml"
    fields = {name: x for name, x in yaml.safe_load(recipe.read_text()).items() if name not in ("model", "tokenizer")}

    def go_on(start: str) -> None:
        model = {"init_from": str(tmp_path / start / "run")}
        text = yaml.safe_dump({**fields, "run_dir": str(tmp_path / f"from_{start}"), "model": model})
        (tmp_path / "more.yaml").write_text(text)
        main_of("masked")([str(tmp_path / "more.yaml"), "--optimizer.name", "adamw", "--schedule.warmup", "1"])

    go_on("masked")
    assert load_encoder_run(tmp_path / "from_masked").model.config.vocab_size == 282
    with pytest.raises(UserError, match=r"model\.init_from: .* is decoder-only; train it with recipes/gpt/train\.py"):
        go_on("gpt")
    with pytest.raises(UserError, match="is a decoder-only run"):
        load_encoder_run(tmp_path / "gpt" / "run")


@pytest.mark.parametrize("kind", ["translation", "gpt", "masked"])
def test_a_preset_of_another_kind_is_refused_before_anything_is_written(kind: str, tmp_path: Path) -> None:
    others = {"translation": "transformer-tiny", "gpt": "gpt-nano", "masked": "bert-tiny"}
    del others[kind]
    recipe = str(write_recipe(tmp_path, kind))
    for other, preset in others.items():
        with pytest.raises(UserError, match=rf"model\.preset: {preset} is .*; train it with recipes/{other}/train\.py"):
            main_of(kind)([recipe, "--model.preset", preset])
    with pytest.raises(UserError, match=r"model\.preset: no architecture is called 'bart'"):
        main_of(kind)([recipe, "--model.preset", "bart"])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("share", ["0", "1", "1.5"])
def test_a_share_that_is_none_is_refused(share: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.masked is .*, expected a share between 0 and 1"):
        main_of("masked")([str(write_recipe(tmp_path, "masked")), f"--data.masked={share}"])


RECIPES = sorted(Path(__file__).resolve().parents[2].glob("recipes/masked/*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=[path.stem for path in RECIPES])
def test_recipes_that_ship(path: Path) -> None:
    recipe = parse_recipe(MaskedRecipe, [str(path)])
    assert recipe.run_dir == f"runs/{path.stem}"
    assert model_config(recipe).mask_id == model_config(recipe).vocab_size - 1
    assert "Prepare: transformer-zoo prepare python_source" in path.read_text("utf-8")
