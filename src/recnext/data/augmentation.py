"""The settings of training augmentation: light fine-tuning by default, and the published recipe."""

import re
from dataclasses import dataclass
from typing import Literal

from recnext.errors import RecNextError

EraseMode = Literal["pixel", "color", "zero"]

_RAND_AUGMENT = re.compile(r"rand-m\d+(-(n\d+|mstd\d+(\.\d+)?|mmax\d+|inc[01]|p\d+(\.\d+)?))*")
_LARGEST = {"m": 30, "n": 15, "mstd": 100, "mmax": 100, "inc": 1, "p": 1}  # of the numbers in a policy


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What happens to training images; the defaults suit light fine-tuning, `published` the ImageNet recipe.

    Args:
        crop_scale: smallest share of the area that a random resized crop takes; 1 leaves the image whole and
            switches everything but erasing and repeats off. Up to 32 pixels the crop is instead a random shift by up
            to an eighth, with padding.
        crop_ratio: smallest and largest width over height of the crop.
        hflip: probability of a horizontal flip; 0 where left and right differ (digits, text).
        color_jitter: strength of random brightness, contrast and saturation; as published it is left out under
            RandAugment.
        auto_augment: "" for none, a RandAugment policy such as "rand-m9-mstd0.5-inc1", or "3a" for three-augment:
            one of solarise, grey and blur.
        erase_prob: probability of overwriting a rectangle of 1/50 to 1/3 of the normalised image.
        erase_mode: "pixel" fills it with normal noise, "color" with one normal colour, "zero" with zeros.
        repeats: augmented copies of an image in an epoch, which then sees 1/repeats of the images.
        fast_resize: resize crops with torch in place of Pillow: a fifth less work an image, 0.3 % of the values
            differ by a level or two of 255.

    Raises:
        RecNextError: a value outside its range, or a policy that does not exist.
    """

    crop_scale: float = 0.35
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    hflip: float = 0.5
    color_jitter: float = 0.2
    auto_augment: str = ""
    erase_prob: float = 0.0
    erase_mode: EraseMode = "pixel"
    repeats: int = 1
    fast_resize: bool = False

    def __post_init__(self) -> None:
        self._require("crop_scale", 0 < self.crop_scale <= 1, "a share above 0, at most 1")
        low, high = self.crop_ratio
        self._require("crop_ratio", 0 < low <= high, "two positive numbers, the smaller first")
        for name in ("hflip", "erase_prob"):
            self._require(name, 0 <= getattr(self, name) <= 1, "a probability from 0 to 1")
        self._require("color_jitter", 0 <= self.color_jitter < float("inf"), "a number from 0")
        known = self.auto_augment in ("", "3a") or _RAND_AUGMENT.fullmatch(self.auto_augment) is not None
        self._require("auto_augment", known, "'', '3a' or a RandAugment policy such as 'rand-m9-mstd0.5-inc1'")
        for name, value in re.findall(r"-([a-z]+)([\d.]+)", self.auto_augment):
            most = _LARGEST[name]
            self._require("auto_augment", float(value) <= most, f"{name} of at most {most}")
        self._require("erase_mode", self.erase_mode in ("pixel", "color", "zero"), "pixel, color or zero")
        self._require("repeats", self.repeats >= 1, "an integer from 1")
        self._require(
            "auto_augment",
            self.crop_scale < 1 or not self.auto_augment,
            "'' with crop_scale 1, which switches augmentation off; take a crop_scale below 1",
        )

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise RecNextError(f"{name.replace('_', '-')} is {getattr(self, name)!r}: expected {expected}")

    @classmethod
    def published(cls) -> "Augmentation":
        """The ImageNet recipe's: crop 0.08 to 1, flip, RandAugment, erasing; repeats are chosen with the run."""
        return cls(crop_scale=0.08, color_jitter=0.4, auto_augment="rand-m9-mstd0.5-inc1", erase_prob=0.25)
