"""What a run says, and leaves behind, when it cannot go on."""

import errno
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from recnext.errors import RecNextError

from .run_folder import REPORT, RunFolder
from .task import LoadedBatch


class DivergedError(RecNextError):
    """The loss became NaN or infinite; raised in all processes alike."""


def stop_diverged(
    losses: Sequence[float],
    batches: Sequence[LoadedBatch],
    *,
    where: str,
    position: tuple[int, int],
    lr: float,
    run: RunFolder,
    accelerator: Accelerator,
) -> None:
    """Raises in all processes after the first has written the offending batches' file names. Collective.

    Args:
        losses: of this process's batches in the step.
        batches: the same.
        where: in words, for the message.
        position: (epoch, step), for the report.
        lr: at its peak.
        run: its folder gets ``diverged.json``.
        accelerator: the engine.

    Raises:
        DivergedError: always.
    """
    mine = [
        {"process": accelerator.process_index, "loss": str(loss), "files": list(batch.names)}
        for loss, batch in zip(losses, batches, strict=True)
        if not math.isfinite(loss)
    ]
    found = gather_object(mine)
    report = {"epoch": position[0], "step": position[1], "batches": found}
    run.write_text(REPORT, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    kept = f"{run.path} keeps the last good state" if run.has_state() else "nothing was saved before it"
    raise DivergedError(
        f"the loss is {found[0]['loss'] if found else 'not finite'} in {where}: stopped before that step, {kept}; "
        f"{run.path / REPORT} names the images; a lower --lr (peak now {lr:g}) or --precision no may help"
    )


@contextmanager
def explained(*, batch_size: int, accumulate: int) -> Iterator[None]:
    """Turns a full disk and an exhausted GPU into one line that says what to do.

    Raises:
        OSError: with the text and the file.
        RecNextError: out of GPU memory.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        first = str(error).split(". ")[0]
        half = ""
        if batch_size % 4 == 0:  # mixing wants an even one
            half = f"--batch-size {batch_size // 2} --accumulate {2 * accumulate} gives the same steps in half of it; "
        raise RecNextError(
            f"out of GPU memory at --batch-size {batch_size} ({first}): {half}a smaller --image-size or "
            "--precision bf16 help"
        ) from None
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        text = "no space left on the disk; the save before is whole: free some and go on with --resume"
        raise OSError(error.errno, text, error.filename) from error
