"""Classification, detection, segmentation: a room each, with files of the same names."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from recnext.errors import RecNextError

if TYPE_CHECKING:
    from recnext.engine.job import Job

_JOBS = {"classification": "ClassificationJob", "detection": "DetectionJob", "segmentation": "SegmentationJob"}


def job_of(name: str) -> "Job":
    """The job of a task, as ``task`` in a run's ``config.yaml`` names it.

    Raises:
        RecNextError: there is no such task.
    """
    if name not in _JOBS:
        raise RecNextError(f"there is no task {name!r}: expected one of {', '.join(_JOBS)}")
    job: Job = getattr(import_module(f"{__name__}.{name}.job"), _JOBS[name])()
    return job


def job_of_run(config: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> "Job":
    """The job of a run: that named in its ``config.yaml``, else the one whose metric stands in the records.

    Raises:
        RecNextError: neither tells.
    """
    if "task" in config:
        return job_of(str(config["task"]))
    for job in map(job_of, _JOBS):
        if any(job.metrics[0].key in record for record in records):
            return job
    raise RecNextError(f"these records have no metric of {', '.join(_JOBS)}: is this a run of recnext?")
