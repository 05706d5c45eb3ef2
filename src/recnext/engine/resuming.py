"""Which settings a resumed run goes on with: its own, but for those that may change and were asked for."""

from collections.abc import Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Optional, TypeVar

from jsonargparse import ArgumentError, ArgumentParser, set_parsing_settings

from recnext.errors import RecNextError

from .job import Job
from .run_folder import RunFolder
from .settings import LoopSettings

set_parsing_settings(import_path_denylist=["*"])  # a file that names a class does not have it imported

# These say where and how a run is computed, not what.
_FREE = ("workers", "device", "save_every", "keep", "curves", "tracker", "compile")
_ALWAYS_NEW = ("output", "resume")
_LENGTHS = ("epochs", "steps")

Settings = TypeVar("Settings", bound=LoopSettings)


def resume_settings(
    job: Job, now: LoopSettings, stored: Mapping[str, Any], *, given: Optional[Collection[str]], run: RunFolder
) -> tuple[LoopSettings, str]:
    """The settings of a run whose ``config.yaml`` is `stored`; those given where there is none.

    Raises:
        RecNextError: the run is of another task, or as `read_settings` and `resumed`.
    """
    if not stored:
        return now, ""
    task = stored.get("task", job.name)
    if task != job.name:
        raise RecNextError(f"{run.path} holds a run of {task}, not of {job.name}: resume it with the command of {task}")
    return resumed(now, read_settings(job.settings, stored["settings"], source=run.path / "config.yaml"), given=given)


def require_same_data(run: RunFolder, stored: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuses to go on with other images than a run was started with.

    Args:
        run: its folder, for the error.
        stored: the content of its ``config.yaml``.
        now: what `describe_data` says of the images.

    Raises:
        RecNextError: the two differ.
    """
    texts = {
        "class_names": "the classes are others",
        "train_images": f"{stored.get('train_images')} training images, now {now['train_images']}",
        "val_images": f"{stored.get('val_images')} validation images, now {now['val_images']}",
        "train_digest": "names, sizes or labels of the training images differ",
        "val_digest": "names, sizes or labels of the validation images differ",
    }
    mended = run.stopped_unreadable()
    for key, text in texts.items():
        before, after = stored.get(key), now[key]
        if mended and isinstance(before, dict) and isinstance(after, dict):
            before, after = before.get("labels"), after["labels"]  # the sizes of what was mended differ
        if before != after:
            raise RecNextError(
                f"{run.path} was started on other data ({text}): resume on the same images, or start a new run with "
                "another --output"
            )


def read_settings(kind: type[Settings], stored: Mapping[str, Any], *, source: Path) -> Settings:
    """Settings from a file.

    Args:
        kind: their class.
        stored: plain values, of `to_dict`.
        source: the file, for errors.

    Raises:
        RecNextError: a name is unknown, or a value is of the wrong type or out of range.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind)
    try:
        values = parser.parse_object(dict(stored)).as_dict()
    except ArgumentError as error:
        raise RecNextError(f"{source} does not hold settings of a run: {' '.join(str(error).split())}") from None
    try:
        return kind(**values)
    except RecNextError as error:
        raise RecNextError(f"{source}: {error}") from None


def resumed(now: Settings, stored: Settings, *, given: Optional[Collection[str]] = None) -> tuple[Settings, str]:
    """The settings to resume with.

    A setting given for the resumed run has to be the run's own, but for what changes no result, and for a greater
    number of epochs (or steps): the schedule is then that of the longer run, from the next step on.

    Args:
        now: the resumed run's.
        stored: those the run was started with.
        given: names of those in `now` that were asked for; by default all that differ from their defaults.

    Returns:
        The settings, and a sentence where the run was extended.

    Raises:
        RecNextError: a setting given contradicts the run's.
    """
    wanted, own, defaults = now.to_dict(), stored.to_dict(), type(now)().to_dict()
    asked = {name for name in wanted if wanted[name] != defaults[name]} if given is None else set(given)
    merged, note = dict(own), ""
    for name in (entry.name for entry in fields(now)):
        if name in _ALWAYS_NEW or (name in _FREE and name in asked):
            merged[name] = wanted[name]
        elif name in _LENGTHS and name in asked and own[name] is not None and (wanted[name] or 0) > own[name]:
            merged[name] = wanted[name]
            note = f"extended from {own[name]} to {wanted[name]} {name}: the schedule is now the longer one"
        elif name in asked and not _same(wanted[name], own[name]):
            raise RecNextError(
                f"--{name.replace('_', '-')} {wanted[name]} differs from the {own[name]} this run was started with: "
                "leave it out to resume, or start a new run with another --output"
            )
    return type(now)(**{name: _sequence(value) for name, value in merged.items()}), note


def _same(wanted: Any, own: Any) -> bool:
    if isinstance(wanted, dict):  # a run's model_args are resolved: they hold a checkpoint's as well
        return wanted.items() <= own.items()
    return bool(wanted == own)


def _sequence(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
