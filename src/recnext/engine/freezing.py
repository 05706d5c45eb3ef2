"""Head first: in the first epochs the backbone keeps its weights, and the statistics of its norms."""

from typing import Optional

from torch import nn


def set_mode(model: nn.Module, *, head: Optional[nn.Module], frozen: bool) -> bool:
    """Training mode, of the head alone while the rest is frozen.

    Args:
        model: the network itself, not wrapped.
        head: a part of it; None leaves it to the model which of its parameters learn.
        frozen: whether the rest is.

    Returns:
        Whether the set of parameters that learn has changed, so that a wrapper has to be made again.
    """
    if head is None:
        assert not frozen
        model.train()
        return False
    before = [parameter.requires_grad for parameter in model.parameters()]
    model.train(not frozen).requires_grad_(not frozen)
    head.train().requires_grad_(True)
    return before != [parameter.requires_grad for parameter in model.parameters()]
