"""BART and its multilingual relatives."""

from dataclasses import replace

from transformer_zoo.config import EncoderDecoderConfig, LearnedSpec
from transformer_zoo.zoo.huggingface.common import ACTIVATIONS
from transformer_zoo.zoo.huggingface.family import Family, Field, Weight, layers
from transformer_zoo.zoo.huggingface.parts import ENCODER_DECODER, SHARED_OR_NOT, encoder_and_decoder, translation_ids

_BOTH = {
    "attn.q_proj": "self_attn.q_proj",
    "attn.k_proj": "self_attn.k_proj",
    "attn.v_proj": "self_attn.v_proj",
    "attn.out_proj": "self_attn.out_proj",
    "attn_norm": "self_attn_layer_norm",
    "ffn.up_proj": "fc1",
    "ffn.down_proj": "fc2",
    "ffn_norm": "final_layer_norm",
}
_CROSS = {
    "cross_attn.q_proj": "encoder_attn.q_proj",
    "cross_attn.k_proj": "encoder_attn.k_proj",
    "cross_attn.v_proj": "encoder_attn.v_proj",
    "cross_attn.out_proj": "encoder_attn.out_proj",
    "cross_attn_norm": "encoder_attn_layer_norm",
}

# Fields of BartConfig from when it, Marian and M2M-100 were one class; transformers 5 does not read them any more.
_OLD = (
    "normalize_before", "normalize_embedding", "add_final_layer_norm", "add_bias_logits", "static_position_embeddings",
    "extra_pos_embeddings", "do_blenderbot_90_layernorm", "encoder_layerdrop", "decoder_layerdrop",
    "replacing_rate", "save_step", "student_encoder_layers", "student_decoder_layers",
)  # fmt: skip

_IDS = {"pad_id": 1, "bos_id": 2, "eos_id": 2, "forced_last_id": 2, "never_ids": ()}  # a target starts with an end
_LARGE = {"d_model": 1024, "n_heads": 16, "d_ff": 4096, "n_layers": 12}
_SOME_DROPOUT = {"attention_dropout": 0.1, "activation_dropout": 0.1}

BART = Family(
    model_type="bart",
    architecture="BartForConditionalGeneration",
    config=EncoderDecoderConfig,
    constants={
        "norm_position": "post",
        "embedding_norm": True,
        "positions": LearnedSpec(offset=2),
        "logit_bias": True,
        "activation": "gelu",
        "scale_embeddings": False,
    },
    # Lewis et al. 2019, "BART: Denoising Sequence-to-Sequence Pre-training", section 2.1; facebook/bart-base, -large.
    sizes={
        "bart-base": {"vocab_size": 50265, "d_model": 768, "n_heads": 12, "d_ff": 3072, **_SOME_DROPOUT, **_IDS},
        "bart-large": {"vocab_size": 50265, **_LARGE, **_SOME_DROPOUT, **_IDS},
    },
    fields={
        "vocab_size": Field("vocab_size", 50265),
        "d_model": Field("d_model", 1024),
        **encoder_and_decoder(16, 4096, 12),
        "max_seq_len": Field("max_position_embeddings", 1024),
        "activation": Field("activation_function", "gelu", ACTIVATIONS),
        "scale_embeddings": Field("scale_embedding", False),
        "dropout": Field("dropout", 0.1),
        "attention_dropout": Field("attention_dropout", 0.0),
        "activation_dropout": Field("activation_dropout", 0.0),
    },
    parts=(SHARED_OR_NOT, translation_ids(start=2, bos=0, eos=2, pad=1)),
    required=ENCODER_DECODER,
    ignored=_OLD,
    aliases={
        "num_attention_heads": "encoder_attention_heads",
        "hidden_size": "d_model",
        "num_hidden_layers": "encoder_layers",
    },
    weights={
        "embedding": "model.shared",
        "source_embedding": "model.encoder.embed_tokens",
        "target_embedding": "model.decoder.embed_tokens",
        "encoder.positions": "model.encoder.embed_positions",
        "encoder.embedding_norm": "model.encoder.layernorm_embedding",
        **layers("encoder.layers.{i}", "model.encoder.layers.{i}", _BOTH),
        "encoder.final_norm": "model.encoder.layer_norm",
        "decoder.positions": "model.decoder.embed_positions",
        "decoder.embedding_norm": "model.decoder.layernorm_embedding",
        **layers("decoder.layers.{i}", "model.decoder.layers.{i}", {**_BOTH, **_CROSS}),
        "decoder.final_norm": "model.decoder.layer_norm",
        "head": "lm_head",
        "logit_bias": Weight("final_logits_bias", row=True),
    },
    prefix="model.",
    unused=("model.encoder.version", "model.decoder.version"),
    spare_embedding="model.shared",
)
"""Lewis et al. 2020."""

_CC25 = {"vocab_size": 250027, **_LARGE, **_IDS}
_50 = {"vocab_size": 250054, **_LARGE, **_IDS}

MBART = replace(
    BART,
    model_type="mbart",
    architecture="MBartForConditionalGeneration",
    constants={**BART.constants, "norm_position": "pre", "scale_embeddings": True},
    sizes={
        # Liu et al. 2020, "Multilingual Denoising Pre-training for Neural Machine Translation". A source ends with the
        # tag of its language, a target starts with its own: here English for both.
        "mbart-large-cc25": {**_CC25, "bos_id": 250004, "source_end_id": 250004},
        # Tang et al. 2020, "Multilingual Translation with Extensible Multilingual Pretraining". Tags come first on both
        # sides; in a target, after `bos_id`.
        "mbart-large-50": _50,
        "mbart-large-50-many-to-many": {**_50, "activation": "relu"},
    },
    parts=(SHARED_OR_NOT, translation_ids(start=None, bos=0, eos=2, pad=1)),
)
"""Liu et al. 2020; its targets start with the tag of a language."""

FAMILIES = (BART, MBART)
