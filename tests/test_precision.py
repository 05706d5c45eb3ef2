import pytest

from recnext.deploy.export import ExportSpec
from recnext.deploy.optimize.precision import wanted_precisions
from recnext.engine.settings import LoopSettings
from recnext.errors import RecNextError
from recnext.precision import parse_precision

SPELLINGS = {"fp32": "fp32", "f32": "fp32", "float32": "fp32", "no": "fp32", "f16": "fp16", "float16": "fp16"}


@pytest.mark.parametrize(("given", "name"), SPELLINGS.items())
def test_every_part_understands_every_spelling_and_keeps_one(given: str, name: str) -> None:
    assert parse_precision(given) == name
    assert LoopSettings(precision=given).to_dict()["precision"] == name
    assert ExportSpec(precision=given).precision == name
    assert wanted_precisions(given, "cpu") == (name,)


def test_another_word_is_one_line_with_the_choices() -> None:
    with pytest.raises(RecNextError, match=r"^precision 'fp8': expected auto, fp32, bf16, fp16$"):
        LoopSettings(precision="fp8")
