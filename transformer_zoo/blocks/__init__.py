"""The parts of a Transformer, each usable alone and built from plain numbers.

Shapes everywhere: (B, T, D) between modules, (B, H, T, Dh) inside attention, (B, T) token ids, (B, T, V) logits.
Masks are boolean, True = may attend.
"""

from transformer_zoo.blocks.answers import check_answers, forward_flops, matrices
from transformer_zoo.blocks.attention import Attention
from transformer_zoo.blocks.cache import KVCache, ProjectedMemory, StaticKVCache
from transformer_zoo.blocks.dot_product import attend, attention_weights
from transformer_zoo.blocks.dropout import Dropout
from transformer_zoo.blocks.embedding import NgramEmbedding, TokenEmbedding, token_ids
from transformer_zoo.blocks.feed_forward import FeedForward
from transformer_zoo.blocks.heads import HeadProjection, LabelHead, pool
from transformer_zoo.blocks.init import init_gpt2, init_normal, init_xavier, init_zero_out
from transformer_zoo.blocks.layers import DecoderLayer, EncoderLayer
from transformer_zoo.blocks.linear import Linear
from transformer_zoo.blocks.masks import causal_mask, check_mask, combine_masks, key_mask, window_mask
from transformer_zoo.blocks.norm import LayerNorm, RMSNorm
from transformer_zoo.blocks.positions import LearnedPositions, Positions, SinusoidalPositions, sinusoids
from transformer_zoo.blocks.recording import record_weights
from transformer_zoo.blocks.relative_bias import AlibiBias, RelativeBias
from transformer_zoo.blocks.residual import add_residual
from transformer_zoo.blocks.rotary import LinearScaling, Llama3Scaling, RotaryPositions, Rotation, YarnScaling
from transformer_zoo.blocks.view import BaseAttention, View

__all__ = [
    "AlibiBias",
    "Attention",
    "BaseAttention",
    "DecoderLayer",
    "Dropout",
    "EncoderLayer",
    "FeedForward",
    "HeadProjection",
    "KVCache",
    "LabelHead",
    "LayerNorm",
    "LearnedPositions",
    "Linear",
    "LinearScaling",
    "Llama3Scaling",
    "NgramEmbedding",
    "Positions",
    "ProjectedMemory",
    "RMSNorm",
    "RelativeBias",
    "RotaryPositions",
    "Rotation",
    "SinusoidalPositions",
    "StaticKVCache",
    "TokenEmbedding",
    "View",
    "YarnScaling",
    "attend",
    "attention_weights",
    "causal_mask",
    "check_answers",
    "check_mask",
    "combine_masks",
    "forward_flops",
    "init_gpt2",
    "init_normal",
    "init_xavier",
    "init_zero_out",
    "key_mask",
    "matrices",
    "pool",
    "record_weights",
    "add_residual",
    "sinusoids",
    "token_ids",
    "window_mask",
]
