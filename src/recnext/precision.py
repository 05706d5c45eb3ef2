"""One vocabulary of number formats for every command, key and file: fp32, bf16, fp16, int8."""

from collections.abc import Sequence

from .errors import RecNextError

FLOATS = ("fp32", "bf16", "fp16")
_SPELLINGS = {
    **dict.fromkeys(("f32", "float32", "no"), "fp32"),
    **dict.fromkeys(("bfloat16",), "bf16"),
    **dict.fromkeys(("f16", "float16", "half"), "fp16"),
}


def parse_precision(text: str, *, choices: Sequence[str] = ("auto", *FLOATS)) -> str:
    """Gives a number format its name here: "f32", "float32" and "no" are fp32, "f16" and "float16" are fp16.

    Raises:
        RecNextError: it is none of the choices.
    """
    name = _SPELLINGS.get(text, text)
    if name not in choices:
        raise RecNextError(f"precision {text!r}: expected {', '.join(choices)}")
    return name
