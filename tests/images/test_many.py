"""Work on many images: in order, in parallel, and shown only on a terminal."""

import threading

import pytest

from ranet.images import many
from ranet.images.many import for_each


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 500])
def test_results_come_in_order(count: int) -> None:
    assert list(for_each(lambda i: i * i, range(count), "Squares")) == [i * i for i in range(count)]


def test_several_threads_work_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "available_cores", lambda: 3)
    monkeypatch.setattr(many, "_CHUNK", 1)
    meeting = threading.Barrier(3, timeout=60)  # which opens only when three are there
    assert list(for_each(lambda _: meeting.wait() >= 0, range(3), "Meeting")) == [True] * 3


def test_an_error_comes_out_and_ends_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "available_cores", lambda: 1)
    done = []

    def work(i: int) -> None:
        done.append(i)
        if i == 40:
            raise ValueError("the fortieth")

    with pytest.raises(ValueError, match="the fortieth"):
        list(for_each(work, range(10_000), "Work"))
    assert len(done) < 1000


def test_nothing_is_printed_through_a_pipe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(many, "_UNSEEN", -1.0)
    list(for_each(str, range(100), "Reading images"))
    assert capsys.readouterr() == ("", "")


def test_a_bar_on_a_terminal_once_it_takes_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes standard error for a terminal
    monkeypatch.setenv("TERM", "xterm")
    list(for_each(str, range(100), "Reading images"))
    assert "Reading images" not in capsys.readouterr().err
    monkeypatch.setattr(many, "_UNSEEN", -1.0)
    with monkeypatch.context() as second:
        second.setenv("RANK", "1")  # of a distributed run, whose first process shows it
        list(for_each(str, range(100), "Reading images"))
    assert "Reading images" not in capsys.readouterr().err
    list(for_each(str, range(100), "Reading images"))
    out, err = capsys.readouterr()
    assert "Reading images" in err
    assert not out
