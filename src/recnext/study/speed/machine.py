"""What a measurement was taken on."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from recnext._version import __version__
from recnext.deploy.optimize.cache import processor
from recnext.deploy.optimize.precision import native_precisions

_PACKAGES = ("torch", "timm", "onnxruntime", "openvino", "onnxscript")


def describe_machine(device: torch.device, threads: int) -> dict[str, Any]:
    """Processor, threads, native precisions, system and versions, ready for JSON."""
    versions = {"recnext": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    report: dict[str, Any] = {
        "processor": processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cpus": os.cpu_count(),
        "threads": threads,
        "native_precisions": list(native_precisions(device)),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions,
    }
    if device.type == "cuda":
        report["gpu"] = torch.cuda.get_device_name(device)
        report["versions"]["cuda"] = torch.version.cuda
    return report


def one_line(machine: dict[str, Any]) -> str:
    """The description for a caption."""
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    where = machine.get("gpu") or f"{machine['processor']} ({machine['instructions']}), {machine['threads']} threads"
    steadiness = f"; {machine['steadiness']}" if "steadiness" in machine else ""
    return f"{where}; {versions}{steadiness}"


def this_processor() -> str:
    """Processor, threads and torch's version, for the caption of what was timed on the CPU."""
    return f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
