"""Flags as a command line has them: dashes between words, switches without a value, several files in a row."""

from typing import Any, get_args, get_origin

from jsonargparse import ActionYesNo, ArgumentParser


class Parser(ArgumentParser):
    """Makes ``--batch-size`` (``--batch_size`` works too) and ``--resume``, ``--no-resume`` of typed parameters."""

    def add_argument(self, *names: str, **options: Any) -> Any:
        """Adds an argument, as argparse does."""
        if len(names) == 1 and names[0].startswith("--") and not names[0].startswith("--print_"):
            if "_" in names[0]:
                names = (names[0].replace("_", "-"), names[0])
            if options.get("type") is bool:
                del options["type"]
                options |= {"action": ActionYesNo(yes_prefix="", no_prefix="no-"), "nargs": 0}
        if not names[0].startswith("-") and get_origin(options.get("type")) is list:
            options |= {"nargs": "+", "type": get_args(options["type"])[0]}
        return super().add_argument(*names, **options)
