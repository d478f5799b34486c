"""OCR models behind HTTP, on a GPU only while somebody needs them."""

from importlib.metadata import version

__version__ = version("ocr-operator")
