"""What holds for the three formats for phones, beside the contract of every target."""

import os
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from deploy.export.contract import ODD, ExportContract, exported
from recnext.deploy.export import target

FAMILIES = ("recnext_m1", "recnext_a1", "recnext_t", "recnext_t_share_channel")
full_depth = pytest.mark.skipif("RECNEXT_FULL_EXPORTS" not in os.environ, reason="minutes a network: make test-export")


class PhoneContract(ExportContract):
    """Tests of one target for phones."""

    maps: ClassVar[str] = "test_recnext_m"
    """The network whose four maps are exported."""
    pixels: ClassVar[tuple[str, tuple[int, ...]]] = ("uint8", (1, *ODD, 3))
    """Type and shape of an input of pixels."""
    pixels_tolerance: ClassVar[float] = 1e-4

    def test_four_maps_of_a_batch_in_float16(self, tmp_path: Path) -> None:
        made = exported(target(self.name), tmp_path, self.maps, features=True, batch=3, precision="fp16")
        (row,) = made.comparisons
        assert row.shape == (3, 3, *ODD)
        assert 1e-6 < row.relative < 5e-3  # float16 shows, and does no harm
        assert len(made.contents.outputs) == 4
        assert target(self.name).header(made.path)["recnext.precision"] == "fp16"

    def test_pixels_in_probabilities_out(self, tmp_path: Path) -> None:
        made = exported(target(self.name), tmp_path, preprocess=True)
        assert made.comparisons[0].relative < self.pixels_tolerance
        (given,) = made.contents.inputs
        assert (given.dtype, given.shape) == self.pixels
        probabilities = target(self.name).load(made.path, threads=1)(np.full((1, *ODD, 3), 7, np.uint8))[0]
        assert probabilities.sum() == pytest.approx(1, abs=1e-5)

    @full_depth
    @pytest.mark.slow
    @pytest.mark.parametrize("name", FAMILIES)
    @pytest.mark.parametrize(("precision", "limit"), [("fp32", 1e-5), ("fp16", 5e-3)])
    def test_full_depth(self, name: str, precision: str, limit: float, tmp_path: Path) -> None:
        """One network of each family, as it is published but for its five classes."""
        made = exported(target(self.name), tmp_path, name, size=(224, 224), precision=precision)
        assert made.problem == ""
        assert made.norms == 0
        assert made.path.exists()
        assert made.comparisons[0].relative < limit
