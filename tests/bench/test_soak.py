"""What the soak makes of its samples."""

import os
import random
import subprocess
import sys

import pytest

from bench.processor import family, memory_mb, opened
from bench.soak import Run, by_minute, growth, summary


def test_growth_is_found_under_noise_and_its_error_says_how_sure_it_is():
    chance = random.Random(5)
    for grown in (0.0, 5.0, -3.0, 400.0):
        samples = [(float(at), 170 + grown * at / 3600 + chance.gauss(0, 2)) for at in range(0, 3600, 5)]
        slope, error = growth(samples)
        assert abs(slope - grown) <= 4 * error
        assert 0.1 < error < 1.0


def test_samples_of_a_minute_count_as_one():
    samples = [(float(at), 100.0 + at // 60 + (at % 60) / 5) for at in range(600, 1200, 5)]
    lows, means, highs = by_minute(samples)
    assert lows == [(60.0 * minute, 100.0 + minute) for minute in range(10, 20)]
    assert means == [(at, mb + 5.5) for at, mb in lows]
    assert highs == [(at, mb + 11.0) for at, mb in lows]
    assert growth(lows)[0] == pytest.approx(60)


def test_only_what_comes_after_the_warm_up_counts():
    run = Run()
    run.files = run.threads = [1]
    for at in range(0, 3600, 5):
        warming = at < 900
        run.memory.append((at, at / 10 if warming else 90.0))
        run.first.append((at, 1.0 if warming else 0.1 if at < 2700 else 0.12))
    run.server = run.memory
    found = summary(run, 60, 20)
    assert found["memory_slope_mb_per_hour"] == pytest.approx(0, abs=1e-6)
    assert found["p99_drift"] == pytest.approx(0.2)


def test_a_process_is_measured_with_those_under_it():
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'], stdin=0)"
    child = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE)
    try:
        while len(family(child.pid)) < 2:
            assert child.poll() is None
        assert family(child.pid)[0] == child.pid
        assert memory_mb(child.pid) > 1
        assert opened(child.pid)[1] == 1
    finally:
        child.communicate(b"\n")
    assert memory_mb(child.pid) == 0.0
    assert child.pid not in family(os.getpid())
