"""Entry point of the `recnext` command: names the commands and imports only the one that runs.

Nothing heavy may be imported here: `recnext --help` has to answer in well under a second.
"""

import os
import re
import sys
from contextlib import suppress
from importlib import import_module

from recnext._startup import prepare_process
from recnext._version import __version__
from recnext.errors import RecNextError, missing_extra
from recnext.text import printable

# command -> what it does. Module `recnext.cli.<command>` holds `run`,
# a typed function (or a dict of them, for subcommands) whose parameters become the flags.
COMMANDS: dict[str, str] = {
    "demo": "train, evaluate and fuse a small network on real digits, in about a minute",
    "list": "every network with size, cost and published accuracy",
    "info": "one network: stages, shapes, parameters, MACs, receptive fields",
    "predict": "classify images",
    "train": "train or fine-tune on folders of images",
    "eval": "accuracy of a checkpoint on folders of images",
    "plot": "curves of runs over each other, beside published accuracy",
    "report": "one page about a run: curves, mistakes, calibration, recipe",
    "data": "check a data set, index tar shards",
    "publish": "weights, timm config and model card of a run, for the hub",
    "embed": "features of images as a table, by any number of processes",
    "detect": "train, evaluate and use detectors: Mask R-CNN",
    "segment": "train, evaluate and use segmenters: Semantic FPN",
    "fuse": "fold every BatchNorm of a checkpoint for inference",
    "convert": "turn any checkpoint into safetensors",
    "export": "ONNX, OpenVINO, Core ML, ExecuTorch, LiteRT and torch files, each proved equal",
    "serve": "a web page and an HTTP API that classify images",
    "bench": "latency and throughput of networks, ours and others'",
    "erf": "effective receptive fields of networks, ours and others'",
    "explain": "where a network looks in an image, and what each level of its recursion adds",
    "attention-profile": "linear attention kernels beside softmax attention, layer by layer",
    "laws": "RecConv against a plain convolution of the same receptive field",
    "ablate": "the published ablation of token mixers beside what is measured here",
}

_WITHOUT_NETWORKS = {"list"}  # answers at once, without torch

_PIPE_CLOSED = 141  # as of a program that SIGPIPE ends

_MEMORY = re.compile(r"allocate memory|out of memory|Storage size calculation overflowed")  # of torch's RuntimeErrors

_USAGE = "usage: recnext COMMAND [OPTIONS]     (recnext COMMAND --help tells a command's options)"


def _help() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())
    return f"{_USAGE}\n\nRecNeXt {__version__}: efficient vision backbones in timm.\n\ncommands:\n{rows}\n"


def _fail(message: str, code: int) -> int:
    with suppress(BrokenPipeError):
        print(f"recnext: error: {printable(' '.join(message.split()))}", file=sys.stderr)
    return code


def _explain(error: Exception) -> str | None:
    """One line for a failure of the machine; None for one of the program."""
    if isinstance(error, MemoryError) or _MEMORY.search(str(error)):
        text = next((line for line in str(error).splitlines() if _MEMORY.search(line)), "")[:200]
        return f"not enough memory, smaller images, batches or sizes need less: {text}"
    from recnext.data.workers import explain_worker

    return explain_worker(error) if isinstance(error, RuntimeError) else None


def dispatch(arguments: list[str]) -> int:
    """Runs the command in `arguments` and returns the exit status."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help(), end="")
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"recnext {__version__}")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        from difflib import get_close_matches

        close = get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "recnext --help lists the commands"
        return _fail(f"unknown command {name!r}: {hint}", 2)

    try:
        from .parser import run_command

        if name not in _WITHOUT_NETWORKS:
            import_module("recnext.nn.models")  # registers the networks with timm
        run = import_module(f"recnext.cli.{name.replace('-', '_')}").run
        status = run_command(run, rest, command=f"recnext {name}")
    except RecNextError as error:
        return _fail(str(error), 2)
    except ModuleNotFoundError as error:
        if (missing := missing_extra(error, purpose=f"recnext {name}")) is None:
            raise
        return _fail(str(missing), 2)
    except BrokenPipeError:  # `recnext list | head`
        raise
    except (MemoryError, RuntimeError) as error:
        if (text := _explain(error)) is None:
            raise
        return _fail(text, 1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}", 1)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    return int(status or 0)


def main() -> None:
    """The console script."""
    prepare_process()
    try:
        status: object = dispatch(sys.argv[1:])
    except BrokenPipeError:
        status = _PIPE_CLOSED
    except SystemExit as left:  # of --help
        status = left.code
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # or Python complains as it exits
            closed = isinstance(error, BrokenPipeError)
            status = status or (_PIPE_CLOSED if closed else _fail(f"standard output: {error.strerror}", 1))
    sys.exit(status)  # type: ignore[arg-type]
