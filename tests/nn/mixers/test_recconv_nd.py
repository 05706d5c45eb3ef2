"""RecConv in one and three dimensions, and causal: laws, equality with dense convolution, compilers."""

from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import recnext
from recnext import CausalRecConv1d, RecConv1d, RecConv3d
from recnext.errors import RecNextError
from recnext.nn.mixers import RecConv2d
from recnext.study.analysis.cost import count_macs
from recnext.study.analysis.receptive_field import averaging, exact_receptive_field

# every kind, with a size of input that it takes
KINDS = [
    (RecConv1d, {"mode": "linear"}, (41,)),
    (RecConv1d, {"mode": "nearest"}, (41,)),
    (CausalRecConv1d, {}, (41,)),
    (RecConv3d, {"mode": "trilinear"}, (9, 12, 11)),
    (RecConv3d, {"mode": "nearest"}, (9, 12, 11)),
]
NAMES = ["1d-linear", "1d-nearest", "1d-causal", "3d-trilinear", "3d-nearest"]
every_kind = pytest.mark.parametrize(("kind", "options", "size"), KINDS, ids=NAMES)


def dense(module: nn.Module, size: tuple[int, ...]) -> Tensor:
    """The operator of one channel as a matrix (outputs, inputs), from its response to every impulse."""
    count = torch.Size(size).numel()
    impulses = torch.eye(count, dtype=torch.float64).reshape(count, 1, *size)
    with torch.no_grad():
        return module(impulses).reshape(count, count).T


def influence(module: nn.Module, size: tuple[int, ...], at: tuple[int, ...]) -> Tensor:
    x = torch.zeros(1, 1, *size, dtype=torch.float64, requires_grad=True)
    averaging(module)(x)[(0, 0, *at)].backward()
    assert x.grad is not None
    return x.grad[0, 0]


@every_kind
@pytest.mark.parametrize("level", [0, 1, 3])
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_parameters(kind: Any, options: dict[str, str], size: tuple[int, ...], kernel_size: int, level: int) -> None:
    module = kind(6, kernel_size, level=level, **options)
    assert sum(p.numel() for p in module.parameters()) == (level + 2) * kernel_size ** len(size) * 6
    biased = kind(6, kernel_size, True, level, **options)
    assert sum(p.numel() for p in biased.parameters()) == (level + 2) * (kernel_size ** len(size) + 1) * 6
    assert [name for name, _ in module.named_children()] == ["down", "convs"]


@pytest.mark.parametrize(("kind", "axes"), [(RecConv1d, 1), (CausalRecConv1d, 1), (RecConv3d, 3)])
def test_macs_stay_below_the_bound(kind: Any, axes: int) -> None:
    plain, bound = 3**axes * 64**axes, (2**axes + 1) / (2**axes - 1)
    ratios = [count_macs(kind(1, 3, level=level), (1, 1, *[64] * axes)) / plain for level in range(6)]
    assert ratios[0] == 1
    expected = [1 + sum(2 / 2 ** (axes * i) for i in range(1, level + 1)) for level in range(6)]
    assert ratios == pytest.approx(expected)
    assert all(ratio < bound for ratio in ratios)
    assert ratios[-1] > 0.95 * bound


@pytest.mark.parametrize("mode", ["linear", "nearest"])
@pytest.mark.parametrize(("kernel_size", "level"), [(3, 0), (3, 3), (5, 2), (7, 1)])
def test_receptive_field_of_sequences(kernel_size: int, level: int, mode: str) -> None:
    extents = []
    for position in range(96, 96 + 2**level):
        module = RecConv1d(1, kernel_size, level=level, mode=mode)
        seen = influence(module, (192,), (position,)).nonzero().flatten()
        extents.append(int(seen.max() - seen.min()) + 1)
    flat = {"linear": "bilinear"}.get(mode, mode)
    assert max(extents) == exact_receptive_field(kernel_size, level=level, mode=flat)
    assert min(extents) >= kernel_size * 2**level


