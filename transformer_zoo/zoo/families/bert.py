"""BERT, and what its relatives share with it."""

from typing import Any

from transformer_zoo.config import EncoderConfig, LearnedSpec, ProjectionSpec
from transformer_zoo.zoo.huggingface.common import ACTIVATIONS
from transformer_zoo.zoo.huggingface.family import Family, Field, layers
from transformer_zoo.zoo.huggingface.heads import heads
from transformer_zoo.zoo.huggingface.parts import TEXT_ONLY


def _shape(n_layers: int, d_model: int) -> dict[str, Any]:
    return {"n_layers": n_layers, "d_model": d_model, "n_heads": d_model // 64, "d_ff": 4 * d_model}


LAYER = {
    "attn.q_proj": "attention.self.query",
    "attn.k_proj": "attention.self.key",
    "attn.v_proj": "attention.self.value",
    "attn.out_proj": "attention.output.dense",
    "attn_norm": "attention.output.LayerNorm",
    "ffn.up_proj": "intermediate.dense",
    "ffn.down_proj": "output.dense",
    "ffn_norm": "output.LayerNorm",
}
POOLER = ProjectionSpec(activation="tanh")
_UNCASED = {"vocab_size": 30522, "mask_id": 103}
_MINILM = {"n_heads": 12, "head": "none", "normalize": True}

BERT = Family(
    model_type="bert",
    architecture="BertForMaskedLM",
    config=EncoderConfig,
    constants={"positions": LearnedSpec(), "norm_position": "post", "embedding_norm": True, "n_segments": 2}
    | {"norm.eps": 1e-12},
    sizes={
        # Turc et al. 2019, "Well-Read Students Learn Better", Table 1.
        "bert-tiny": {**_UNCASED, **_shape(2, 128)},
        "bert-mini": {**_UNCASED, **_shape(4, 256)},
        "bert-small": {**_UNCASED, **_shape(4, 512)},
        "bert-medium": {**_UNCASED, **_shape(8, 512)},
        # Wang et al. 2020, "MiniLM: Deep Self-Attention Distillation"; sentence-transformers/all-MiniLM-L6-v2, -L12-v2.
        "minilm-l6": {**_UNCASED, **_shape(6, 384), **_MINILM},
        "minilm-l12": {**_UNCASED, **_shape(12, 384), **_MINILM},
        # Devlin et al. 2019, section 3.
        "bert-base": {**_UNCASED, **_shape(12, 768)},
        "bert-large": {**_UNCASED, **_shape(24, 1024)},
        "bert-base-multilingual-cased": {"vocab_size": 119547, "mask_id": 103, **_shape(12, 768)},
    },
    fields={
        "vocab_size": Field("vocab_size", 30522),
        "d_model": Field("hidden_size", 768),
        "n_heads": Field("num_attention_heads", 12),
        "n_layers": Field("num_hidden_layers", 12),
        "d_ff": Field("intermediate_size", 3072),
        "max_seq_len": Field("max_position_embeddings", 512),
        "n_segments": Field("type_vocab_size", 2),
        "activation": Field("hidden_act", "gelu", ACTIVATIONS),
        "norm.eps": Field("layer_norm_eps", 1e-12),
        "pad_id": Field("pad_token_id", 0),
        "tie_embeddings": Field("tie_word_embeddings", True),
        "dropout": Field("hidden_dropout_prob", 0.1),
        "attention_dropout": Field("attention_probs_dropout_prob", 0.1),
    },
    parts=(heads("Bert", texts=POOLER),),
    required={**TEXT_ONLY, "is_decoder": (False,), "position_embedding_type": ("absolute",)},
    ignored=(
        *("bos_token_id", "eos_token_id", "directionality", "pooler_fc_size", "pooler_num_attention_heads"),
        *("pooler_num_fc_layers", "pooler_size_per_head", "pooler_type", "summary_type"),
    ),
    weights={
        "embedding": "bert.embeddings.word_embeddings",
        "segments": "bert.embeddings.token_type_embeddings",
        "encoder.positions": "bert.embeddings.position_embeddings",
        "encoder.embedding_norm": "bert.embeddings.LayerNorm",
        **layers("encoder.layers.{i}", "bert.encoder.layer.{i}", LAYER),
        "word_head.proj": "cls.predictions.transform.dense",
        "word_head.norm": "cls.predictions.transform.LayerNorm",
        "head": "cls.predictions.decoder",
        "logit_bias": "cls.predictions.decoder.bias",
        "text_head.projection.proj": "bert.pooler.dense",
        "text_head.out_proj": "classifier",
        "token_head.out_proj": "classifier",
    },
    prefix="bert.",
    renamed={"cls.predictions.bias": "cls.predictions.decoder.bias"},
    # Without a head for texts the pooler and seq_relationship tell whether one text follows another.
    unused=(
        *("bert.embeddings.position_ids", "cls.predictions.bias", "bert.pooler.dense.weight"),
        *("bert.pooler.dense.bias", "cls.seq_relationship.weight", "cls.seq_relationship.bias"),
    ),
)
"""Devlin et al. 2019."""

FAMILIES = (BERT,)
