"""The variants' mathematics in float64 numpy, term by term from their definitions, with no torch operator."""

from collections.abc import Callable

import numpy as np

Array = np.ndarray
Weights = dict[str, Array]


def conv(x: Array, weight: Array, bias: Array | None = None, *, stride: int = 1) -> Array:
    """Grouped convolution of (N, C, H, W) with (O, C / groups, k, k), zero padding k // 2."""
    n, channels, height, width = x.shape
    out, per_group, k, _ = weight.shape
    groups = channels // per_group
    padded = np.pad(x, ((0, 0), (0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    rows, columns = -(-height // stride), -(-width // stride)
    y = np.zeros((n, groups, out // groups, rows, columns))
    for u in range(k):
        for v in range(k):
            taps = padded[:, :, u : u + stride * rows : stride, v : v + stride * columns : stride][
                :, :, :rows, :columns
            ]
            taps = taps.reshape(n, groups, per_group, rows, columns)
            y += np.einsum("ngchw,goc->ngohw", taps, weight.reshape(groups, -1, per_group, k, k)[..., u, v])
    y = y.reshape(n, out, rows, columns)
    return y if bias is None else y + bias[:, None, None]


def doubled(x: Array, weight: Array) -> Array:
    """Grouped transposed convolution, (C, O / groups, k + 1, k + 1), stride 2: H and W double exactly."""
    n, channels, height, width = x.shape
    _, per_group, kernel, _ = weight.shape
    y = np.zeros((n, channels, per_group, 2 * height + kernel, 2 * width + kernel))
    for u in range(kernel):
        for v in range(kernel):
            y[..., u : u + 2 * height : 2, v : v + 2 * width : 2] += (
                x[:, :, None] * weight[:, :, u, v][:, :, None, None]
            )
    crop = (kernel - 1) // 2
    y = y[..., crop : crop + 2 * height, crop : crop + 2 * width]
    return y.reshape(n, channels * per_group, 2 * height, 2 * width)


def resized(x: Array, size: tuple[int, int], mode: str) -> Array:
    return np.einsum("hi,ncij,wj->nchw", _weights(x.shape[2], size[0], mode), x, _weights(x.shape[3], size[1], mode))


def _weights(before: int, after: int, mode: str) -> Array:
    matrix = np.zeros((after, before))
    for i in range(after):
        if mode == "nearest":
            matrix[i, i * before // after] = 1
        else:
            place = max((i + 0.5) * before / after - 0.5, 0)
            low = int(place)
            matrix[i, low] += 1 - (place - low)
            matrix[i, min(low + 1, before - 1)] += place - low
    return matrix


def pooled(x: Array) -> tuple[Array, Callable[[Array], Array]]:
    """2x2 maxima, and the map that puts values back where the maxima were."""
    n, channels, height, width = x.shape
    rows, columns = height // 2, width // 2
    windows = x[:, :, : 2 * rows, : 2 * columns].reshape(n, channels, rows, 2, columns, 2)
    is_maximum = windows == windows.max(axis=(3, 5), keepdims=True)

    def unpool(y: Array) -> Array:
        back = np.zeros_like(x)
        back[:, :, : 2 * rows, : 2 * columns] = (is_maximum * y[:, :, :, None, :, None]).reshape(
            n, channels, 2 * rows, 2 * columns
        )
        return back

    return windows.max(axis=(3, 5)), unpool


def recursive(x: Array, w: Weights, level: int, mode: str) -> Array:
    """y = 0; y = resized(convs[level - i](f_i + y)) for i = level .. 1; convs[level](x + y)."""
    features = [x]
    for _ in range(level):
        features.append(conv(features[-1], w["down.weight"], stride=2))
    y = np.zeros_like(features[level])
    for i in range(level, 0, -1):
        y = resized(conv(features[i] + y, w[f"convs.{level - i}.weight"]), features[i - 1].shape[2:], mode)
    return conv(x + y, w[f"convs.{level}.weight"])


def transposed(x: Array, w: Weights, level: int, hadamard: bool, activation: Callable[[Array], Array]) -> Array:
    features = [x]
    for _ in range(level):
        features.append(conv(features[-1], w["down.weight"], stride=2))
    y = conv(features[level], w["convs.0.weight"])
    for i in range(level - 1, -1, -1):
        y = activation(doubled(y, w["up.weight"]))
        y = conv(features[i] * y if hadamard else features[i] + y, w[f"convs.{level - i}.weight"])
    return y


def unpooled(x: Array, w: Weights, level: int) -> Array:
    features, backs = [x], []
    for _ in range(level):
        feature, back = pooled(features[-1])
        features.append(feature)
        backs.append(back)
    y = conv(features[level], w["convs.0.weight"])
    for i in range(level - 1, -1, -1):
        y = conv(features[i] + backs[i](y), w[f"convs.{level - i}.weight"])
    return y


def grouped(x: Array, w: Weights, level: int) -> Array:
    """Variant A."""
    features = [x]
    for i in range(level):
        features.append(conv(features[-1], w[f"downs.{i}.weight"], stride=2))
    y = np.zeros_like(features[level])
    for i in range(level):
        y = doubled(conv(features[level - i] + y, w[f"convs.{i}.weight"]), w[f"ups.{i}.weight"])
    return conv(x + y, w[f"convs.{level}.weight"])


def split(x: Array, w: Weights, level: int, upsample: str) -> Array:
    """Variant B."""
    halves = []
    for i in range(level):
        middle = (x.shape[1] + 1) // 2
        halves.append(x[:, :middle])
        x = conv(x[:, middle:], w[f"downs.{i}.weight"], stride=2)
    for i in range(level):
        half = halves[level - 1 - i]
        x = conv(x, w[f"convs.{i}.weight"])
        up = doubled(x, w[f"ups.{i}.weight"]) if upsample == "conv_transpose" else resized(x, half.shape[2:], upsample)
        x = np.concatenate([half, up], axis=1)
    return conv(x, w[f"convs.{level}.weight"])


def recurrent(x: Array, w: Weights, level: int, mode: str) -> Array:
    features = [x]
    for _ in range(level):
        features.append(conv(features[-1], w["n.weight"], stride=2))
    h: Array | None = None
    for i in range(level, 0, -1):
        update = conv(features[i], w["b.weight"])
        h = update if h is None else conv(h, w["a.weight"]) + update
        h = resized(h, features[i - 1].shape[2:], mode)
    assert h is not None
    return conv(h, w["c.weight"]) + conv(x, w["d.weight"])
