"""docs/your_own_model.md: its six models under the compilers, type checkers and trainers that people use."""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from .test_docs import ROOT, fences

PAGE = ROOT / "docs" / "your_own_model.md"
LONGEST = 40  # lines of one model
D = 24

INPUTS: dict[str, tuple[Tensor, ...]] = {
    "vit": (torch.randn(2, 3, 8, 8),),
    "bert": (torch.randint(1, 40, (2, 7)), torch.ones(2, 7, dtype=torch.bool)),
    "mixture": (torch.randn(2, 7, D),),
    "conditioner": (torch.randn(2, 13, 10), torch.ones(2, 13, dtype=torch.bool)),
    "diffusion": (torch.randn(2, 7, D), torch.randn(2, D)),
    "decoder": (torch.randint(1, 40, (2, 7)),),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's code as one file."""
    path = tmp_path_factory.mktemp("page") / "your_own_model.py"
    code = [fence.body for fence in fences(PAGE.read_text(encoding="utf-8")) if fence.language == "python"]
    path.write_text("\n\n".join(code), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def page(source: Path) -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("your_own_model", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sys.modules, spec.name, module)  # a compiler looks a function's module up by its name
        yield module


def model_of(page: ModuleType, name: str) -> nn.Module:
    model: nn.Module = getattr(page, name)
    return model.eval()


def test_each_is_under_forty_lines() -> None:
    examples = [fence.body for fence in fences(PAGE.read_text(encoding="utf-8")) if "class " in fence.body]
    assert len(examples) == len(INPUTS) + 1
    assert max(len(body.splitlines()) for body in examples) < LONGEST


def test_the_wrapper_has_ten_lines_at_most(page: ModuleType, source: Path) -> None:
    text = source.read_text(encoding="utf-8")
    wrapper = text[text.index("class ForTrainer") : text.index("\n\n\n", text.index("class ForTrainer"))]
    assert len([line for line in wrapper.splitlines() if line.strip()]) <= 10


def check_types(command: list[str], source: Path) -> None:
    done = subprocess.run([sys.executable, "-m", *command, str(source)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_mypy_finds_nothing(source: Path) -> None:
    check_types(["mypy", "--strict"], source)
    assert "ignore" not in source.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_pyright_finds_nothing(source: Path) -> None:
    pytest.importorskip("pyright")
    check_types(["pyright", "--pythonpath", sys.executable], source)


@pytest.mark.parametrize("name", INPUTS)
def test_torch_export_takes_it(page: ModuleType, name: str) -> None:
    model = model_of(page, name)
    exported = torch.export.export(model, INPUTS[name])
    torch.testing.assert_close(exported.module()(*INPUTS[name]), model(*INPUTS[name]), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", INPUTS)
def test_inductor_compiles_it_whole(page: ModuleType, name: str) -> None:
    model = model_of(page, name)
    compiled = torch.compile(model, fullgraph=True)
    torch.testing.assert_close(compiled(*INPUTS[name]), model(*INPUTS[name]), atol=1e-5, rtol=1e-5)
    model.train()
    compiled(*INPUTS[name]).square().mean().backward()
    assert all(weight.grad is not None for weight in model.parameters() if weight.requires_grad)


def texts() -> list[dict[str, Tensor]]:
    """Sixteen windows of a text that counts, so that the next token is easily learned."""
    rows = [torch.arange(start, start + 9) % 40 for start in range(16)]
    return [{"inputs": row[:-1], "labels": row[1:]} for row in rows]


def new_decoder(page: ModuleType) -> Any:
    torch.manual_seed(0)
    return page.SmallDecoder(vocab_size=40, d_model=D, n_heads=3, n_layers=2)


def loss_of(page: ModuleType, model: nn.Module) -> float:
    batch = {name: torch.stack([text[name] for text in texts()]) for name in ("inputs", "labels")}
    with torch.no_grad():
        return float(page.ForTrainer(model)(**batch)["loss"])


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_lightning_trains_it(page: ModuleType, tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning")

    class Task(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.task = page.ForTrainer(new_decoder(page))

        def training_step(self, batch: dict[str, Tensor]) -> Tensor:
            loss: Tensor = self.task(**batch)["loss"]
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=3e-3)

    task = Task()
    before = loss_of(page, task.task.model)
    trainer = lightning.Trainer(
        max_epochs=5,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(task, torch.utils.data.DataLoader(texts(), batch_size=4))  # type: ignore[arg-type]
    assert loss_of(page, task.task.model) < before - 0.5


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_accelerate_trains_it(page: ModuleType) -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    model = page.ForTrainer(new_decoder(page))
    before = loss_of(page, model.model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    loader = torch.utils.data.DataLoader(texts(), batch_size=4)  # type: ignore[arg-type]
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    for _ in range(5):
        for batch in loader:
            accelerator.backward(model(**batch)["loss"])
            optimizer.step()
            optimizer.zero_grad()
    assert loss_of(page, accelerator.unwrap_model(model).model) < before - 0.5


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_trainer_of_transformers_trains_and_evaluates_it(page: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    transformers = pytest.importorskip("transformers")
    model = page.ForTrainer(new_decoder(page))
    before = loss_of(page, model.model)
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        num_train_epochs=5,
        per_device_train_batch_size=4,
        learning_rate=3e-3,
        report_to=[],
        use_cpu=True,
        save_strategy="no",
        label_names=["labels"],
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=texts(), eval_dataset=texts())
    trainer.train()
    assert loss_of(page, model.model) < before - 0.5
    assert trainer.evaluate()["eval_loss"] == pytest.approx(loss_of(page, model.model), rel=1e-3)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_peft_adapts_it(page: ModuleType) -> None:
    peft = pytest.importorskip("peft")
    model = new_decoder(page)
    adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj", "v_proj"], r=4))
    trained = {name for name, weight in adapted.named_parameters() if weight.requires_grad}
    assert trained
    assert all("lora_" in name and ("q_proj" in name or "v_proj" in name) for name in trained)
    before = loss_of(page, adapted)
    optimizer = torch.optim.AdamW((weight for weight in adapted.parameters() if weight.requires_grad), lr=1e-2)
    batch = {name: torch.stack([text[name] for text in texts()]) for name in ("inputs", "labels")}
    for _ in range(20):
        page.ForTrainer(adapted)(**batch)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss_of(page, adapted) < before
