"""RecConv in networks that were not made for it."""

from .convert import convert_large_kernels
from .report import Conversion, ConversionReport, Replacement, Skipped

__all__ = ["Conversion", "ConversionReport", "Replacement", "Skipped", "convert_large_kernels"]
