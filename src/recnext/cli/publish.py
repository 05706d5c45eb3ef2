"""`recnext publish`: a run as a folder for the hub."""

from pathlib import Path
from typing import Optional

from recnext.checkpoints.publishing import publish
from recnext.checkpoints.publishing import push as upload
from recnext.screen import Screen


def run(
    source: str,
    output: Path,
    *,
    push: Optional[str] = None,
    model: Optional[str] = None,
    license: Optional[str] = None,
    private: bool = False,
    overwrite: bool = False,
) -> int:
    """Writes safetensors (raw, averaged, fused), the config.json that timm loads, and a model card.

    Args:
        source: run folder, or any checkpoint.
        output: folder to write.
        push: hub repository, owner/name, to upload the folder to.
        model: timm name of the network, where the checkpoint does not name it.
        license: of the weights, such as apache-2.0, for the card.
        private: a new repository is private.
        overwrite: replace files that this command did not write.
    """
    files = publish(source, output, name=model, repository=push, license=license, overwrite=overwrite)
    screen = Screen()
    for path in files:
        screen.print(str(path))
    if push is not None:
        with Screen(stderr=True).status(f"uploading to {push}"):
            address = upload(output, repository=push, private=private)
        screen.print(f"pushed to {address}")
    return 0