@pytest.mark.parametrize(("kernel_size", "level"), [(3, 0), (3, 1), (3, 2)])
def test_receptive_field_of_volumes(kernel_size: int, level: int) -> None:
    size = 32
    extents = []
    for position in range(16, 16 + 2**level):
        weights = influence(RecConv3d(1, kernel_size, level=level), (size,) * 3, (position,) * 3)
        for axis in range(3):
            others = tuple(a for a in range(3) if a != axis)
            seen = weights.sum(others).nonzero().flatten()
            extents.append(int(seen.max() - seen.min()) + 1)
    assert max(extents) == exact_receptive_field(kernel_size, level=level)
    assert min(extents) >= kernel_size * 2**level


@pytest.mark.parametrize(("kernel_size", "level"), [(3, 0), (3, 3), (5, 2)])
def test_causal_receptive_field(kernel_size: int, level: int) -> None:
    for position in range(128, 128 + 2**level):
        seen = influence(CausalRecConv1d(1, kernel_size, level=level), (192,), (position,)).nonzero().flatten()
        assert int(seen.min()) == _oldest_read(position, kernel_size - 1, level)
        assert int(seen.max()) == position
        assert position - int(seen.min()) + 1 >= kernel_size * 2**level


def _oldest_read(position: int, past: int, level: int) -> int:
    """The oldest input sample behind an output: what its own window holds, or what the level below read."""
    if level == 0:
        return position - past
    # the oldest sample in the window takes the held value of the level below, itself made by `down`
    below = _oldest_read((position - past) // 2, past, level - 1)
    return min(position - past, 2 * below - past)


@pytest.mark.parametrize("level", [0, 1, 2, 4])
def test_causal_output_ignores_the_future(level: int) -> None:
    module, x = CausalRecConv1d(2, 3, True, level).double(), torch.randn(1, 2, 45, dtype=torch.float64)
    whole = module(x)
    for stop in (1, 2, 3, 8, 17, 32, 44):
        torch.testing.assert_close(module(x[:, :, :stop]), whole[:, :, :stop], rtol=0, atol=1e-12)
        changed = torch.cat([x[:, :, :stop], torch.randn(1, 2, 45 - stop, dtype=torch.float64)], -1)
        torch.testing.assert_close(module(changed)[:, :, :stop], whole[:, :, :stop], rtol=0, atol=1e-12)
    assert not torch.allclose(module(changed)[:, :, 44:], whole[:, :, 44:])


def test_not_causal_without_the_prefix() -> None:
    matrix = dense(RecConv1d(1, 3, level=1, dtype=torch.float64), (16,))
    assert bool(matrix.triu(1).any())


@every_kind
@pytest.mark.parametrize("level", [0, 1, 2])
def test_equals_its_dense_operator(kind: Any, options: dict[str, str], size: tuple[int, ...], level: int) -> None:
    small = tuple(min(n, 21) if len(size) == 1 else min(n, 7) for n in size)
    module = kind(1, 3, level=level, dtype=torch.float64, **options)
    matrix, x = dense(module, small), torch.randn(2, 1, *small, dtype=torch.float64)
    torch.testing.assert_close(module(x).flatten(1), x.flatten(1) @ matrix.T, rtol=1e-9, atol=1e-12)
    if isinstance(module, CausalRecConv1d):
        assert not bool(matrix.triu(1).any())


@pytest.mark.parametrize(("kind", "options", "axes"), [(k, o, len(s)) for k, o, s in KINDS], ids=NAMES)
@pytest.mark.parametrize("level", [0, 1, 2])
def test_interior_is_dense_strided_convolutions(kind: Any, options: dict[str, str], axes: int, level: int) -> None:
    """One large dense kernel for every place in a cell of 2^level, from the responses of a long input."""
    if axes == 3 and level == 2:
        pytest.skip("64 kernels of 31³: the step from level 1 shows the same")
    cell, middle = 2**level, {0: 2, 1: 8, 2: 32}[level]  # as far as an output sees
    size = 2 * middle + cell
    module = kind(1, 3, level=level, dtype=torch.float64, **options)
    x = torch.zeros(1, 1, *[size] * axes, dtype=torch.float64, requires_grad=True)
    kernels = []
    for place in product(range(cell), repeat=axes):
        (kernel,) = torch.autograd.grad(module(x)[(0, 0, *[middle + p for p in place])], x)
        kernels.append(kernel[0])
    long = torch.randn(1, 1, *[size + 3 * cell] * axes, dtype=torch.float64)
    convolve = (F.conv1d, F.conv2d, F.conv3d)[axes - 1]
    phases = convolve(long, torch.stack(kernels), stride=cell)  # (1, cell^axes, ...)
    output = module(long)
    for phase, place in zip(phases[0], product(range(cell), repeat=axes), strict=True):
        index = tuple(slice(middle + p, middle + p + cell * n, cell) for p, n in zip(place, phase.shape, strict=True))
        torch.testing.assert_close(output[(0, 0, *index)], phase, rtol=1e-9, atol=1e-10)


def test_separable_kernels_factor_into_axes() -> None:
    """Kernels that are the identity along the other axes leave RecConv1d along the first."""
    line, volume = RecConv1d(1, 3, level=2, dtype=torch.float64), RecConv3d(1, 3, level=2, dtype=torch.float64)
    flat = RecConv2d(1, 3, level=2, dtype=torch.float64)
    with torch.no_grad():
        for one, two, three in zip(line.parameters(), flat.parameters(), volume.parameters(), strict=True):
            two.zero_()
            three.zero_()
            two[0, 0, :, 1] = one[0, 0]
            three[0, 0, :, 1, 1] = one[0, 0]
    x = torch.randn(1, 1, 24, dtype=torch.float64)
    expected = line(x)
    wide = volume(x[..., None, None].expand(1, 1, 24, 8, 8))
    torch.testing.assert_close(wide, expected[..., None, None].expand_as(wide))
    tall = flat(x[..., None].expand(1, 1, 24, 8))
    torch.testing.assert_close(tall, expected[..., None].expand_as(tall))


@every_kind
def test_script_export_and_compile(kind: Any, options: dict[str, str], size: tuple[int, ...]) -> None:
    module = kind(3, 3, True, 2, **options)
    x, other = torch.randn(2, 3, *size), torch.randn(3, 3, *[n + 6 for n in size])
    expected = module(other)
    torch.testing.assert_close(torch.jit.script(module)(other), expected)
    torch.testing.assert_close(torch.fx.symbolic_trace(module)(other), expected)
    dynamic = {0: torch.export.Dim.DYNAMIC} | {i + 2: torch.export.Dim.DYNAMIC for i in range(len(size))}
    program = torch.export.export(module, (x,), dynamic_shapes=[dynamic])
    torch.testing.assert_close(program.module()(other), expected)
    compiled = torch.compile(module, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), module(x))


