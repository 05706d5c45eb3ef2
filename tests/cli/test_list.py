import pytest

from cli.command import fails, run, run_json
from golden_fill import golden
from recnext.checkpoints.published import published
from recnext.study.costs import count_costs, published_costs

# Multiply-adds at 224x224 counted with fvcore on the published fused networks, which leaves resizing out as we do
# but counts norms and pooling; ours are a little fewer.
MODELS = golden()["models"]
NAMES = [name for name in MODELS if name.startswith("recnext_")]


def test_the_18_networks_as_json(capsys):
    rows = {row["name"]: row for row in run_json(capsys, "list")}
    assert sorted(rows) == sorted(NAMES)
    for name, row in rows.items():
        result = published()["classification"][name]
        assert row["parameters"] == MODELS[name]["params"]
        assert (row["top1_base"], row["top1_distilled"]) == (result["top1_base"], result["top1_distilled"])
        assert row["image_size"] == 224
        assert row["macs"] == pytest.approx(MODELS[name]["reference_fused_macs_224"], rel=0.02)
        assert row["macs"] < MODELS[name]["reference_fused_macs_224"]
        assert row["fused_parameters"] <= MODELS[name]["reference_fused_params"]


@pytest.mark.parametrize("name", ["recnext_m0", "recnext_a0", "recnext_t_share_channel"])
def test_kept_costs_are_the_counted_ones(name):
    assert count_costs(name) == published_costs()[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("recnext_m0", "recnext_a0")])
def test_all_kept_costs_are_the_counted_ones(name):
    assert count_costs(name) == published_costs()[name]


def test_table(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    status, out, _ = run(capsys, "list")
    assert status == 0
    line = next(line for line in out.splitlines() if "recnext_m1 " in line)
    assert line.split() == ["recnext_m1", "5.56", "5.15", "0.852", "224", "78.0", "79.2"]
    assert "…" not in out


def test_pattern_and_unpublished_networks(capsys):
    rows = run_json(capsys, "list", "--pattern", "*_a*", "--all")
    names = [row["name"] for row in rows]
    assert names == [*[f"recnext_a{i}" for i in range(6)], "test_recnext_a"]
    assert rows[-1]["top1_base"] is None
    assert rows[-1]["image_size"] == 64
    assert "no network fits 'resnet*'" in fails(capsys, "list", "--pattern", "resnet*")


def test_all_networks_with_rotary_embedding_among_them(capsys):
    rows = run_json(capsys, "list", "--all", "--pattern", "*nano*rope")
    assert [(row["name"], row["macs"] > 8e8) for row in rows] == [("mlla_nano_recattn_rope", True)]
