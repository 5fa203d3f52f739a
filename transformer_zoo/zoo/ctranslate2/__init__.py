"""Models of this package in CTranslate2's own specification."""

from transformer_zoo.zoo.ctranslate2.said import check_ctranslate2

__all__ = ["check_ctranslate2"]
