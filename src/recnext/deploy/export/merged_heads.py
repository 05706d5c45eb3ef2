"""Linear attention as LiteRT converts it rightly: as products of three dimensions."""

from torch import Tensor, nn

from recnext.nn.mixers import LinearAttention


class MergedHeads(nn.Module):
    """A `LinearAttention` whose heads are merged with the batch before the products: the same products.

    litert-torch 0.10 fails on one head where keys are multiplied by values first: "'tfl.batch_matmul' op found
    invalid output rank, expected 3 but got 4".
    """

    def __init__(self, attention: LinearAttention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.attention.qkv(x)
        mixed = self.attention.mix(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1))
        return mixed.reshape(x.shape) + self.attention.pe(x)


def merge_heads(network: nn.Module) -> nn.Module:
    """Puts `MergedHeads` around every `LinearAttention` of a network, in place, and gives the network."""
    found = [
        (parent, name, child)
        for parent in network.modules()
        for name, child in parent.named_children()
        if isinstance(child, LinearAttention)
    ]
    for parent, name, child in found:
        setattr(parent, name, MergedHeads(child))
    return network
