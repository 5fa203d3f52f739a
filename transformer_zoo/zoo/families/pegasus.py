"""Pegasus."""

from dataclasses import replace

from transformer_zoo.config import SinusoidalSpec
from transformer_zoo.zoo.families.bart import BART
from transformer_zoo.zoo.huggingface.parts import SHARED_OR_NOT, translation_ids

PEGASUS = replace(
    BART,
    model_type="pegasus",
    architecture="PegasusForConditionalGeneration",
    constants={"norm_position": "pre", "positions": SinusoidalSpec(layout="halves"), "logit_bias": True},
    # Zhang et al. 2020, "PEGASUS: Pre-training with Extracted Gap-sentences for Abstractive Summarization", section 6;
    # google/pegasus-large. Those that were trained on one kind of text differ in max_seq_len.
    sizes={
        "pegasus-large": {
            "vocab_size": 96103, "d_model": 1024, "n_heads": 16, "d_ff": 4096, "n_layers": 16,
            "attention_dropout": 0.1, "activation_dropout": 0.1, "pad_id": 0, "bos_id": 0, "eos_id": 1,
            "forced_last_id": 1, "never_ids": (),
        },
    },
    parts=(SHARED_OR_NOT, translation_ids(start=0, bos=None, eos=1, pad=0)),
    has_waves=True,
)  # fmt: skip
"""Zhang et al. 2020."""

FAMILIES = (PEGASUS,)
