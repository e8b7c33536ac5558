"""What progress says where there is no terminal."""

import io
import sys
from types import SimpleNamespace

import pytest

from pyloric_db.cli import console


@pytest.fixture
def said_at(monkeypatch, capsys):
    """Reports circuits done of 10,000 at a time, s; gives what was printed."""
    now = 0.0
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: now))
    report = console._lines("circuits")

    def at(seconds, done):
        nonlocal now
        now = seconds
        report(done, 10_000)
        return capsys.readouterr().err

    return at


def test_the_rate_is_that_from_the_first_finished_circuits_on(said_at):
    # a build that goes on, and takes 9 s to start
    assert said_at(9, 2_000) == "2,000 of 10,000 circuits\n"
    assert said_at(30, 2_100) == "2,100 of 10,000 circuits\n"
    assert said_at(31, 2_200) == ""
    assert said_at(36, 2_400) == "2,400 of 10,000 circuits, 50/s\n"
    assert said_at(46, 2_900) == "2,900 of 10,000 circuits, 50/s, 0:02:22 left\n"


def test_a_long_build_says_the_time_left_after_a_minute(said_at):
    said_at(9, 0)
    said_at(20, 10)
    assert said_at(70, 110) == "110 of 10,000 circuits, 2/s\n"
    assert said_at(80, 130) == "130 of 10,000 circuits, 2/s, 1:22:15 left\n"


def test_a_rate_below_one_is_no_zero(said_at):
    said_at(9, 0)
    said_at(20, 1)
    assert said_at(90, 8) == "8 of 10,000 circuits, 0.1/s, 1 day, 3:45:20 left\n"


def test_progress_that_nobody_can_read_ends_nothing(monkeypatch, capsys):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(console, "LINE_S", 0.0)
    for stream in (None, Full()):
        monkeypatch.setattr(sys, "stderr", stream)
        console._lines("circuits")(1, 2)
    assert capsys.readouterr().out == ""
