"""Pictures of what a run looks at, knows of places, holds for likely and has learnt: figures of matplotlib, an extra.

Each function gives a `matplotlib.figure.Figure`, and touches nothing that it shares with other pictures;
`figure.savefig("picture.png")` writes it. Colours are such as the colour-blind tell apart (cividis, viridis; Okabe and
Ito 2008), and `dark=True` is for dark pages. Layers and heads are counted from 1, as people count.
>>> from pathlib import Path
>>> from transformer_zoo.runs import TextRun, attention_maps, positions_table
>>> model = tz.create_model("gpt-nano", vocab_size=257, eos_id=256)
>>> run = TextRun(model, tz.tokenizers.ByteTokenizer(), recipe={})
"""

from transformer_zoo.pictures.heat_maps import alignment, attention, positions
from transformer_zoo.pictures.plots import curves, distributions

__all__ = ["alignment", "attention", "curves", "distributions", "positions"]
