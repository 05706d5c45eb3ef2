"""What is measured: the plain form, peers, batches, fronts, memory."""

import runpy
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from recnext.study.speed.machine import describe_machine, one_line
from recnext.study.speed.peers import OURS, PEERS, accuracy_of
from recnext.study.speed.protocol import QUICK, best_batch, largest_batch
from recnext.study.speed.resolution import costs, mixers, peak_memory

plain_fusion = runpy.run_path(str(Path(__file__).parents[3] / "benchmarks" / "plain_form.py"))["plain_fusion"]


# Fused parameters as published (the paper's code counts them so).
@pytest.mark.parametrize(("name", "parameters"), [("recnext_m0", 2502400), ("recnext_a0", 2775200)])
def test_the_plain_form_has_the_published_parameters(name, parameters):
    model = timm.create_model(name).eval()
    plain = plain_fusion(model)
    assert sum(parameter.numel() for parameter in plain.parameters()) == parameters
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(plain(x), model(x), rtol=1e-4, atol=1e-4)


def test_the_plain_form_of_the_l_series_and_of_peers():
    for name in ("test_recnext_l", "repvit_m0_9"):
        model = timm.create_model(name).eval()
        plain = plain_fusion(model)
        assert sum(p.numel() for p in plain.parameters()) < sum(p.numel() for p in model.parameters())
        x = torch.randn(1, 3, 64, 64)
        with torch.no_grad():
            torch.testing.assert_close(plain(x), model(x), rtol=1e-3, atol=1e-4)


def test_every_default_network_exists_and_has_an_accuracy():
    for name in (*OURS, *PEERS):
        assert timm.is_model(name)
        assert 70 < accuracy_of(name).top1 < 85
    assert accuracy_of("recnext_m3").top1 == 80.9
    assert accuracy_of("vit_tiny_patch16_224") is None


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 64, 100, 1000])
def test_the_largest_batch_is_found_within_an_eighth(limit):
    tried = []

    def fits(batch):
        tried.append(batch)
        if batch > limit:
            raise torch.OutOfMemoryError
        return True

    found = largest_batch(fits, limit=512)
    assert min(limit, 512) * 0.85 - 1 <= found <= min(limit, 512)
    assert len(tried) < 20


def test_the_batch_sweep_ends_and_gives_a_rate():
    batch, rate = best_batch(nn.AvgPool2d(2), size=8, device=torch.device("cpu"), budget=QUICK)
    assert 1 <= batch <= QUICK.largest_batch
    assert rate > 0


def test_peak_memory_counts_what_lives_at_once():
    x = torch.ones(1, 1, 10, 10)

    def call():
        y = x + 1  # 400 bytes
        z = y * 2  # 400 more
        del y
        w = z + 1  # still 800
        return w.view(-1)  # a view is nothing

    with torch.inference_mode():
        assert peak_memory(call, x.device) == 800


def test_costs_of_every_mixer_and_softmax_attention_stops():
    small, large = costs((64, 512), device=torch.device("cpu"), rounds=3, seconds=0.0)
    assert [row.mixer for row in small] == list(mixers())
    assert {row.mixer for row in small} - {row.mixer for row in large} == {"softmax attention"}
    recconv = {row.mixer: row for row in large}["RecConv 5x5, level 4"]
    assert recconv.pixels == 128 * 128
    assert recconv.nanoseconds_per_pixel == pytest.approx(1e6 * recconv.milliseconds / recconv.pixels)
    assert recconv.bytes_per_pixel >= 4 * 48  # at least the output


def test_the_machine_is_described():
    machine = describe_machine(torch.device("cpu"), 2)
    assert machine["threads"] == 2
    assert machine["versions"]["torch"].startswith(torch.__version__.partition("+")[0])
    assert f"torch {machine['versions']['torch']}" in one_line(machine)
