"""RecConv in networks that were not made for it."""

from .convert import convert_large_kernels
from .report import ConvertedNetwork, KernelReport, Replacement, Skipped

__all__ = ["ConvertedNetwork", "KernelReport", "Replacement", "Skipped", "convert_large_kernels"]
