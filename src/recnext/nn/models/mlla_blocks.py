"""Blocks of the MLLA networks: the patch embedding and the block with a gated, recursive token mixer."""

from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from timm.layers import DropPath, Mlp
from timm.models import register_notrace_function
from torch import Tensor

from recnext.nn.mixers import ConvNorm, RecAttn2d, RecConv2d
from recnext.nn.mixers.linear_attention import features
from recnext.nn.mixers.variants import TransposedRecConv2d
from recnext.nn.ops.autocast import autocast_dtype, disabled


def rotations(height: int, width: int, dim: int, like: Tensor) -> Tensor:
    """Cosine and sine of the rotary angles, (height, width, dim // 2, 2), on the device of `like`.

    The first dim // 4 angles turn with the row, the others with the column, by theta_k = 10000^(-k / (dim // 4)).
    """
    steps = dim // 4
    theta = torch.arange(steps, device=like.device, dtype=torch.float32) / steps
    theta = torch.exp(theta * -9.210340371976184)  # -ln 10000
    rows = torch.arange(height, device=like.device, dtype=torch.float32)[:, None] * theta
    columns = torch.arange(width, device=like.device, dtype=torch.float32)[:, None] * theta
    angles = torch.cat(
        [rows[:, None, :].expand(height, width, steps), columns[None, :, :].expand(height, width, steps)], -1
    )
    return torch.stack([angles.cos(), angles.sin()], -1)


def rotations_for(buffer: Tensor, height: int, width: int) -> Tensor:
    """The rotations for any map: a corner of the stored ones, or, for larger maps, computed anew."""
    symbolic = False
    if not torch.jit.is_scripting():  # to compare the sizes of an exported program would fix them
        symbolic = not (isinstance(height, int) and isinstance(width, int))
    if not symbolic and height <= buffer.shape[0] and width <= buffer.shape[1]:
        return buffer[:height, :width]
    return rotations(height, width, 2 * buffer.shape[2], buffer).to(buffer.dtype)


def rotate(x: Tensor, turn: Tensor) -> Tensor:
    """Turns adjacent channel pairs of (N, C, H, W) by the angles of (H, W, C / 2, 2)."""
    cos, sin = turn.permute(3, 2, 0, 1).unbind(0)  # each (C / 2, H, W)
    even, odd = x.unflatten(1, (-1, 2)).unbind(2)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], 2).flatten(1, 2)


@register_notrace_function
def rotary_attend(q: Tensor, k: Tensor, v: Tensor, turns: Tensor, num_heads: int) -> Tensor:
    """Linear attention with rotated features in the numerator, in the dtype of the features.

    Args:
        q: features of the queries (N, C, H, W); heads are contiguous groups of channels.
        k: those of the keys, likewise.
        v: values, likewise, of any dtype.
        turns: stored rotations (rows, columns, C / 2, 2) of any extent.
        num_heads: heads.

    Returns:
        (N, C, H, W) in the dtype of v.
    """
    if not torch.jit.is_scripting():  # noqa: SIM102 (TorchScript compiles both sides of an "and")
        if autocast_dtype(v) is not None:
            with disabled(v.device):
                return _rotary_attend(q, k, v, turns, num_heads)
    return _rotary_attend(q, k, v, turns, num_heads)


def _rotary_attend(q: Tensor, k: Tensor, v: Tensor, turns: Tensor, num_heads: int, eps: float = 1e-6) -> Tensor:
    turn = rotations_for(turns, v.shape[2], v.shape[3]).to(q.dtype)
    q_turned = rotate(q, turn).flatten(2).unflatten(1, (num_heads, -1))  # (N, heads, d, n)
    k_turned = rotate(k, turn).flatten(2).unflatten(1, (num_heads, -1))
    q = q.flatten(2).unflatten(1, (num_heads, -1))
    k = k.flatten(2).unflatten(1, (num_heads, -1))
    values = v.to(q.dtype).flatten(2).unflatten(1, (num_heads, -1))
    n = q.shape[-1]
    state = values @ k_turned.transpose(-2, -1) / n  # (N, heads, d, d): linear in the positions
    mixed = (state @ q_turned) / (k.sum(-1, keepdim=True).transpose(-2, -1) / n @ q + eps)
    return mixed.reshape(v.shape).to(v.dtype)


# One node each for plain torch.fx too: which rotations serve depends on the size, the arithmetic on the dtype.
torch.fx.wrap("rotary_attend")
torch.fx.wrap("features")


