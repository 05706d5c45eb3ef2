"""A table written in parts, each whole or not there at all, and joined at the end: killed, it goes on without loss.

Next to ``features.parquet`` lies ``features.parquet.parts`` until it is complete. A part holds one chunk; what a
killed run has not finished is computed again, what it has is not, so no row is lost or doubled.
"""

import io
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recnext.engine.locking import locked
from recnext.errors import MissingExtraError, RecNextError
from recnext.files import require_output, write_atomically

_MANIFEST = "manifest.json"
_LOCK = "lock"
_OWN = re.compile(r"\.?(\d{6}-)?\d{8}\.parquet(\..*\.tmp)?|joined|\.manifest\.json\..*\.tmp")
"""What a killed run leaves."""


class Parts:
    """The parts of one table.

    Args:
        output: ends in ``.parquet``.
        overwrite: replace another table.

    Raises:
        RecNextError: another suffix, or no such folder.
        MissingExtraError: pyarrow is not installed.
    """

    def __init__(self, output: Path, *, overwrite: bool = False) -> None:
        from importlib.util import find_spec

        if find_spec("pyarrow") is None:
            raise MissingExtraError("pyarrow", "data", "writing parquet")
        if output.suffix != ".parquet":
            raise RecNextError(f"cannot write {output}: expected a name that ends in .parquet")
        if not output.parent.is_dir():
            raise RecNextError(f"cannot write {output}: there is no folder {output.parent}")
        self.output = output
        self.overwrite = overwrite
        self.folder = output.with_name(output.name + ".parts")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keeps other runs from writing the same table; for the first process.

        Raises:
            RecNextError: another run writes it, or it is there already.
        """
        self._require_new()
        self.folder.mkdir(exist_ok=True)
        with locked(self.folder / _LOCK, what=str(self.output)):
            yield

    def _require_new(self) -> None:
        if not (self.folder / _MANIFEST).is_file():
            require_output(self.output, overwrite=self.overwrite, mark=None)

    def open(self, facts: Mapping[str, Any]) -> bool:
        """Starts, or goes on with what a run of the same `facts` left; for the first process.

        Returns:
            Whether it goes on.

        Raises:
            RecNextError: the table is there already, or the parts are of another run.
        """
        manifest = self.folder / _MANIFEST
        if not manifest.is_file():
            self._require_new()
            self.folder.mkdir(exist_ok=True)
            left = [path for path in self.folder.iterdir() if path.name != _LOCK]
            for path in left:
                if not _OWN.fullmatch(path.name):
                    raise RecNextError(f"{path} is of another program: remove {self.folder}, or give another --output")
            for path in left:  # of a run that was killed while it cleared up
                path.unlink()
            write_atomically(manifest, json.dumps(facts, indent=1).encode("utf-8"))
            return False
        try:
            before: dict[str, Any] = dict(json.loads(manifest.read_bytes()))
        except (ValueError, TypeError):
            raise RecNextError(f"{manifest} is damaged: remove {self.folder}, or give another --output") from None
        now = json.loads(json.dumps(facts))
        changed = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
        if changed:
            raise RecNextError(
                f"{self.folder} was started with other {', '.join(changed)}: run the command as it was, "
                "remove that folder, or choose another --output"
            )
        return True

    def done(self, name: str) -> bool:
        """Whether a chunk is written."""
        return self._path(name).is_file()

    def write(self, name: str, columns: Mapping[str, Any]) -> None:
        """Writes a chunk; afterwards it is done, whatever happens.

        Args:
            name: of the chunk.
            columns: Arrow arrays of one length, the same columns in every chunk.
        """
        import pyarrow
        import pyarrow.parquet

        content = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.table(dict(columns)), content)
        write_atomically(self._path(name), content.getvalue())

    def rows(self) -> int:
        """In the parts written so far."""
        import pyarrow.parquet

        return sum(pyarrow.parquet.read_metadata(path).num_rows for path in self._paths())

    def join(self) -> int:
        """Puts the parts together in order, one row group each, and removes them; for the first process.

        Returns:
            Rows of the table.
        """
        import pyarrow.parquet

        staged = self.folder / "joined"
        rows, writer = 0, None
        try:
            for path in self._paths():
                table = pyarrow.parquet.read_table(path)
                writer = writer or pyarrow.parquet.ParquetWriter(staged, table.schema)
                writer.write_table(table)
                rows += table.num_rows
        finally:
            if writer is not None:
                writer.close()
        with staged.open("r+b") as file:
            os.fsync(file.fileno())
        os.replace(staged, self.output)
        (self.folder / _MANIFEST).unlink()  # from here on the parts are leftovers
        shutil.rmtree(self.folder, ignore_errors=os.name == "nt")  # where the lock cannot be removed
        return rows

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.parquet"

    def _paths(self) -> Iterator[Path]:
        return iter(sorted(self.folder.glob("*.parquet")))
