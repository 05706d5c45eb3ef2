"""What is wrong with a command line, or with a configuration, in one line: jsonargparse's own messages take several."""

import re
from collections.abc import Collection
from difflib import get_close_matches

_KINDS = {"int": "an integer", "float": "a number", "bool": "true or false", "str": "text"}
_KINDS |= dict.fromkeys(("dict", "Mapping"), "a mapping as JSON")
_KINDS |= dict.fromkeys(("list", "tuple"), "a list such as [8, 11]")
_KEY = re.compile(r'Parser key "(?P<key>[^"]+)"')
_GIVEN = re.compile(r"(?:Given value: |Got value: )(?P<value>.*)", re.DOTALL)
_LITERAL = re.compile(r"Literal\[(?P<words>[^]]*)\]")
_SUBCOMMAND = re.compile(
    r"argument subcommand: invalid choice: '(?P<word>[^']*)' \(choose from (?P<names>.*)\)"
    r"|expected \"subcommand\" to be one of \{(?P<all>[^}]*)\}.*"
)
_CLASS = re.compile(r"<class '(?P<name>[\w.]+)'>")


def explained(message: str, *, command: str, options: Collection[str]) -> str:
    """One line for a message of the parser.

    Args:
        message: of jsonargparse or argparse.
        command: as it is called, "recnext train".
        options: the parser's flags, "--batch-size" among them.
    """
    message = message.removeprefix('Parser key "config": ')
    if message.startswith("--"):
        return message  # of the configuration, explained before
    key, given = _KEY.search(message), _GIVEN.search(message)
    if key and given:
        flag = "--" + key["key"].rpartition(".")[2].replace("_", "-")
        name = flag if flag in options else flag.removeprefix("--").replace("-", "_")
        return f"{name} is {given['value'].strip()}: expected {_expected(message[: given.start()])}"
    if match := _SUBCOMMAND.fullmatch(message):
        what = f"unknown subcommand {match['word']!r}" if match["word"] else "no subcommand given"
        names = (match["names"] or match["all"]).replace("'", "").replace(" ", "").split(",")
        return f"{what}: expected {command} {'|'.join(names)}"
    if match := re.fullmatch(r"unrecognized arguments: (\S+).*", message, re.DOTALL):
        unknown = match[1]
        if not unknown.startswith("-"):
            return f"unexpected argument {unknown!r}: {command} --help tells what it takes"
        flag = unknown.partition("=")[0]
        return f"unknown option {flag}: {_hint(flag, options, command)}"
    if match := re.fullmatch(r"Option '([^']+)' is not accepted", message):
        name = match[1].rpartition(".")[2]
        flags = {option.removeprefix("--").replace("-", "_") for option in options}
        return f"unknown setting {name!r} in the configuration: {_hint(name, flags, command)}"
    if match := re.fullmatch(r"the following arguments are required: (.+)", message):
        missing = ", ".join(name.rpartition(".")[2] for name in match[1].split(", "))
        return f"no {missing} given: {command} --help tells what it takes"
    return f"{' '.join(message.split())} ({command} --help tells what it takes)"


def _expected(text: str) -> str:
    text = text.partition("Given value type:")[0]
    kinds = [" or ".join(re.findall(r"'([^']*)'", match)) for match in _LITERAL.findall(text)]
    names = dict.fromkeys(name.rpartition(".")[2] for name in _CLASS.findall(_LITERAL.sub("", text)))
    kinds += [_KINDS.get(name, name) for name in names if name != "NoneType"]
    return " or ".join(dict.fromkeys(kinds)) or "another kind of value"


def _hint(word: str, known: Collection[str], command: str) -> str:
    close = get_close_matches(word, sorted(known), n=1, cutoff=0.7)
    return f"did you mean {close[0]}?" if close else f"{command} --help lists the options"
