"""Which device to compute on."""

import torch

from recnext.errors import RecNextError


def choose_device(device: str = "auto") -> torch.device:
    """The device of a name: auto, cpu, cuda, cuda:N or mps; auto takes a GPU where there is one.

    Raises:
        RecNextError: another name, or there is no such device here.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    kind, _, number = device.partition(":")
    if kind not in available or (number and not (kind == "cuda" and number.isdigit())):
        raise RecNextError(f"no device is called {device!r}: expected auto, cpu, cuda, cuda:N or mps")
    if not available[kind]:
        raise RecNextError(f"this PyTorch sees no {kind.upper()} device; use cpu")
    if number and int(number) >= torch.cuda.device_count():
        raise RecNextError(f"there is no {device}: the {torch.cuda.device_count()} CUDA devices count from cuda:0")
    return torch.device(device)
