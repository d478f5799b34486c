"""OCR models behind HTTP, on a GPU only while somebody needs them."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("ocr-operator")
except PackageNotFoundError:
    __version__ = "0+source"  # run from a checkout that isn't installed, as on a machine that lends its GPU
