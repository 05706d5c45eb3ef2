"""Recipes by name: the YAML files of ``recipes/``, in a checkout or beside the installed package."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from recnext.errors import RecNextError

_PACKAGE = Path(__file__).parents[1]
_FOLDERS = (_PACKAGE / "recipes", _PACKAGE.parents[1] / "recipes")  # of the wheel, of the checkout


def recipes() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    for folder in _FOLDERS:
        found = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
        if found:
            return found
    return {}


def find_recipe(name: str) -> str:
    """The path of a configuration: `name` itself where it is a file, else the recipe of that name.

    Raises:
        RecNextError: there is neither.
    """
    if Path(name).is_file():
        return name
    known = recipes()
    if Path(name).name == name and name.removesuffix(".yaml") in known:
        return str(known[name.removesuffix(".yaml")])
    close = get_close_matches(Path(name).stem, known, n=3, cutoff=0.3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"the recipes are {', '.join(known)}"
    raise RecNextError(f"no configuration {name!r}, neither a file nor a recipe: {hint}")


def with_paths(arguments: Sequence[str]) -> list[str]:
    """Arguments in which each ``--config`` has a path."""
    result: list[str] = []
    for argument in arguments:
        if result and result[-1] == "--config":
            argument = find_recipe(argument)
        elif argument.startswith("--config="):
            argument = f"--config={find_recipe(argument.partition('=')[2])}"
        result.append(argument)
    return result
