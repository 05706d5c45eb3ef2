"""Arguments as a command line has them: dashes between words, switches without a value, several files in a row."""

from typing import Any, get_args, get_origin

from jsonargparse import ActionYesNo, ArgumentParser


class Parser(ArgumentParser):
    """Turns typed parameters into arguments.

    ``batch_size`` becomes ``--batch-size`` (``--batch_size`` works too), a bool the switches ``--resume`` and
    ``--no-resume``, a required list one or more positional values, and a list
    that is empty by default any number of them.
    """

    def add_argument(self, *names: str, **options: Any) -> Any:
        """Adds an argument, as argparse does."""
        kind = options.get("type")
        if names[-1].endswith("+") and options.get("default") == []:
            kind = getattr(options.get("action"), "_typehint", kind)
            options = {"help": options.get("help"), "type": get_args(kind)[0], "nargs": "*", "default": []}
            return super().add_argument(names[0].removeprefix("--"), **options)
        if len(names) == 1 and names[0].startswith("--") and not names[0].startswith("--print_"):
            if "_" in names[0]:
                names = (names[0].replace("_", "-"), names[0])
            if kind is bool:
                del options["type"]
                options |= {"action": ActionYesNo(yes_prefix="", no_prefix="no-"), "nargs": 0}
        elif len(names) == 1 and not names[0].startswith("-"):
            kind = getattr(options.get("action"), "_typehint", kind)
            if get_origin(kind) is list:
                options = {"help": options.get("help"), "type": get_args(kind)[0], "nargs": "+"}
        return super().add_argument(*names, **options)
