"""BioGPT: OPT with GELU and scaled embeddings.

A model that is an OPT too is exported as one, because its file comes before this one.
"""

from dataclasses import replace

from transformer_zoo.zoo.families.opt import OPT
from transformer_zoo.zoo.huggingface.common import ACTIVATIONS
from transformer_zoo.zoo.huggingface.family import Field
from transformer_zoo.zoo.huggingface.parts import TEXT_ONLY, text_ids

_NAMES = {name: str(theirs).replace("model.decoder.", "biogpt.") for name, theirs in OPT.weights.items()}

BIOGPT = replace(
    OPT,
    model_type="biogpt",
    architecture="BioGptForCausalLM",
    sizes={
        # Luo et al. 2022, section 2; microsoft/biogpt.
        "biogpt": {
            "vocab_size": 42384, "d_model": 1024, "n_heads": 16, "d_ff": 4096, "n_layers": 24, "max_seq_len": 1024,
            "activation": "gelu", "scale_embeddings": True, "pad_id": 1, "eos_id": 2,
        },
    },
    fields={
        "vocab_size": Field("vocab_size", 42384),
        "d_model": Field("hidden_size", 1024),
        "n_heads": Field("num_attention_heads", 16),
        "n_layers": Field("num_hidden_layers", 24),
        "d_ff": Field("intermediate_size", 4096),
        "max_seq_len": Field("max_position_embeddings", 1024),
        "activation": Field("hidden_act", "gelu", ACTIVATIONS),
        "scale_embeddings": Field("scale_embedding", True),
        "tie_embeddings": Field("tie_word_embeddings", True),
        "dropout": Field("hidden_dropout_prob", 0.1),
        "attention_dropout": Field("attention_probs_dropout_prob", 0.1),
    },
    parts=(text_ids(bos=0, eos=2, pad=1),),
    required=TEXT_ONLY,
    ignored=("activation_dropout", "layer_norm_eps", "layerdrop"),  # transformers does not read the second
    weights={**_NAMES, "decoder.final_norm": "biogpt.layer_norm", "head": "output_projection"},
    prefix="biogpt.",
    unused=(),
)  # fmt: skip
"""Luo et al. 2022, "BioGPT: Generative Pre-trained Transformer for Biomedical Text Generation and Mining"."""

FAMILIES = (BIOGPT,)
