"""Which network a state dict belongs to, read from the names and shapes of its tensors."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Optional

from torch import Tensor

from recnext.nn.models import recnext_a, recnext_l, recnext_m

Fusion = Literal["unfused", "partly fused", "fused"]
State = Mapping[str, Tensor]

_SERIES_CONFIGS = {"M": recnext_m.CONFIGS, "A": recnext_a.CONFIGS, "L": recnext_l.CONFIGS}
_NUMBER = re.compile("[0-9]{1,3}")
_PARTLY_FUSED_NORM = ".norm.running_mean"  # of M blocks and M/A downsamples in published fused files


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What the tensors of one of our networks say about it."""

    series: str
    """M, A or L."""
    share_channel: bool
    """The shared-channel kind of the L series."""
    widths: tuple[int, ...]
    """Channels of each stage."""
    depths: tuple[int, ...]
    """Blocks of each stage."""
    fusion: Fusion
    """Partly fused: as the published fused files, whose block and downsample norms are left."""
    two_heads: bool
    """Both heads are there, as before fusion."""
    num_classes: int
    """0 without a classifier."""
    in_chans: int
    """Channels of the images."""

    @property
    def name(self) -> Optional[str]:
        """The registered network of these widths and depths; None for another."""
        return next((name for name, config in _SERIES_CONFIGS[self.series].items() if self._is(config)), None)

    def _is(self, config: Mapping[str, Any]) -> bool:
        return (self.widths, self.depths, self.share_channel) == (
            tuple(config["embed_dim"]),
            tuple(config["depths"]),
            config.get("share_channel", False),
        )

    def __str__(self) -> str:
        kind = f"{self.series} series{', shared channels' if self.share_channel else ''}"
        sizes = f"widths {', '.join(map(str, self.widths))}; depths {', '.join(map(str, self.depths))}"
        return f"{self.name} ({kind})" if self.name else f"a network of the {kind} with {sizes}"


def read_architecture(state: State) -> Optional[Architecture]:
    """Reads the architecture off a state dict; None when it is no whole network of the M, A or L series."""
    stem = _outputs(state, "stem.stem.0")
    depths = _depths(state)
    if stem is None or not depths:
        return None
    widths = tuple(_width(state, stage) for stage in range(len(depths)))
    if 0 in widths:
        return None
    fused = "stem.stem.0.weight" in state
    first = state["stem.stem.0.weight" if fused else "stem.stem.0.conv.weight"]
    if first.ndim != 4:
        return None
    keys = state.keys()
    shared_block = f"stages.{len(depths) - 1}.blocks.4."
    share_channel = any(key.startswith(shared_block) for key in keys) and not any(
        key.startswith(f"{shared_block}token_mixer.") for key in keys
    )
    left_norms = any(key.startswith("stages.") and _is_left_norm(key) for key in keys)
    return Architecture(
        series=_series(state),
        share_channel=share_channel,
        widths=widths,
        depths=depths,
        fusion=("partly fused" if left_norms else "fused") if fused else "unfused",
        two_heads="head.head.linear.weight" in state,
        num_classes=_rows(state, "head.head.linear.weight") or _rows(state, "head.weight"),
        in_chans=first.shape[1],
    )


def _is_left_norm(key: str) -> bool:
    """stages.i.blocks.j.norm.running_mean or stages.i.downsample.norm.running_mean."""
    return (key.endswith(_PARTLY_FUSED_NORM) and key.split(".")[-3].isdigit()) or key.endswith(
        f".downsample{_PARTLY_FUSED_NORM}"
    )


def _series(state: State) -> str:
    if any(".rep_mixer." in key for key in state):
        return "L"
    return "A" if any(".token_mixer.down.1." in key for key in state) else "M"


def _depths(state: State) -> tuple[int, ...]:
    """Blocks of each stage, 0 where a stage is only a downsample (or the empty first one)."""
    blocks: dict[int, set[int]] = {}
    for key in state:
        part = key.split(".")
        if part[0] == "stages" and len(part) > 3 and _NUMBER.fullmatch(part[1]):
            found = blocks.setdefault(int(part[1]), set())
            if part[2] == "blocks" and _NUMBER.fullmatch(part[3]):
                found.add(int(part[3]))
    return tuple(len(blocks.get(stage, ())) for stage in range(max(blocks) + 1)) if blocks else ()


def _width(state: State, stage: int) -> int:
    names = [f"stages.{stage}.blocks.0.channel_mixer.2", f"stages.{stage}.downsample.channel_mixer.2"]
    if stage == 0:
        names += ["stem.stem.4", "stem.stem.2"]
    return next((width for name in names if (width := _outputs(state, name)) is not None), 0)


def _outputs(state: State, name: str) -> Optional[int]:
    """Output channels of the convolution `name`, folded or not."""
    return _rows(state, f"{name}.conv.weight") or _rows(state, f"{name}.weight") or None


def _rows(state: State, key: str) -> int:
    return state[key].shape[0] if key in state and state[key].ndim else 0
