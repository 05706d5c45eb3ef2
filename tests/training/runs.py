"""Settings of runs that take a second."""

from typing import Any

from recnext.training import TrainSettings


def settings(**changes: Any) -> TrainSettings:
    tiny = {"model": "test_recnext_m", "image_size": 32, "epochs": 2, "batch_size": 8, "workers": 0, "device": "cpu"}
    return TrainSettings(**{**tiny, **changes})
