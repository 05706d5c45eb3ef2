"""Nearest resizing as phone formats compute it rightly: by integer factors."""

from collections.abc import Iterable
from typing import Any, Optional

import torch.nn.functional as F
from torch.overrides import TorchFunctionMode


class IntegerFactors(TorchFunctionMode):
    """While active, nearest resizing from ceil(n / 2) to an odd n is written as doubling, then a crop.

    The two are equal bit by bit. Formats that know a scale but no size round a factor such as 7/4 their own way:
    LiteRT picks other neighbours, Core ML does not say which it picks. Even sizes stay one operation.
    """

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Optional[dict[str, Any]] = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.interpolate and kwargs.get("mode") == "nearest" and kwargs.get("size") is not None:
            height, width = args[0].shape[-2:]
            wanted = tuple(kwargs["size"])
            halves = tuple((side + 1) // 2 for side in wanted)
            if halves == (height, width) and wanted != (2 * height, 2 * width):
                doubled = func(args[0], size=(2 * height, 2 * width), mode="nearest")
                return doubled[..., : wanted[0], : wanted[1]]
        return func(*args, **kwargs)
