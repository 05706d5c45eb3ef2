"""Arguments as a command line has them: dashes between words, switches without a value, several files in a row."""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, NoReturn, Optional, get_args, get_origin

from jsonargparse import ActionYesNo, ArgumentParser, auto_parser, set_parsing_settings

from recnext.errors import RecNextError

from .mistakes import explained
from .recipes import with_recipes

set_parsing_settings(import_path_denylist=["*"])  # a value that names a class is never imported
_LARGEST = 2**63  # what an integer of torch and numpy holds


def run_command(run: Any, arguments: Sequence[str], *, command: str) -> Any:
    """Calls a function, or one of several by name, with what a command line gives; the rest stays its default.

    Args:
        run: a typed function, or a dict of them for subcommands.
        arguments: after the command's name.
        command: as it is called, "recnext train".

    Raises:
        RecNextError: the arguments do not fit.
    """
    parser = auto_parser(run, as_positional=True, parser_class=Parser, prog=command)
    given = parser.instantiate(parser.parse_args(arguments))
    if isinstance(run, dict):
        run, given = run[given.subcommand], given[given.subcommand]
    values = {name: value for name, value in vars(given).items() if name != "config"}
    for name, value in values.items():
        _require_64_bits(name, value)
    return run(**values)


def _require_64_bits(name: str, value: Any) -> None:
    if isinstance(value, (list, tuple, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            _require_64_bits(name, part)
    elif isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
        raise RecNextError(f"--{name.replace('_', '-')} is {value}: expected a number of 64 bits at most")


class Parser(ArgumentParser):
    """Turns typed parameters into arguments.

    ``batch_size`` becomes ``--batch-size`` (``--batch_size`` works too), a bool the switches ``--resume`` and
    ``--no-resume``, a required list one or more positional values, and a list
    that is empty by default any number of them. A switch that also takes a word (``--resume``, ``--resume auto``) does
    so before other arguments too. ``--config`` takes a recipe's name.
    """

    def parse_args(self, args: Optional[Sequence[str]] = None, *rest: Any, **options: Any) -> Any:  # type: ignore[override]
        """Parses what is given, without the defaults."""
        if args is not None:
            args = with_recipes(self._with_values(args))
            options.setdefault("defaults", "--print_config" in args)
        return super().parse_args(args, *rest, **options)

    def error(self, message: str, ex: Optional[Exception] = None) -> NoReturn:
        """Called for a command line, or a configuration, that is not as it should be.

        Raises:
            RecNextError: always, with one line in place of the usage and jsonargparse's several.
        """
        at_fault = getattr(ex, "subcommand_parser", None) or self
        options = re.findall(r"--[\w.-]+", at_fault.format_help())
        raise RecNextError(explained(message, command=at_fault.prog, options=options)) from None

    def _with_values(self, arguments: Sequence[str]) -> list[str]:
        """Gives the switches that may have a word one: theirs, or true."""
        result = list(arguments)
        for index in range(len(result) - 1, -1, -1):
            words = self.words.get(result[index])
            if words is not None:
                follows = index + 1 < len(result) and result[index + 1] in words
                result[index] += f"={result.pop(index + 1) if follows else 'true'}"
        return result

    @cached_property
    def words(self) -> dict[str, list[str]]:
        """The words that a switch may have, by its flag."""
        return {}

    def add_argument(self, *names: str, **options: Any) -> Any:
        """Adds an argument, as argparse does."""
        kind = _kind(options)
        if names[0] == "--config":
            options["help"] = "YAML file of options, or the name of a recipe; other options go over it."
        if names[-1].endswith("+") and options.get("default") == []:
            options = {"help": options.get("help"), "type": get_args(kind)[0], "nargs": "*", "default": []}
            return super().add_argument(names[0].removeprefix("--"), **options)
        if len(names) == 1 and names[0].startswith("--") and not names[0].startswith("--print_"):
            if "_" in names[0]:
                names = (names[0].replace("_", "-"), names[0])
            choices = get_args(kind)
            if bool in choices:
                literals = [get_args(choice) for choice in choices if get_origin(choice) is Literal]
                self.words[names[0]] = [word for choice in literals for word in choice]
            if options.get("type") is bool:
                del options["type"]
                options |= {"action": ActionYesNo(yes_prefix="", no_prefix="no-"), "nargs": 0}
        elif len(names) == 1 and not names[0].startswith("-") and get_origin(kind) is list:
            options = {"help": options.get("help"), "type": get_args(kind)[0], "nargs": "+"}
        return super().add_argument(*names, **options)


def _kind(options: Mapping[str, Any]) -> Any:
    """The type of an argument.

    jsonargparse keeps complex ones in an attribute of its actions that is not public: without it, lists are given as
    one JSON value, and a switch with a word needs an equals sign.
    """
    return getattr(options.get("action"), "_typehint", options.get("type"))
