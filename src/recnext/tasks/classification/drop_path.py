"""Stochastic depth of the published runs (paper, training on ImageNet); distilled runs had none."""

from .settings import TrainSettings

_PUBLISHED = {
    "recnext_m4": 0.2,
    "recnext_m5": 0.3,
    "recnext_a4": 0.2,
    "recnext_a5": 0.3,
    "recnext_s": 0.1,
    "recnext_b": 0.2,
    "recnext_s_share_channel": 0.1,
    "recnext_b_share_channel": 0.2,
}


def drop_path_args(settings: TrainSettings) -> dict[str, float]:
    """The constructor argument for the rate, empty where the network's own is kept."""
    rate = settings.drop_path
    name = settings.model.partition(".")[0]
    if rate == "published":
        if name.startswith("mlla_"):
            return {}  # in their configurations
        rate = 0.0 if settings.teacher else _PUBLISHED.get(name, 0.0)
    return {} if rate is None else {"drop_path_rate": float(rate)}