@every_kind
def test_device_dtype_and_gradients(kind: Any, options: dict[str, str], size: tuple[int, ...]) -> None:
    assert next(kind(3, device="meta", **options).parameters()).device.type == "meta"
    low = kind(3, dtype=torch.bfloat16, **options)
    assert low(torch.randn(1, 3, *size, dtype=torch.bfloat16)).dtype == torch.bfloat16
    module = kind(2, 3, True, 2, dtype=torch.float64, **options)
    assert all(p.grad is None for p in module.parameters())
    module(torch.randn(1, 2, *size, dtype=torch.float64)).square().sum().backward()
    assert all(bool(p.grad.any()) for p in module.parameters())


@pytest.mark.parametrize("kind", [RecConv1d, CausalRecConv1d, RecConv3d])
def test_mistakes_are_named(kind: Any) -> None:
    with pytest.raises(RecNextError, match=f"{kind.__name__}: kernel_size=4 must be odd"):
        kind(8, 4)
    with pytest.raises(RecNextError, match="level=-1 must be 0 or more"):
        kind(8, level=-1)
    if kind is not CausalRecConv1d:
        with pytest.raises(RecNextError, match="mode='cubic' must be one of"):
            kind(8, mode="cubic")


def test_public_names() -> None:
    assert {"RecConv1d", "RecConv3d", "CausalRecConv1d"} <= set(recnext.__all__)