class Rotary(nn.Module):
    """Holder of the rotations of one resolution, as the published weights store them."""

    rotations: Tensor

    def __init__(self, dim: int, resolution: tuple[int, int], *, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        like = torch.empty(0, device=device, dtype=dtype)
        self.register_buffer("rotations", rotations(*resolution, dim, like).to(like.dtype))


class RotaryAttention(nn.Module):
    """Linear attention (elu + 1) whose numerator sees rotated queries and keys; the normaliser sees plain ones.

    Shape: (N, C, H, W) to (N, C, H, W).
    """

    def __init__(
        self, dim: int, num_heads: int, resolution: tuple[int, int], *, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qk = nn.Conv2d(dim, 2 * dim, 1, groups=2, device=device, dtype=dtype)
        self.lepe = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, device=device, dtype=dtype)
        self.rope = Rotary(dim, resolution, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        q, k = features(self.qk(x), "elu").chunk(2, 1)
        return rotary_attend(q, k, x, self.rope.rotations, self.num_heads) + self.lepe(x)


class PatchEmbed(nn.Module):
    """Convolutional patch embedding: (N, in_chans, H, W) to (N, dim, H / 4, W / 4), rounded up."""

    def __init__(self, in_chans: int, dim: int, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        half = dim // 2
        self.conv1 = ConvNorm(in_chans, half, 3, stride=2, padding=1, **dd)
        self.conv2 = nn.Sequential(ConvNorm(half, half, 3, padding=1, **dd), ConvNorm(half, half, 3, padding=1, **dd))
        self.conv3 = nn.Sequential(
            ConvNorm(half, 4 * dim, 3, stride=2, padding=1, **dd), ConvNorm(4 * dim, dim, 1, **dd)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        x = x + self.conv2[1](F.relu(self.conv2[0](x)))
        return self.conv3[1](F.relu(self.conv3[0](x)))


AGGREGATIONS = ("recconv_nearest", "recconv_transposed", "recattn", "recattn_rope")


def make_mixer(
    aggregation: str, dim: int, *, level: int, num_heads: int, resolution: tuple[int, int], dd: dict[str, Any]
) -> nn.Module:
    """The token mixer of a block: `dim` hidden channels on maps that are `resolution` at build."""
    if aggregation == "recconv_nearest":
        return RecConv2d(dim, 5, level=level, mode="nearest", **dd)
    if aggregation == "recconv_transposed":
        return TransposedRecConv2d(dim, 5, level=level, **dd)
    rotary = RotaryAttention(dim, num_heads, halved(resolution), **dd) if aggregation == "recattn_rope" else None
    return RecAttn2d(dim, num_heads, bias=True, norm=False, attention=rotary, **dd)


def halved(resolution: tuple[int, int]) -> tuple[int, int]:
    """Height and width after a stride of 2."""
    return -(-resolution[0] // 2), -(-resolution[1] // 2)


class MllaBlock(nn.Module):
    """Positional conv, gated recursive mixer, positional conv, MLP.

    The gated mixer is the Mamba-like linear attention of arXiv 2405.16605 with a recursion in its place
    (arXiv 2412.19628): out(act(g) * mixer(c)), where g and c are two halves of one projection.

    Args:
        dim: channels C of the block.
        aggregation: the mixer, one of AGGREGATIONS.
        level: of RecConv.
        num_heads: of the attention.
        resolution: of the block's maps at build.
        drop_path: rate of the two residual branches.
        downsample: the input has C / 2 channels and twice the resolution.
        device: where the weights live.
        dtype: of the weights.

    Shape:
        (N, C, H, W) to (N, C, H, W); a downsample takes (N, C / 2, 2 H, 2 W).
    """

    def __init__(
        self,
        dim: int,
        *,
        aggregation: str,
        level: int,
        num_heads: int,
        resolution: tuple[int, int],
        drop_path: float = 0.0,
        downsample: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        self.residual = not downsample
        conv = aggregation.startswith("recconv")
        in_dim, stride = (dim // 2, 2) if downsample else (dim, 1)
        hidden = int(2.5 * dim) // 2 if conv else dim
        self.cpe1 = nn.Conv2d(in_dim, dim, 5, stride, 2, groups=in_dim, **dd)
        self.norm1 = nn.LayerNorm(dim, **dd)
        self.i_proj = nn.Linear(dim, 2 * hidden, **dd)
        self.o_proj = nn.Conv2d(hidden, dim, 1, **dd)
        self.act = nn.GELU() if conv else nn.SiLU()
        self.agg = make_mixer(aggregation, hidden, level=level, num_heads=num_heads, resolution=resolution, dd=dd)
        self.cpe2 = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, **dd)
        self.norm2 = nn.LayerNorm(dim, **dd)
        self.mlp = Mlp(dim, 4 * dim, act_layer=nn.GELU, **dd)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.cpe1(x) if self.residual else self.cpe1(x)
        hidden = self.i_proj(self.norm1(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        gate, content = hidden.chunk(2, 1)
        x = x + self.drop_path(self.o_proj(self.act(gate) * self.agg(content)))
        x = x + self.cpe2(x)
        return x + self.drop_path(self.mlp(self.norm2(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2))
