"""DistilBERT."""

from dataclasses import replace

from transformer_zoo.config import ProjectionSpec
from transformer_zoo.zoo.families.bert import BERT
from transformer_zoo.zoo.huggingface.common import ACTIVATIONS
from transformer_zoo.zoo.huggingface.family import Field, layers
from transformer_zoo.zoo.huggingface.heads import heads
from transformer_zoo.zoo.huggingface.parts import TEXT_ONLY

_SHAPE = {"n_layers": 6, "d_model": 768, "n_heads": 12, "d_ff": 3072, "max_seq_len": 512, "mask_id": 103}

DISTILBERT = replace(
    BERT,
    model_type="distilbert",
    architecture="DistilBertForMaskedLM",
    constants={**BERT.constants, "n_segments": None},
    sizes={
        # Sanh et al. 2019, "DistilBERT, a distilled version of BERT", section 3.
        "distilbert-base": {"vocab_size": 30522, **_SHAPE},
        "distilbert-base-multilingual-cased": {"vocab_size": 119547, **_SHAPE},
    },
    fields={
        "vocab_size": Field("vocab_size", 30522),
        "d_model": Field("dim", 768),
        "n_heads": Field("n_heads", 12),
        "n_layers": Field("n_layers", 6),
        "d_ff": Field("hidden_dim", 3072),
        "max_seq_len": Field("max_position_embeddings", 512),
        "activation": Field("activation", "gelu", ACTIVATIONS),
        "pad_id": Field("pad_token_id", 0),
        "tie_embeddings": Field("tie_word_embeddings", True),
        "dropout": Field("dropout", 0.1),
        "attention_dropout": Field("attention_dropout", 0.1),
    },
    parts=(heads("DistilBert", texts=ProjectionSpec(activation="relu")),),
    required=TEXT_ONLY,
    # Positions that began as sinusoids come with the weights like others.
    ignored=(
        "bos_token_id",
        "eos_token_id",
        "qa_dropout",
        "seq_classif_dropout",
        "sinusoidal_pos_embds",
        "tie_weights_",
    ),
    aliases={"hidden_size": "dim", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"},
    weights={
        "embedding": "distilbert.embeddings.word_embeddings",
        "encoder.positions": "distilbert.embeddings.position_embeddings",
        "encoder.embedding_norm": "distilbert.embeddings.LayerNorm",
        **layers(
            "encoder.layers.{i}",
            "distilbert.transformer.layer.{i}",
            {
                "attn.q_proj": "attention.q_lin",
                "attn.k_proj": "attention.k_lin",
                "attn.v_proj": "attention.v_lin",
                "attn.out_proj": "attention.out_lin",
                "attn_norm": "sa_layer_norm",
                "ffn.up_proj": "ffn.lin1",
                "ffn.down_proj": "ffn.lin2",
                "ffn_norm": "output_layer_norm",
            },
        ),
        "word_head.proj": "vocab_transform",
        "word_head.norm": "vocab_layer_norm",
        "head": "vocab_projector",
        "logit_bias": "vocab_projector.bias",
        "text_head.projection.proj": "pre_classifier",
        "text_head.out_proj": "classifier",
        "token_head.out_proj": "classifier",
    },
    prefix="distilbert.",
    unused=("distilbert.embeddings.position_ids",),
)
"""Sanh et al. 2019."""

FAMILIES = (DISTILBERT,)
