"""One run from its opening to its summary, whatever is trained."""

from collections.abc import Callable, Collection
from typing import Any, Optional

from rich.console import Console

from recnext.data.loading import require_readable
from recnext.data.sampling import seed_everything
from recnext.errors import RecNextError

from .accelerator import make_accelerator
from .choosing import fit_batch, take_network
from .description import announce, describe_data, run_config, summarise
from .job import Job, Splits
from .loop import fit
from .progress import Watch
from .result import Step, TrainingResult
from .resuming import require_same_data, resume_settings
from .run_folder import Record, RunFolder
from .settings import LoopSettings, counted


def train(
    job: Job,
    settings: LoopSettings,
    *,
    data: Any,
    given: Optional[Collection[str]] = None,
    console: Optional[Console] = None,
    on_step: Callable[[Step], None] = lambda step: None,
    on_period: Callable[[Record], None] = lambda record: None,
) -> TrainingResult:
    """Trains a network and leaves the run in its output folder.

    Args:
        job: what is trained, such as `recnext.tasks.classification.job.ClassificationJob`.
        settings: of the class `job.settings`; a resumed run takes those it was started with.
        data: what `job.open` takes.
        given: names of the settings that were asked for; by default those that differ from their defaults.
        console: for the progress, in the first process only; None is silent.
        on_step: called after each optimizer step and the save that may follow it.
        on_period: called after each evaluation and its save.

    Raises:
        RecNextError: the data are not so, a setting does not fit model, data or machine, or as `fit`.
        OSError: a file could not be written.
    """
    settings = take_network(settings, given=given)
    accelerator = make_accelerator(
        device=settings.device, precision=settings.precision, tracker=settings.tracker, folder=settings.folder
    )
    console = console if accelerator.is_main_process else None
    run = RunFolder(settings.folder, writer=accelerator.is_main_process)
    with run.held():
        started = run.open(resume=settings.resume)
        stored = run.read_config() if started else {}
        settings, note = resume_settings(job, settings, stored, given=given, run=run)
        splits = _open(job, settings, data, processes=accelerator.num_processes)
        facts = describe_data(splits)
        if started:
            require_same_data(run, stored, facts)
        else:
            settings, note = fit_batch(settings, images=len(splits.train), accelerator=accelerator, given=given)
        seed_everything(settings.seed)
        resume = started and run.has_state()
        model = job.build(settings, splits, weights=not resume)
        settings = job.resolve(settings, model)
        loaders = job.loaders(settings, model, splits, accelerator)
        task = job.task(settings, model, splits, accelerator)
        facts |= job.facts(settings, model, splits)
        batches: Any = loaders[0].batch_sampler
        config = run_config(job, settings, facts, model=model, batches=batches, accelerator=accelerator)
        if console is not None:
            lines = (*job.notes(settings, splits), note)
            announce(console, job.title(settings), settings, config=config, batches=batches, run=run, notes=lines)
        accelerator.wait_for_everyone()  # all have looked for a config; now the first one writes it
        run.write_config(config)
        run.write_recipe(settings.to_dict())
        result = fit(job, task, loaders, settings, run, accelerator, resume, Watch(console, on_step, on_period))
        if result.interrupted is None:
            run.write_summary(summarise(job, config=config, result=result))
    return result


def _open(job: Job, settings: LoopSettings, data: Any, *, processes: int) -> Splits:
    """The data, of which some can be read, and enough for all processes."""
    splits = job.open(settings, data)
    for images in (splits.train, splits.val):
        require_readable(images)
    if len(splits.train) < 2 * processes:
        raise RecNextError(
            f"{splits.source} has {counted(len(splits.train), 'training image')}: give two or more per process"
        )
    return splits
