"""Figures by matplotlib (an extra): what a run attends to, its positions, its probabilities, and its learning curves.

Each function returns a `matplotlib.figure.Figure`, and changes nothing that it shares with other pictures;
`figure.savefig("picture.png")` writes it. Colour-blind readers can distinguish the colours (cividis, viridis; Okabe and
Ito 2008), and `dark=True` is for dark pages. Layers and heads are counted from 1.
>>> from pathlib import Path
>>> from transformer_zoo.runs import TextRun, attention_maps, positions_table
>>> model = tz.create_model("gpt-nano", vocab_size=257, eos_id=256)
>>> run = TextRun(model, tz.tokenizers.ByteTokenizer(), recipe={})
"""

from transformer_zoo.pictures.heat_maps import alignment, attention, positions
from transformer_zoo.pictures.plots import curves, distributions

__all__ = ["alignment", "attention", "curves", "distributions", "positions"]
