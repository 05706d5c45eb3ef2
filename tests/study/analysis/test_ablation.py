"""The ablation joins the published rows with what is counted here."""

import shlex
from dataclasses import fields
from pathlib import Path

import pytest

from recnext.errors import RecNextError
from recnext.study.analysis.ablation import measure_ablation, training_command
from recnext.tasks.classification.settings import TrainSettings


def test_row_has_published_and_measured_numbers() -> None:
    steps = []
    listed, unlisted = measure_ablation(
        224,
        mixers=["rec_3x3_bilinear", "rec_3x3_nearest"],
        rounds=1,
        on_step=lambda *step: steps.append(step),
    )
    assert [total for _, total in steps] == [len(steps)] * 3
    assert listed.parameters == listed.published_parameters == 5303336
    assert (listed.top1, listed.throughput) == (75.48, 389)
    assert unlisted.variant == "rec_3x3_nearest"
    assert (unlisted.published_parameters, unlisted.top1, unlisted.throughput) == (None, None, None)
    assert unlisted.parameters == 5303336
    assert listed.macs == unlisted.macs == pytest.approx(0.82e9, rel=0.01)
    assert listed.seconds > 0


def test_command_uses_settings_that_exist() -> None:
    words = shlex.split(training_command("rec_7x7_nearest", image_size=384))
    start = words.index("train") + 2
    flags = dict(zip(words[start::2], words[start + 1 :: 2], strict=True))
    names = {flag.removeprefix("--").replace("-", "_") for flag in flags} - {"config"}
    assert names <= {field.name for field in fields(TrainSettings)}
    assert flags["--model-args"] == '{"token_mixer": "rec_7x7_nearest"}'
    assert (Path(__file__).parents[3] / "recipes" / f"{flags['--config']}.yaml").exists()


@pytest.mark.parametrize(
    ("image_size", "mixers", "message"),
    [
        (256, None, r"image size 256: the ablation was published at \[224, 384\]"),
        (224, [], "no token mixer given"),
        (224, ["rec_3x3"], "unknown token mixer 'rec_3x3'"),
        (224, ["rec_3x3_group"], "not 56x56"),
    ],
)
def test_refused(image_size, mixers, message) -> None:
    with pytest.raises(RecNextError, match=message):
        measure_ablation(image_size, mixers=mixers)
