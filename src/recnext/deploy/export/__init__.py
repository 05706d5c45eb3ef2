"""Networks as files for other runtimes, each proved against the original before it appears."""

from .api import export
from .job import export_to
from .network import described
from .report import Exported
from .spec import ExportSpec
from .targets import TARGETS, Contents, Port, Target, target, targets

__all__ = [
    "TARGETS",
    "Contents",
    "ExportSpec",
    "Exported",
    "Port",
    "Target",
    "described",
    "export",
    "export_to",
    "target",
    "targets",
]
