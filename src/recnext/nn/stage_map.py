"""The map that a stage of any timm network gives."""

from torch import Tensor, nn

from recnext.errors import RecNextError


def stage_map(model: nn.Module, images: Tensor, *, stage: int = -1) -> Tensor:
    """The map that a stage of any timm network gives; tokens are laid out as the map they stand for.

    Args:
        model: with timm's ``forward_intermediates``, or with ``forward_features``, which knows the last stage only.
        images: (N, C, H, W), normalised.
        stage: index into the network's stages (the blocks of a plain transformer), from the end if negative.

    Returns:
        (N, channels, height, width), with a gradient to `images`.

    Raises:
        RecNextError: the network has no such stage, gives no map, or does not take images of this size.
    """
    name = type(model).__name__
    try:
        if hasattr(model, "forward_intermediates"):
            stages = model.forward_intermediates(  # type: ignore[operator]
                images, indices=[stage], stop_early=stage >= 0, output_fmt="NCHW", intermediates_only=True
            )
            return stages[0]
        if stage != -1 or not hasattr(model, "forward_features"):
            raise RecNextError(f"{name} shows no maps of its stages: take a timm network, or its last stage")
        return _as_map(model, model.forward_features(images), images)  # type: ignore[operator]
    except RecNextError:
        raise
    except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
        size = "x".join(map(str, images.shape[-2:]))
        raise RecNextError(f"{name} gives no map of stage {stage} for images of {size}: {error}") from None


def _as_map(model: nn.Module, features: Tensor, images: Tensor) -> Tensor:
    """NCHW features as they are; NHWC ones and tokens (N, L, C) rearranged."""
    if features.ndim == 4:
        return features.permute(0, 3, 1, 2) if getattr(model, "output_fmt", "NCHW") == "NHWC" else features
    height, width = images.shape[-2:]
    if features.ndim == 3:
        tokens = features[:, int(getattr(model, "num_prefix_tokens", 0)) :]
        stride = (height * width / tokens.shape[1]) ** 0.5
        rows, columns = round(height / stride), round(width / stride)
        if rows * columns == tokens.shape[1]:
            return tokens.transpose(1, 2).unflatten(2, (rows, columns))
    raise RecNextError(
        f"{type(model).__name__} gives features of shape {tuple(features.shape)}: expected a map of positions"
    )
