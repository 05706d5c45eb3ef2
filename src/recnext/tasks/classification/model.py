"""The network of a classification run."""

from torch import nn

from recnext.checkpoints import load

from .settings import TrainSettings

# Rates of stochastic depth of the published runs (paper, training on ImageNet); distilled runs had none.
_DROP_PATH = {
    "recnext_m4": 0.2,
    "recnext_m5": 0.3,
    "recnext_a4": 0.2,
    "recnext_a5": 0.3,
    "recnext_s": 0.1,
    "recnext_b": 0.2,
    "recnext_s_share_channel": 0.1,
    "recnext_b_share_channel": 0.2,
}


def build(settings: TrainSettings, *, num_classes: int, weights: bool) -> nn.Module:
    """The network of a run; its starting weights are not needed when a state follows.

    Args:
        settings: of the run; a checkpoint goes before published weights.
        num_classes: of the data.
        weights: load those to start from.

    Raises:
        RecNextError: there is no such network, the weights are none, or they do not fit.
    """
    checkpoint = settings.checkpoint if weights else None
    return load(
        settings.model,
        checkpoint=checkpoint,
        pretrained=settings.pretrained and weights and checkpoint is None,
        num_classes=num_classes,
        fused=False,
        **{**settings.model_args, **drop_path_args(settings)},
    )


def drop_path_args(settings: TrainSettings) -> dict[str, float]:
    """The constructor argument for stochastic depth, empty where the network's own rate is kept."""
    rate = settings.drop_path
    if rate == "published":
        if settings.network.startswith("mlla_"):
            return {}  # in their configurations
        rate = 0.0 if settings.teacher else _DROP_PATH.get(settings.network, 0.0)
    return {} if rate is None else {"drop_path_rate": float(rate)}
