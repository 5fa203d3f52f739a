"""The benchmark's peers: other people's implementations of GPT-2 with the weights of a model of ours."""

import importlib.util
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from transformer_zoo.config.changes import value_at
from transformer_zoo.errors import UserError
from transformer_zoo.models import DecoderOnly
from transformer_zoo.zoo.huggingface import to_huggingface


def to_hugging_face(model: DecoderOnly) -> Any:
    """The same model there; where ours has no biases, theirs are zero.

    Raises:
        UserError: transformers is not installed.
    """
    try:
        from transformers import GPT2LMHeadModel
    except ImportError:
        raise UserError("transformers is not installed: pip install -e '.[benchmark]'") from None
    with TemporaryDirectory() as folder:
        to_huggingface(model, folder, family="gpt2")
        peer: Any = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32)
    return peer.to(model.head_weight.device).train()


def load_nanogpt(folder: Path) -> Any:
    """nanoGPT's module `model`.

    Raises:
        UserError: the folder has no model.py of nanoGPT.
    """
    path = folder / "model.py"
    spec = importlib.util.spec_from_file_location("nanogpt_model", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise UserError(f"--nanogpt: {path} is not there; give a clone of github.com/karpathy/nanoGPT")
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules["nanogpt_model"] = module  # its dataclass looks itself up
    spec.loader.exec_module(module)
    return module


def to_nanogpt(model: DecoderOnly, folder: str) -> Any:
    """The same model there.

    Raises:
        UserError: the folder has no model.py of nanoGPT.
    """
    module, c = load_nanogpt(Path(folder)), model.config
    config = module.GPTConfig(
        block_size=c.max_seq_len, vocab_size=c.vocab_size, n_layer=c.decoder.n_layers,
        n_head=value_at(c, "n_heads"), n_embd=c.d_model, dropout=0.0, bias=value_at(c, "bias"),
    )  # fmt: skip
    peer = module.GPT(config)
    transposed = ("c_attn.weight", "c_proj.weight", "c_fc.weight")  # Hugging Face's Conv1D keeps (inputs, outputs)
    theirs = to_hugging_face(model).transformer.state_dict()
    wanted = peer.transformer.state_dict().keys()  # no biases, where it is made without
    peer.transformer.load_state_dict(
        {name: w.mT if name.endswith(transposed) else w for name, w in theirs.items() if name in wanted}
    )
    return peer.to(model.head_weight.device)
