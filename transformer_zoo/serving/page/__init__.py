"""The page at `/`: plain files, and the routes that only this page uses."""

from transformer_zoo.serving.page.assets import files
from transformer_zoo.serving.page.routes import router

__all__ = ["files", "router"]
