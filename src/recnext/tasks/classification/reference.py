"""What was published for a network on a test set."""

from recnext.checkpoints.published import published

_KEYS = {
    "imagenet-c": "imagenet_c_mce",
    "imagenet-a": "imagenet_a",
    "imagenet-r": "imagenet_r",
    "imagenet-sketch": "imagenet_sketch",
}


def published_results(network: str, test_set: str) -> dict[str, float]:
    """Published numbers by what they are of, in per cent; empty where there are none.

    Args:
        network: timm name, with or without a tag; a tag that starts with "base" or "dist" keeps that one of the two.
        test_set: "imagenet", or one of the robustness sets.
    """
    name, _, tag = network.partition(".")
    if test_set in _KEYS:
        found = published()["robustness"].get(name, {}).get(_KEYS[test_set])
        return {} if found is None else {"mCE" if test_set == "imagenet-c" else "top-1": found}
    if test_set != "imagenet":
        return {}
    known = published()["classification"].get(name, {})
    kinds = {"dist": ("distilled", known.get("top1_distilled")), "base": ("base", known.get("top1_base"))}
    chosen = [kinds[tag[:4]]] if tag[:4] in kinds else list(kinds.values())
    return {f"top-1 {kind}": value for kind, value in chosen if value is not None}
