"""How large the numbers of flags may be; a slip of the hand is refused before it takes all memory."""

from recnext.sizes import MOST_WORKERS

_MOST = {
    "workers": MOST_WORKERS,
    "threads": 4096,
    "batch_size": 65_536,
    "accumulate": 65_536,
    "repeats": 1024,
    "image_size": 16_384,
    "max_size": 65_536,
    "epochs": 1_000_000,
    "keep": 1_000_000,
}
_OTHERS = 2**31 - 1


def most(name: str) -> int:
    """The largest value of the flag of a parameter, ``batch_size`` for ``--batch-size``."""
    return _MOST.get(name, _OTHERS)
