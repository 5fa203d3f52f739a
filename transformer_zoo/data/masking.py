"""Windows of tokens of which some are hidden, to be guessed: masked language modelling (Devlin et al. 2019)."""

from collections.abc import Collection, Iterator

import numpy as np
import torch

from transformer_zoo.data.token_file import TokenFile
from transformer_zoo.data.windows import IGNORED, Place, TokenBatch, Windows, uniform

MASK, RANDOM = 0.8, 0.1  # of the chosen tokens; the rest stays as it is (section 3.1)


class MaskedWindows(Windows):
    """Cuts a split into windows of `length` tokens, some of which are to be guessed, drawn anew each epoch.

    Of the chosen tokens 80 % are read as `mask_id`, 10 % as a random one, 10 % as they are. `targets` are the chosen
    tokens as they were, `IGNORED` elsewhere.
    >>> windows = MaskedWindows(tokens, 8, share=0.15, mask_id=257, vocab_size=257, special=[256])
    >>> windows.load((0, 0), batch_size=2, seed=1).ids.shape
    torch.Size([2, 8])

    Args:
        tokens: The split.
        length: Tokens of a window.
        share: The chance of each ordinary token to be chosen.
        mask_id: What is read in place of a token.
        vocab_size: Ids of the text.
        special: Those of them that are never chosen, nor drawn: ends, begins, the unknown.
    """

    def __init__(
        self, tokens: TokenFile, length: int, *, share: float, mask_id: int, vocab_size: int, special: Collection[int]
    ) -> None:
        super().__init__(tokens, length)
        self.share, self.mask_id = share, mask_id
        self.is_ordinary = ~np.isin(np.arange(vocab_size), list(special))
        self.ordinary = np.flatnonzero(self.is_ordinary)

    def load(self, place: Place, *, batch_size: int, seed: int) -> TokenBatch:
        """One batch of `plan`: a pure function of the arguments, and for each token of where it is in the text."""
        places = self.places(place, batch_size=batch_size, seed=seed)[:, :-1]  # (B, T)
        tokens = self.tokens.take(places).astype(np.int64)
        draw = uniform(places, seed=seed, epoch=place[0]) / self.share  # below 1: chosen
        chosen = self.is_ordinary[tokens] & (draw < 1)
        number = ((draw - MASK) / RANDOM * len(self.ordinary)).clip(0, len(self.ordinary) - 1)
        other = self.ordinary[number.astype(np.int64)]
        read = np.where(draw < MASK, self.mask_id, np.where(draw < MASK + RANDOM, other, tokens))
        return TokenBatch(
            ids=torch.from_numpy(np.where(chosen, read, tokens)),
            targets=torch.from_numpy(np.where(chosen, tokens, IGNORED)),
            documents=None,
            positions=None,
            n_tokens=int(chosen.sum()),
        )

    def evaluation(self, *, batch_size: int) -> Iterator[TokenBatch]:
        """The split but for less than a window, always with the same tokens to be guessed, whatever the batches."""
        for place in self.plan(0, batch_size=batch_size):
            yield self.load(place, batch_size=batch_size, seed=0)
