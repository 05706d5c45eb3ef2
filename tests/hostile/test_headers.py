"""Whatever stands in a checkpoint: it loads, or one line says what is wrong. Seeded, a few seconds."""

import json
import random
import zipfile

import pytest
import safetensors.torch
import timm
import torch

import recnext
from recnext.checkpoints.metadata import CheckpointMetadata
from recnext.errors import RecNextError

STATE = timm.create_model("test_recnext_m", num_classes=2).state_dict()
HEADER = CheckpointMetadata(model="test_recnext_m", num_classes=2, model_args={"drop_path_rate": 0.1}).to_header()
FIRST = "stem.stem.0.conv.weight"


def value(random_: random.Random, depth: int = 0):
    """Any JSON, with what tends to break programs."""
    plain = [
        None,
        True,
        "",
        "x",
        "\x00",
        "\u2028",
        -1,
        0,
        1,
        2**31,
        2**63,
        10**40,
        1e308,
        float("nan"),
        float("inf"),
        0.5,
    ]
    kind = random_.randrange(6 if depth < 3 else 4)
    if kind == 4:
        return [value(random_, depth + 1) for _ in range(random_.randrange(5))]
    if kind == 5:
        names = ["depths", "embed_dim", "mlp_ratio", "drop_path_rate", "task", "url", "x"]
        return {random_.choice(names): value(random_, depth + 1) for _ in range(random_.randrange(4))}
    return random_.choice(plain)


def loads_or_says(path) -> None:
    said = ""
    try:
        recnext.load(checkpoint=path)
    except RecNextError as error:
        said = str(error)
    assert "\n" not in said
    assert len(said) < 1500


@pytest.mark.parametrize("seed", range(4))
def test_headers(seed, tmp_path):
    random_ = random.Random(seed)
    for number in range(100):
        keys = random_.sample(sorted(CheckpointMetadata.__dataclass_fields__), 2)
        header = HEADER | {f"recnext.{key}": json.dumps(value(random_)) for key in keys}
        try:
            CheckpointMetadata.from_header(header)
        except RecNextError:
            continue
        if number % 4 == 0:
            safetensors.torch.save_file(STATE, tmp_path / "x.safetensors", header)
            loads_or_says(tmp_path / "x.safetensors")


@pytest.mark.parametrize("seed", range(2))
def test_configs_of_the_hub(seed, tmp_path):
    random_ = random.Random(seed)
    safetensors.torch.save_file(STATE, tmp_path / "model.safetensors")
    keys = ["architecture", "num_classes", "model_args", "pretrained_cfg", "label_names"]
    inner = ["input_size", "mean", "std", "crop_pct", "interpolation", "num_classes"]
    for _ in range(20):
        config = {"architecture": "test_recnext_m", "pretrained_cfg": {random_.choice(inner): value(random_)}}
        config[random_.choice(keys)] = value(random_)
        (tmp_path / "config.json").write_text(json.dumps(config))
        loads_or_says(tmp_path)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 900, "9" * 10_000, "-", "1e999", '"\\ud800"'])
@pytest.mark.parametrize("key", ["model_args", "class_names", "mean", "epoch"])
def test_header_text_that_json_cannot_hold(key, text):
    with pytest.raises(RecNextError, match=f"recnext.{key}"):
        CheckpointMetadata.from_header(HEADER | {f"recnext.{key}": text})


@pytest.mark.parametrize(
    "arguments",
    [{"depths": [1, 1, 10**9, 1]}, {"depths": [60_000] * 4}, {"embed_dim": [60_000] * 4}, {"mlp_ratio": 60_000}],
)
def test_arguments_that_ask_for_all_memory(arguments, tmp_path):
    safetensors.torch.save_file(
        STATE, tmp_path / "x.safetensors", HEADER | {"recnext.model_args": json.dumps(arguments)}
    )
    with pytest.raises(RecNextError, match=r"numbers to|larger network than its tensors"):
        recnext.load(checkpoint=tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    "odd",
    [
        {FIRST: torch.zeros(())},
        {FIRST: torch.full_like(STATE[FIRST], float("nan"))},
        {FIRST: STATE[FIRST].to(torch.complex64)},
        {FIRST: STATE[FIRST].to(torch.int8)},
        {FIRST: STATE[FIRST].to_sparse()},
        {FIRST: STATE[FIRST].to("meta")},
        {"stages.1000000000.blocks.0.weight": torch.ones(1)},
        {"stages.\u00b2.blocks.\u0663.weight": torch.ones(1)},
        {f"stages.{'9' * 5000}.blocks.0.weight": torch.ones(1)},
        {"head.head.linear.weight": torch.ones(2)},
    ],
)
def test_tensors(odd, tmp_path):
    torch.save({**STATE, **odd}, tmp_path / "x.pth")
    for name in (None, "test_recnext_m"):
        with pytest.raises(RecNextError) as caught:
            recnext.load(name, checkpoint=tmp_path / "x.pth")
        assert "\n" not in str(caught.value)


def test_a_mapping_in_itself(tmp_path):
    content: dict = {}
    content["model"] = content
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(RecNextError, match="not a state dict"):
        recnext.load(checkpoint=tmp_path / "x.pth")


@pytest.mark.parametrize("kind", ["pickle", "torchscript"])
def test_archives_that_inflate(kind, tmp_path):
    torch.save({"w": torch.zeros(100)}, tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "x.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, bytes(10**7) if name.endswith("data/0") else plain.read(name))
        if kind == "torchscript":
            packed.writestr("plain/constants.pkl", b"")
    with pytest.raises(RecNextError, match="is larger than the file once it is unpacked"):
        recnext.load(checkpoint=tmp_path / "x.pth")
