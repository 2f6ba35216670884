"""What a log shows of a long job: a rate and the time left, and neither where nothing was seen to be done."""

import pytest

from linnaea.progress import lines_in_logs, progress_bar


def test_a_log_shows_rate_and_time_left_of_what_was_seen(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter([0.0, 0.0, 20.0, 40.0])
    monkeypatch.setattr("time.monotonic", lambda: next(seconds))
    with lines_in_logs(), progress_bar("building", "images") as on_progress:
        for done in (1000, 1200, 1400):  # a thousand were done before
            on_progress(done, 2000)
    assert capsys.readouterr().err.splitlines() == [
        "building 1,200/2,000 (10.0 images/s, ETA 1:20)", "building 1,400/2,000 (10.0 images/s, ETA 1:00)"
    ]  # fmt: skip


def test_the_time_left_is_not_told_from_a_slow_first_batch(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter([0.0, 0.0, 20.0, 2000.0])
    monkeypatch.setattr("time.monotonic", lambda: next(seconds))
    with lines_in_logs(), progress_bar("building", "images") as on_progress:
        for done in (0, 32, 6400):
            on_progress(done, 1_000_000)
    assert capsys.readouterr().err.splitlines() == [
        "building 32/1,000,000 (1.6 images/s)", "building 6,400/1,000,000 (3.2 images/s, ETA 86:15:00)"
    ]  # fmt: skip


def test_what_was_done_before_has_no_rate(capsys: pytest.CaptureFixture[str]) -> None:
    with lines_in_logs(), progress_bar("encoding", "captions") as on_progress:
        on_progress(400, 400)
    assert capsys.readouterr().err == "encoding 400/400\n"


def test_a_program_that_is_not_a_command_logs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with lines_in_logs():
        pass
    with progress_bar("encoding", "captions") as on_progress:
        on_progress(400, 400)
    assert not capsys.readouterr().err
