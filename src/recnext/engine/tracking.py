"""TensorBoard and Weights & Biases, next to the run's own files, through Accelerate's trackers."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from accelerate import Accelerator

from recnext.errors import MissingExtraError

from .settings import Tracker


def check_tracker(tracker: Tracker) -> None:
    """Raises MissingExtraError where the tracker's package is not installed."""
    if tracker != "none" and find_spec(tracker) is None:
        raise MissingExtraError(tracker, "loggers", f"--tracker {tracker}")


def start_tracking(accelerator: Accelerator, *, settings: Mapping[str, Any], name: str) -> None:
    """Opens the trackers the engine was made with.

    Args:
        accelerator: from `make_accelerator`.
        settings: plain values.
        name: of the run.
    """
    if accelerator.log_with:
        simple = {
            key: value if isinstance(value, (int, float, str, bool)) else str(value) for key, value in settings.items()
        }
        accelerator.init_trackers("recnext", config=simple, init_kwargs={"wandb": {"name": name}})


def track(accelerator: Accelerator, record: Mapping[str, Any]) -> None:
    """Logs an epoch's numbers at its last step."""
    if accelerator.log_with:
        accelerator.log({key: value for key, value in record.items() if key != "step"}, step=record["step"])
