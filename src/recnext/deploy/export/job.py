"""One export: checked before, made next to its place, proved, and put there complete or not at all."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Optional, Union

from torch import nn

from recnext.deploy.optimize.network import first_line
from recnext.deploy.optimize.trial import interleaved
from recnext.errors import RecNextError
from recnext.files import PathName, require_folder, require_output, require_regular
from recnext.text import to_json

from .network import Exportable
from .proof import compare, norms_left
from .report import Exported, Judgement
from .spec import ExportSpec
from .targets import FileRunner, Target

Judge = Callable[[FileRunner], Judgement]
"""Gives accuracy before and after of a file that runs."""


def export_to(
    target: Target,
    network: Union[nn.Module, Exportable],
    spec: ExportSpec,
    folder: Path,
    *,
    threads: Optional[int] = None,
    judge: Optional[Judge] = None,
) -> Exported:
    """Exports a network to one format and proves the file.

    The file and ``<file>.json``, the proof, appear in `folder` together; where the proof fails, neither does, and
    what was there before stays.

    Args:
        target: format.
        network: any image network, which stays as it is; an `Exportable` serves several targets.
        spec: what to make, from `recnext.deploy.export.network.described`.
        folder: made where missing.
        threads: CPU threads while it is timed; by default the runtime's choice.
        judge: measures accuracy.

    Returns:
        What was made; `problem` says why it was not kept.

    Raises:
        MissingExtraError: the format's packages are not installed.
        RecNextError: the format cannot do what the spec asks, or its exporter fails.
        OSError: the folder cannot be written.
    """
    target.require()
    spec = target.possible(spec)
    target.check(spec)
    exportable = network if isinstance(network, Exportable) else Exportable(network)
    with temporary_in(folder) as temporary:
        with _named(target, spec, folder):
            path = target.export(exportable.module(), spec, temporary)
        run, contents = target.open_made(path, spec, threads=threads)
        made = sorted(temporary.iterdir())
        exported = Exported(
            target=target.name,
            path=folder / path.name,
            precision=spec.precision,
            size_on_disk=sum(map(_size, made)),
            contents=contents,
            norms=norms_left(contents, target.norms),
            comparisons=tuple(compare(exportable.reference(spec), run, spec)),
            versions=target.versions(),
            header=spec.header(),
            latency_ms=None if target.unproved(spec) else _latency(run, spec),
            judgement=None if judge is None else judge(run),
            unproved=target.unproved(spec),
            others=tuple(folder / item.name for item in made if item != path),
        )
        if not exported.problem:
            report = temporary / f"{path.name}.json"
            report.write_text(to_json(exported.to_json(), indent=1) + "\n", encoding="utf-8")
            for item in (*made, report):
                _move(item, folder / item.name)
    return exported


@contextmanager
def _named(target: Target, spec: ExportSpec, folder: Path) -> Iterator[None]:
    """Gives what an exporter raises the target's and the network's names, and the errors of a full disk a place."""
    try:
        yield
    except RecNextError:
        raise
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(folder)) from error
    except Exception as error:  # exporters raise anything
        raise RecNextError(f"{target.name} cannot export {spec.name}: {first_line(error)}") from error


@contextmanager
def temporary_in(folder: Path) -> Iterator[Path]:
    """A temporary folder in `folder`, gone in the end; a folder that was made for it goes too if it stays empty."""
    require_folder(folder)
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".export-", dir=folder))
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}: give another folder, --output", str(folder)) from None
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if made and not any(folder.iterdir()):
            folder.rmdir()


def require_place(place: Path, *, overwrite: bool, inputs: Iterable[PathName] = ()) -> None:
    """Raises RecNextError where an export would replace an input, a device or pipe, or what has no proof."""
    proved = place.with_name(f"{place.name}.json").is_file() and not place.is_symlink()
    if place.is_dir() and not place.is_symlink():
        if not (overwrite or proved):
            raise RecNextError(f"{place} exists and was not exported: give another --output, or --overwrite it")
    elif os.path.lexists(place):
        require_output(place, overwrite=overwrite or proved, mark=None, inputs=inputs)


def _move(made: Path, place: Path) -> None:
    """Puts a file or a folder in place of an older one."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    require_regular(place)
    os.replace(made, place)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else sum(_size(item) for item in path.iterdir())


def _latency(run: FileRunner, spec: ExportSpec) -> float:
    x = spec.example(1 if spec.dynamic_batch else None)
    times = interleaved({"file": lambda: run(x)}, rounds=15, seconds=1.0, calls=1)
    return 1e3 * times["file"].median
