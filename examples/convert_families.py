"""RecConv in nine families of timm networks: what it replaces and what that costs.

python examples/convert_families.py
python examples/convert_families.py --model convnext_tiny --fit
"""

import argparse

import timm
from rich.console import Console
from rich.progress import track
from rich.table import Table

from recnext import convert_large_kernels

MODELS = (
    "convnext_tiny",
    "inception_next_tiny",
    "convformer_s18",
    "mambaout_tiny",
    "fastvit_t12",
    "edgenext_small",
    "convmixer_768_32",
    "rdnet_tiny",
    "starnet_s3",
)


def main(
    models: tuple[str, ...] = MODELS, *, kernel_size: int = 5, pretrained: bool = False, fit: bool = False
) -> None:
    """Converts each network and prints a table; `fit` approximates the kernels it has."""
    table = Table(title=f"large depthwise convolutions as RecConv {kernel_size}x{kernel_size}")
    for column in ("network", "replaced", "left", "kernels (stride) > level", "M parameters", "G MACs"):
        table.add_column(column, justify="left" if column in ("network", "kernels (stride) > level") else "right")
    if fit:
        table.add_column("error", justify="right")
    for name in track(models, "converting", transient=True):
        network = timm.create_model(name, pretrained=pretrained)
        initialize = "least_squares" if fit else "default"
        _, report = convert_large_kernels(network, kernel_size=kernel_size, initialize=initialize)
        kinds = sorted({(r.kernel, r.stride, r.level) for r in report.replaced})
        cells = [
            name,
            str(len(report.replaced)),
            str(len(report.skipped)),
            ", ".join(f"{h}x{w} ({stride}) > {level}" for (h, w), stride, level in kinds),
            "{:.2f} > {:.2f}".format(*(n / 1e6 for n in report.parameters)),
            "-" if report.macs is None else "{:.3f} > {:.3f}".format(*(n / 1e9 for n in report.macs)),
        ]
        if fit:
            errors = [r.error for r in report.replaced if r.error is not None]
            cells.append(f"{min(errors):.2f}-{max(errors):.2f}" if errors else "-")
        table.add_row(*cells)
    Console().print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", help="networks to convert instead, by timm's names")
    parser.add_argument("--kernel-size", type=int, default=5)
    parser.add_argument("--pretrained", action="store_true", help="load timm's weights, to fit trained kernels")
    parser.add_argument("--fit", action="store_true", help="fit RecConv to the kernels and show the errors")
    args = parser.parse_args()
    main(tuple(args.model or MODELS), kernel_size=args.kernel_size, pretrained=args.pretrained, fit=args.fit)
