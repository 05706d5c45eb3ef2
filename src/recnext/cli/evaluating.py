"""The evaluation of any task from the command line."""

from pathlib import Path
from typing import Any, Optional

from rich import box
from rich.table import Table

from recnext.engine.processes import process_group
from recnext.screen import Screen
from recnext.tasks.evaluation import Evaluation, require_results
from recnext.tasks.grid import Grid

from .shared import make_table, print_json, progress_bar

_SHOWN = 40  # classes; per_class.csv has all


def show_evaluation(
    settings: Any, data: str, *, json: bool, output: Optional[str], overwrite: bool, **options: Any
) -> int:
    """Evaluates, also as one of several processes, and shows and writes what was found.

    Args:
        settings: of the evaluation of a task.
        data: to evaluate on.
        json: print JSON in place of tables.
        output: folder for all of it.
        overwrite: replace files in it that no evaluation wrote.
        **options: further ones of its `evaluate`.
    """
    if output is not None:
        require_results(Path(output), overwrite=overwrite)
    with process_group(settings.device) as processes:
        screen = Screen(quiet=not processes.first)
        with progress_bar(quiet=not processes.first) as progress:
            bar = progress.add_task("evaluating", total=None)
            result: Evaluation = settings.evaluate(
                data,
                processes=processes,
                on_images=lambda done, total: progress.update(bar, advance=done, total=total),
                **options,
            )
    if not processes.first:
        return 0
    if output is not None:
        result.write(Path(output))
    if json:
        print_json(result.facts)
        return 0
    _print(screen, result)
    if output is not None:
        screen.print(f"all results in {output}")
    return 0


def _print(screen: Screen, result: Evaluation) -> None:
    facts = result.facts
    screen.print(f"{facts['checkpoint']} on {facts['data']}")
    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    if "images" in facts:
        size = facts["image_size"]
        pixels = "x".join(map(str, size)) if isinstance(size, list) else str(size)
        table.add_row("images", f"{facts['images']} of {facts['classes']} classes at {pixels} px")
    for title, text in result.lines:
        table.add_row(title, text)
    screen.print(table)
    if result.classes is not None:
        screen.print(class_table(result.classes))


def class_table(grid: Grid) -> Table:
    """The first rows of a table of classes."""
    table = make_table(*grid.columns, title="By class")
    for row in grid.rows[:_SHOWN]:
        table.add_row(*(f"{cell:.2f}" if isinstance(cell, float) and cell == cell else _word(cell) for cell in row))
    if len(grid.rows) > _SHOWN:
        table.add_row(f"and {len(grid.rows) - _SHOWN} more")
    return table


def _word(cell: Any) -> str:
    return "-" if isinstance(cell, float) else str(cell)
