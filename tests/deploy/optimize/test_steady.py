"""Turns measured on a disturbed machine are taken again; the machine here is a list of speeds."""

import itertools

import pytest

from recnext.deploy.optimize import steady as module
from recnext.deploy.optimize.steady import Steady
from recnext.deploy.optimize.trial import timed_turns


@pytest.fixture
def speeds(monkeypatch):
    """What the product of matrices will run at, in turn; the last goes on for ever."""
    given = [100.0]

    def speed(self):
        return given.pop(0) if len(given) > 1 else given[0]

    monkeypatch.setattr(Steady, "_speed", speed)
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    return given


def test_the_real_machine_has_a_speed():
    steady = Steady()
    assert steady.best > 0
    assert f"{steady.best:.0f} GFLOP/s" in steady.describe()


def test_waits_until_the_speed_is_back(speeds):
    steady = Steady()
    speeds[:] = [50.0, 60.0, 70.0, 90.0]
    steady.wait()
    assert steady.waited == 0.75
    assert speeds == [90.0]


def test_waiting_ends_with_patience(speeds):
    steady = Steady(patience=2.0)
    speeds[:] = [10.0]
    steady.wait()
    assert steady.waited == 2.0
    steady.wait()
    assert steady.waited == 2.0


def test_a_disturbed_turn_is_taken_again_and_leaves_no_times(speeds):
    steady = Steady()
    #             before, behind: the second turn is disturbed
    speeds[:] = [100.0, 100.0, 100.0, 40.0, 100.0, 100.0, 100.0]
    counter = itertools.count()
    times = {"a": []}
    turns = list(timed_turns({"a": lambda: next(counter)}, times, rounds=3, seconds=9, calls=1, steady=steady))
    assert turns == [0, 1, 2]
    assert len(times["a"]) == 3
    assert steady.discarded == 1
    assert next(counter) == 1 + 2 * 4  # the warm-up, and two calls in each of four turns


def test_a_machine_that_stays_disturbed_is_measured_all_the_same(speeds):
    steady = Steady(patience=0.5)
    speeds[:] = [10.0]
    times = {"a": []}
    list(timed_turns({"a": lambda: None}, times, rounds=4, seconds=9, calls=1, steady=steady))
    assert len(times["a"]) == 4
    assert steady.discarded == 4
