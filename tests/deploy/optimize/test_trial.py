"""Timing by turns, outputs compared, structures flattened."""

import time

import pytest
import torch

from recnext.deploy.optimize.network import flatten, relative_error, restore
from recnext.deploy.optimize.precision import native_precisions, wanted_precisions
from recnext.deploy.optimize.trial import interleaved, timed_turns
from recnext.errors import RecNextError


def test_turns_alternate_and_medians_order_by_cost():
    calls = []

    def call(name, seconds):
        calls.append(name)
        time.sleep(seconds)

    times = interleaved({"slow": lambda: call("slow", 0.02), "fast": lambda: call("fast", 0.002)}, rounds=3, calls=1)
    assert calls == ["slow", "fast"] + 3 * ["slow", "slow", "fast", "fast"]
    assert times["fast"].median < times["slow"].median
    assert times["slow"].low <= times["slow"].median <= times["slow"].high
    assert times["slow"].rounds == 3


def test_a_call_shorter_than_the_clocks_grain_is_repeated():
    calls, times = [], {"fast": []}
    turns = timed_turns({"fast": lambda: calls.append(1)}, times, rounds=1, seconds=9, calls=1, least=0.001)
    assert list(turns) == [0]
    assert len(calls) > 50
    assert 0 < times["fast"][0] < 1e-4


def test_the_error_is_relative_to_the_spread_and_infinite_where_nothing_compares():
    truth = torch.tensor([0.0, 2.0, -2.0])
    assert relative_error([truth + 0.02], [truth]) == pytest.approx(0.02 / truth.std().item(), rel=1e-4)
    assert relative_error([truth + 100], [truth + 100]) == 0
    assert relative_error([truth, truth + 1.0], [truth, truth]) > 0.4
    for wrong in ([truth[:2]], [], [truth * float("nan")]):
        assert relative_error(wrong, [truth]) == float("inf")


@pytest.mark.parametrize("outputs", [torch.ones(2), [torch.ones(2), torch.zeros(3)], (torch.ones(1),)])
def test_structures_come_back(outputs):
    built = restore(flatten(outputs), type(outputs))
    assert type(built) is type(outputs)
    assert len(built) == len(outputs)


@pytest.mark.parametrize("outputs", [{"a": torch.ones(1)}, [], None, [[torch.ones(1)]]])
def test_other_outputs_are_refused(outputs):
    with pytest.raises(RecNextError, match="expected a tensor"):
        flatten(outputs)


def test_bf16_is_tried_only_where_the_processor_has_it(monkeypatch):
    cpu = torch.device("cpu")
    for amx, avx, expected in (
        (False, False, ("fp32",)),
        (True, False, ("bf16", "fp32")),
        (False, True, ("bf16", "fp32")),
    ):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx, raising=False)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda avx=avx: avx, raising=False)
        assert native_precisions(cpu) == expected
        assert wanted_precisions("auto", cpu) == expected
    assert wanted_precisions("fp16", cpu) == ("fp16",)
    with pytest.raises(RecNextError, match="precision 'int4'"):
        wanted_precisions("int4", cpu)
