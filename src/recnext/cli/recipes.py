"""Recipes by name: the YAML files of ``recipes/``, in a checkout or beside the installed package."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from recnext.errors import RecNextError
from recnext.text import read_text, read_yaml

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


def with_recipes(arguments: Sequence[str]) -> list[str]:
    """Arguments in which each ``--config`` has the text of its recipe.

    Raises:
        RecNextError: there is no such recipe, or it is not valid YAML.
    """
    result: list[str] = []
    for argument in arguments:
        if result and result[-1] == "--config":
            result[-1] += "=" + _content(argument)
        elif argument.startswith("--config="):
            result.append("--config=" + _content(argument.partition("=")[2]))
        else:
            result.append(argument)
    return result


def _content(name: str) -> str:
    path = Path(find_recipe(name))
    if not isinstance(read_yaml(path), dict):
        raise RecNextError(f"{path} holds no settings: expected lines such as 'epochs: 30'")
    return read_text(path)
