"""The page at `/`: plain files, and what they ask for that no program does."""

from transformer_zoo.serving.page.assets import files
from transformer_zoo.serving.page.routes import router

__all__ = ["files", "router"]
