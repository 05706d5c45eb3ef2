"""Effective receptive fields against convolutions whose field is known, and areas on maps made for it."""

import math

import pytest
import timm
import torch
from torch import Tensor, nn

from recnext.errors import RecNextError
from recnext.nn.stage_map import stage_map
from recnext.study.analysis.erf import (
    centre_of_mass,
    contribution_areas,
    contribution_curve,
    effective_receptive_field,
    settle_norms,
)


class Convolutions(nn.Module):
    """Positive 3x3 kernels of one channel in float64, so that no path cancels and no ReLU cuts."""

    def __init__(self, kernels: list[Tensor], stride: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(1, 1, kernel.shape[-1], stride, kernel.shape[-1] // 2, bias=False) for kernel in kernels)
        ).double()
        with torch.no_grad():
            for layer, kernel in zip(self.layers, kernels, strict=True):
                layer.weight.copy_(kernel[None, None])

    def forward_features(self, x: Tensor) -> Tensor:
        return self.layers(x)


def ones(*shape: int) -> Tensor:
    return torch.ones(*shape, dtype=torch.double)


def test_one_convolution_gives_its_kernel() -> None:
    kernel = torch.arange(1.0, 10.0, dtype=torch.double).reshape(3, 3)
    field = effective_receptive_field(Convolutions([kernel]), [ones(2, 1, 9, 9)])
    expected = torch.zeros(9, 9, dtype=torch.double)
    expected[3:6, 3:6] = kernel
    torch.testing.assert_close(field, expected)


def test_stacked_convolutions_give_the_convolution_of_their_kernels() -> None:
    """Ten binomial kernels [1 2 1] make the binomial coefficients of 20, by Pascal's rule, in both directions."""
    row = torch.tensor([1.0, 2.0, 1.0], dtype=torch.double)
    field = effective_receptive_field(Convolutions([row[:, None] * row] * 10), [ones(1, 1, 31, 31)])
    binomial = torch.tensor([math.comb(20, i) for i in range(21)], dtype=torch.double)
    expected = torch.zeros(31, 31, dtype=torch.double)
    expected[5:26, 5:26] = binomial[:, None] * binomial
    torch.testing.assert_close(field, expected)


def test_a_stride_moves_the_field_to_the_pixel_the_centre_stands_on() -> None:
    field = effective_receptive_field(Convolutions([ones(3, 3)] * 2, stride=2), [ones(1, 1, 32, 32)])
    # 8x8 positions of stride 4: position 4 stands on pixel 16, and sees 3 + 2 * 2 = 7 pixels about it
    assert field.nonzero().min(0).values.tolist() == [13, 13]
    assert field.nonzero().max(0).values.tolist() == [19, 19]
    assert centre_of_mass(field) == pytest.approx((16, 16))


def test_negative_gradients_and_silent_centres_do_not_count() -> None:
    kernel = torch.tensor([[0, 0, 0], [-1.0, 3, 0], [0, 0, 0]], dtype=torch.double)
    field = effective_receptive_field(Convolutions([kernel]), [ones(1, 1, 5, 5)])
    assert field.nonzero().tolist() == [[2, 2]]
    # of two images, the one whose centre is below zero adds nothing to the average
    halved = effective_receptive_field(Convolutions([kernel]), [torch.stack([ones(1, 5, 5), -ones(1, 5, 5)])])
    torch.testing.assert_close(halved, field / 2)
    with pytest.raises(RecNextError, match="does not answer"):
        effective_receptive_field(Convolutions([kernel]), [-ones(1, 1, 5, 5)])


def test_batches_and_single_images_give_the_same_average() -> None:
    torch.manual_seed(0)
    model, images = timm.create_model("test_recnext_m", num_classes=0), torch.randn(3, 3, 64, 64)
    settle_norms(model, [images])
    done: list[int] = []
    one = effective_receptive_field(model, [images], on_batch=done.append)
    single = effective_receptive_field(model, images.split(1), on_batch=done.append)
    torch.testing.assert_close(one, single, rtol=1e-4, atol=1e-4 * float(one.max()))
    assert done == [3, 1, 1, 1]
    assert one.shape == (64, 64)
    assert (one >= 0).all()


def test_settled_norms_hold_the_statistics_of_the_images() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, momentum=0.3))
    images = 5 + 2 * torch.randn(6, 3, 8, 8)
    settle_norms(model, images.split(3))
    norm = model[1]
    with torch.no_grad():
        halves = [model[0](half) for half in images.split(3)]
    torch.testing.assert_close(norm.running_mean, torch.stack([half.mean((0, 2, 3)) for half in halves]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([half.var((0, 2, 3)) for half in halves]).mean(0))
    assert not norm.training
    assert norm.momentum == 0.3


def test_one_image_settles_all_but_the_classifier() -> None:
    model = timm.create_model("test_recnext_l")
    settle_norms(model, [torch.randn(1, 3, 128, 128)])
    assert model.stem.stem[0].norm.num_batches_tracked == 1
    assert model.head.head.norm.num_batches_tracked == 0
    with pytest.raises(RecNextError, match=r"cannot take these images .*more images at once"):
        settle_norms(model, [torch.randn(1, 3, 64, 64)])  # a last map of one position
    assert not any(norm.training for norm in model.modules())
    assert model.stem.stem[0].norm.momentum == 0.1


@pytest.mark.parametrize(
    ("name", "stage", "shape"),
    [
        ("test_recnext_a", 1, (32, 8, 8)),
        ("test_recnext_l", 2, (48, 2, 2)),
        ("test_convnext", -1, (64, 2, 2)),
        ("test_vit", -1, (64, 4, 4)),  # 16 patches and a class token
        ("test_mambaout", -1, (64, 2, 2)),  # channels last inside
        ("test_resnet", -2, (192, 4, 4)),
    ],
)
def test_maps_of_any_timm_network(name, stage, shape) -> None:
    model = timm.create_model(name, num_classes=0).eval()
    if hasattr(model, "set_input_size"):
        model.set_input_size(img_size=64)
    with torch.no_grad():
        assert stage_map(model, torch.randn(1, 3, 64, 64), stage=stage).shape == (1, *shape)


class Plain(nn.Module):
    """A network that knows only ``forward_features``."""

    def __init__(self, features: Tensor, **attributes: object) -> None:
        super().__init__()
        self.features = features
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward_features(self, x: Tensor) -> Tensor:
        return self.features


def test_features_without_the_usual_layout() -> None:
    images = torch.zeros(1, 3, 32, 64)
    nhwc = torch.randn(1, 2, 4, 7)
    torch.testing.assert_close(stage_map(Plain(nhwc, output_fmt="NHWC"), images), nhwc.permute(0, 3, 1, 2))
    tokens = torch.randn(1, 9, 7)  # a class token and 2 x 4 patches
    laid_out = stage_map(Plain(tokens, num_prefix_tokens=1), images)
    torch.testing.assert_close(laid_out[0, :, 1, 2], tokens[0, 1 + 4 + 2])
    for features in (torch.randn(1, 7), torch.randn(1, 11, 7)):
        with pytest.raises(RecNextError, match="expected a map of positions"):
            stage_map(Plain(features), images)
    with pytest.raises(RecNextError, match="shows no maps of its stages"):
        stage_map(Plain(nhwc), images, stage=1)
    with pytest.raises(RecNextError, match="the network has 4 stages"):
        stage_map(timm.create_model("test_recnext_m"), images, stage=9)


def test_areas_of_a_gaussian_are_those_of_the_error_function() -> None:
    """A separable Gaussian holds erf(r / (sigma sqrt 2))² within a square of radius r."""
    sigma, middle = 20.0, 150
    places = torch.arange(301, dtype=torch.double) - middle
    row = torch.exp(-(places**2) / (2 * sigma**2))
    weights = row[:, None] * row
    for found in contribution_areas(weights):
        within = math.erf(found.side / 2 / (sigma * math.sqrt(2))) ** 2
        smaller = math.erf((found.side - 2) / 2 / (sigma * math.sqrt(2))) ** 2
        assert smaller < found.share <= within + 1e-4
        assert found.area == pytest.approx(found.side**2 / 301**2)
    assert [found.side for found in contribution_areas(weights)] == [25, 31, 43, 113]


def test_areas_of_an_even_map_are_shares_of_the_image() -> None:
    """All pixels alike: a square holds its part of the image; it is cut where the image ends."""
    weights = torch.ones(8, 8)
    found = contribution_areas(weights, (1 / 64, 9 / 64, 0.5, 1.0))
    assert [one.side for one in found] == [1, 3, 7, 9]  # from pixel (4, 4): seven hold 49, nine are cut to 64
    assert [one.area * 64 for one in found] == [1, 9, 49, 64]
    cornered = contribution_areas(weights, (0.25,), centre=(0, 0))
    assert (cornered[0].side, cornered[0].area) == (7, 0.25)
    curve = contribution_curve(weights)
    assert (curve * 64).tolist() == [1, 9, 25, 49, 64]


def test_centre_of_mass_is_where_the_weight_lies() -> None:
    weights = torch.zeros(6, 10)
    weights[1, 2], weights[5, 2] = 3, 1
    assert centre_of_mass(weights) == (2, 2)


def test_no_images_are_refused() -> None:
    with pytest.raises(RecNextError, match="at least one image"):
        effective_receptive_field(timm.create_model("test_recnext_m"), [])
