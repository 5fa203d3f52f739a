"""The losses of the tasks: modules around a model that take a batch and return sums over its tokens."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from transformer_zoo.data import Batch, TokenBatch
from transformer_zoo.kernels.divided import with_fixed_row
from transformer_zoo.models import (
    DecoderOnly,
    EncoderDecoder,
    EncoderOnly,
    check_decoder_only,
    check_encoder_decoder,
    check_encoder_only,
)
from transformer_zoo.training.loss import flat_tokens, linear_cross_entropy


class TranslationObjective(nn.Module):
    """Cross-entropy of a batch's real target tokens, given the source and the earlier targets, as a sum.

    `forward(batch)` returns (smoothed loss, plain NLL), both () float32 in nats. Smoothing is for training: in
    evaluation mode both are the plain NLL.

    If a target starts with pad, as Marian's does, pad's embedding stays zero even if it is a row of the output
    projection, because other programs start from zeros.
    """

    def __init__(self, model: EncoderDecoder, *, label_smoothing: float = 0.0) -> None:
        check_encoder_decoder(model, "TranslationObjective")
        super().__init__()
        self.model = model
        self.label_smoothing = label_smoothing
        self._compiled: Callable[..., tuple[Tensor, Tensor]] | None = None
        config = model.config
        self._pad_is_fixed = config.zero_pad and config.bos_id == config.pad_id and model.head is None

    def compile(self, *args: Any, **options: Any) -> None:
        """Compile training from the tokens to the loss. Beam search has its own shapes.

        There is one graph for all batches (see `Batch.in_general`) whose logits come in as many chunks: 1, 2, 4, 8 or
        16, mostly the same number. There are as many graphs again if a batch is longer than `max_seq_len`, because
        fixed positions are then computed and not looked up, or if both sides are as long as learned positions allow.
        """
        self._compiled = torch.compile(self._loss, *args, **{"dynamic": True, **options})

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        if self._compiled is None or not self.training:
            return self._loss(*_tensors(batch))
        config = self.model.config
        return self._compiled(*_tensors(batch.in_general(config.pad_id, config.longest_input)))

    def _loss(
        self,
        source: Tensor,
        target_in: Tensor,
        target_out: Tensor,
        source_mask: Tensor | None,
        target_mask: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        # Targets are padded at their ends, which causality hides from real tokens. So no mask is needed: the fastest
        # kernel.
        hidden = self.model.hidden(source, target_in, source_mask)  # (B, Tt, D)
        hidden, targets = flat_tokens(hidden, target_out, target_mask)
        smoothing = self.label_smoothing if self.training else 0.0
        weight = self.model.head_weight
        if self._pad_is_fixed:
            weight = with_fixed_row(weight, self.model.config.pad_id)
        return linear_cross_entropy(hidden, weight, targets, bias=self.model.logit_bias, label_smoothing=smoothing)


def _tensors(batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    return batch.source, batch.target_in, batch.target_out, batch.source_mask, batch.target_mask


class TextObjective(nn.Module):
    """Cross-entropy of a batch's targets, as a sum.

    `forward(batch)` returns it twice, () float32 in nats: as the loss, and as the plain NLL without gradient.
    """

    def __init__(self) -> None:
        super().__init__()
        self._compiled: Callable[..., tuple[Tensor, Tensor]] | None = None

    def compile(self, *args: Any, **options: Any) -> None:
        """Compile training from the tokens to the loss. Samples have their own shapes.

        There are two graphs at most: one for the batches of an epoch, one for its last batch, which may have fewer
        windows.
        """
        self._compiled = torch.compile(self._loss, *args, **{"dynamic": False, **options})

    def forward(self, batch: TokenBatch) -> tuple[Tensor, Tensor]:
        loss = self._loss if self._compiled is None or not self.training else self._compiled
        return loss(batch.ids, batch.targets, batch.positions, batch.documents)

    def _loss(
        self, ids: Tensor, targets: Tensor, positions: Tensor | None, documents: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


class GptObjective(TextObjective):
    """Cross-entropy of a batch's next tokens."""

    def __init__(self, model: DecoderOnly) -> None:
        check_decoder_only(model, "GptObjective")
        super().__init__()
        self.model = model

    def _loss(
        self, ids: Tensor, targets: Tensor, positions: Tensor | None, documents: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        hidden = self.model.hidden(ids, positions=positions, documents=documents)  # (B, T, D)
        hidden, targets = flat_tokens(hidden, targets)
        config = self.model.config
        return linear_cross_entropy(
            hidden,
            self.model.head_weight,
            targets,
            bias=self.model.logit_bias,
            softcap=config.logit_softcap,
            vocab_size=config.vocab_size,
        )


class MaskedObjective(TextObjective):
    """Cross-entropy of the tokens of a batch that must be guessed (Devlin et al. 2019, section 3.1)."""

    def __init__(self, model: EncoderOnly) -> None:
        check_encoder_only(model, "MaskedObjective")
        super().__init__()
        self.model = model

    def _loss(
        self, ids: Tensor, targets: Tensor, positions: Tensor | None, documents: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        hidden = self.model.guesses(self.model.hidden(ids, positions=positions))  # (B, T, D)
        hidden, targets = flat_tokens(hidden, targets)
        return linear_cross_entropy(hidden, self.model.head_weight, targets, bias=self.model.logit_bias)
