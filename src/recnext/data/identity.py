"""Whether data are still what they were: a digest of names, sizes and labels, for which nothing is decoded."""

import hashlib
import os
from typing import Any

_SIZED = 50_000  # files whose sizes are asked for, at even distances: a network drive takes a while for each


def identity_of(images: Any) -> dict[str, str]:
    """SHA-256 of a data set's names and labels, and of its sizes, which change where a damaged file is mended.

    Args:
        images: a data set with ``identity``, which gives name and label of an index as text; one with ``labels``, in
            memory; or a stream, whose shards have names.

    Returns:
        Hexadecimal digits as ``labels`` and ``sizes``; the same wherever the folder of the data is.
    """
    labels, sizes = hashlib.sha256(), hashlib.sha256()
    root = os.path.join(str(getattr(images, "root", "")), "")
    step = max(len(images) // _SIZED, 1)
    for index, (text, path) in enumerate(_parts(images)):
        labels.update(text.replace(root, "").encode("utf-8", "surrogateescape") + b"\n")
        if index % step == 0:
            sizes.update(_size(path).encode() + b"\n")
    return {"labels": labels.hexdigest(), "sizes": sizes.hexdigest()}


def _parts(images: Any) -> Any:
    """Text and path of each image, or of each shard."""
    if hasattr(images, "identity"):
        return ((images.identity(index), images.name(index)) for index in range(len(images)))
    if hasattr(images, "labels"):
        return ((str(label), "") for label in images.labels)
    shards = getattr(images, "shards", None)
    known = [(file, file) for file in getattr(shards, "files", ())]
    return [(f"{len(images)} images", ""), *known]


def _size(path: str) -> str:
    try:
        return str(os.stat(path).st_size) if path else ""
    except OSError:  # a name in an archive, an address, a file that is gone
        return ""
