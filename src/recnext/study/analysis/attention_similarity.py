"""How alike linear attention and softmax attention are, layer by layer, on the queries and keys of a network."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recnext.errors import RecNextError
from recnext.nn.mixers.linear_attention import LinearAttention, feature_map

LINEAR_KERNELS = ("elu", "softplus", "relu")
"""elu + 1, softplus with beta 3.5, relu: those that the ablation of recnext_t_share_channel tries beside softmax."""

_EPS = 1e-6  # added to the sum of a row, as the networks do


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One attention layer, averaged over images, heads and queries.

    Attributes:
        layer: name of the module.
        positions: that a query attends to.
        similarity: by linear kernel, the cosine of the angle between a query's weights and those of softmax: 1 if
            proportional, 0 if they share no position.
        breadth: by kernel, softmax among them, the share of the positions that a query attends to: the
            exponential of its entropy over their number; 1 is an even average.
    """

    layer: str
    positions: int
    similarity: dict[str, float]
    breadth: dict[str, float]


def attention_weights(q: Tensor, k: Tensor, kernel: str) -> Tensor:
    """The weights that attention gives to every key, row by row.

    Args:
        q: (N, heads, D, n) queries before the feature map.
        k: (N, heads, D, n) keys.
        kernel: "elu" (elu + 1), "softplus" (beta 3.5), "relu", or "softmax" (of q·k / sqrt(D)).

    Returns:
        (N, heads, n queries, n keys) float32; rows add up to 1 (with relu, those of queries that are nowhere
        positive are 0).
    """
    q, k = q.float().transpose(-1, -2), k.float()
    if kernel == "softmax":
        return torch.softmax(q @ k / k.shape[-2] ** 0.5, dim=-1)
    scores = feature_map(q, kernel) @ feature_map(k, kernel)
    return scores / (scores.sum(-1, keepdim=True) + _EPS)


def row_similarity(weights: Tensor, others: Tensor) -> float:
    """Mean cosine similarity of the rows of two (..., n, n) attention matrices."""
    return float(F.cosine_similarity(weights, others, dim=-1).mean())


def breadth(weights: Tensor) -> float:
    """Mean over rows of exp(entropy) / n for (..., n, n) attention matrices, 0 where a row is all zero."""
    positions = torch.special.entr(weights).sum(-1).exp() * (weights.sum(-1) > 0)
    return float(positions.mean()) / weights.shape[-1]


@torch.no_grad()
def attention_profile(
    model: nn.Module, batches: Iterable[Tensor], *, on_image: Callable[[], None] = lambda: None
) -> list[Profile]:
    """Compares kernels in every linear attention layer of a network.

    The network runs with its own kernel; only the queries and keys it makes are given to the others.

    Args:
        model: of the A or L series, or an MLLA network with attention (without rotary embedding).
        batches: normalised images (N, C, H, W), on its device.
        on_image: called after each image, for progress.

    Raises:
        RecNextError: the network has no such layer, or there are no images.
    """
    layers = {name: part for name, part in model.named_modules() if isinstance(part, LinearAttention)}
    if not layers:
        raise RecNextError(
            f"{type(model).__name__} has no linear attention layer: take a network of the A or L series, "
            "such as recnext_a3 or recnext_t"
        )
    sums: dict[str, dict[str, float]] = {name: {} for name in layers}
    positions: dict[str, int] = {}

    def watch(name: str) -> Callable[..., None]:
        def hook(qk: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            q, k = layers[name].split(output)
            positions[name] = q.shape[-1]
            _add(sums[name], q, k)

        return hook

    hooks = [layer.qk.register_forward_hook(watch(name)) for name, layer in layers.items()]
    count = 0
    try:
        model.eval()
        for batch in batches:
            for image in batch.split(1):  # n x n weights of one image at a time
                model(image)
                count += 1
                on_image()
    finally:
        for handle in hooks:
            handle.remove()
    if count == 0:
        raise RecNextError("an attention profile needs at least one image")
    return [
        Profile(
            layer=name,
            positions=positions[name],
            similarity={kernel: total[kernel] / count for kernel in LINEAR_KERNELS},
            breadth={kernel: total[f"breadth {kernel}"] / count for kernel in (*LINEAR_KERNELS, "softmax")},
        )
        for name, total in sums.items()
    ]


def _add(total: dict[str, float], q: Tensor, k: Tensor) -> None:
    softmax = attention_weights(q, k, "softmax")
    measures = {"breadth softmax": breadth(softmax)}
    for kernel in LINEAR_KERNELS:
        weights = attention_weights(q, k, kernel)
        measures[kernel] = row_similarity(weights, softmax)
        measures[f"breadth {kernel}"] = breadth(weights)
    for key, value in measures.items():
        total[key] = total.get(key, 0.0) + value
