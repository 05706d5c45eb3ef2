"""What a run says, and leaves behind, when it cannot go on."""

import errno
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

from recnext.data.workers import explain_worker
from recnext.errors import RecNextError
from recnext.text import to_json

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
    run.write_text(REPORT, to_json(report, indent=2) + "\n")
    raise DivergedError(
        f"the loss is {found[0]['loss'] if found else 'not finite'} in {where}: stopped before that step, "
        f"{_kept(run)}; {run.path / REPORT} names the images; a lower --lr (peak now {lr:g}) or "
        "--precision fp32 may help"
    )


def refuse_broken_weights(model: nn.Module, *, where: str, lr: float, run: RunFolder, accelerator: Accelerator) -> None:
    """Keeps weights with a NaN or an infinity from replacing those saved before. Collective.

    Raises:
        DivergedError: in all processes.
    """
    broken = ~torch.stack([weight.detach().isfinite().all() for weight in model.parameters()]).all()
    if accelerator.reduce(broken.float(), "sum").item() > 0:
        raise DivergedError(
            f"the weights are not finite any more after {where}: stopped without saving them, {_kept(run)}; a lower "
            f"--lr (peak now {lr:g}) or --precision fp32 may help"
        )


def _kept(run: RunFolder) -> str:
    return f"{run.path} keeps the state saved before" if run.has_state() else "nothing was saved before it"


@contextmanager
def explained(run: RunFolder, *, batch_size: int, accumulate: int) -> Iterator[None]:
    """Turns a full disk, an exhausted GPU and a loading process that was killed into one line that says what to do.

    Raises:
        OSError: with the text and the file.
        RecNextError: out of GPU memory, or a loading process ended.
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
    except (RuntimeError, ConnectionError, EOFError) as error:
        text = explain_worker(error)
        if text is None:
            raise
        raise RecNextError(f"{text}; {_kept(run)}{': --resume goes on there' if run.has_state() else ''}") from None
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        text = f"no space left on the disk; {_kept(run)}: free some and "
        text += "go on with --resume" if run.has_state() else "start again"
        raise OSError(error.errno, text, error.filename) from error
