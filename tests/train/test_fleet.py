"""A dry run states the hours on GPUs that are not there, and what the number rests on."""

import re
from pathlib import Path

import pytest

from linnaea.cli import main
from linnaea.errors import UsageError
from linnaea.train.fleet import Fleet, find_fleet, forecast


@pytest.mark.parametrize(
    ("word", "name", "n"), [("H200x8", "H200", 8), ("h100", "H100", 1), ("A100x64", "A100", 64), ("L40Sx2", "L40S", 2)]
)
def test_a_word_names_gpus(word: str, name: str, n: int) -> None:
    assert find_fleet(word) == Fleet(name=name, n=n)


@pytest.mark.parametrize("word", ["auto", "cpu", "cuda", "cuda:1", "mps"])
def test_devices_of_this_machine_are_no_plan(word: str) -> None:
    assert find_fleet(word) is None


@pytest.mark.parametrize("word", ["Z80x8", "H200x0", "H200x", "8xH200", "", "H200 x 8"])
def test_other_words_are_errors_that_list_the_known(word: str) -> None:
    with pytest.raises(UsageError, match=r"not a GPU that is known; give one of .*H200"):
        find_fleet(word)


def test_the_measured_run_takes_the_measured_time() -> None:
    """ViT-B/16 on one H200: 108.2 GFLOP a sample at 1,974 samples/s are 21.6% of its peak."""
    one = forecast(Fleet(name="H200", n=1), 108.2e9, recomputes=False, in_parts=False)
    assert one.samples_per_s == pytest.approx(1974, rel=0.001)
    assert "assumed" not in one.basis
    eight = forecast(Fleet(name="A100", n=8), 108.2e9, recomputes=False, in_parts=False)
    assert eight.samples_per_s == pytest.approx(1974 * 8 * 312 / 989, rel=0.001)
    assert "A100 assumed to be used as well; 8 GPUs assumed to be 8 times as fast as one" in eight.basis


def test_a_run_that_computes_twice_is_slower() -> None:
    fleet = Fleet(name="H200", n=1)
    rates = [
        forecast(fleet, 1e11, recomputes=recomputes, in_parts=in_parts).samples_per_s
        for recomputes, in_parts in ((False, False), (True, False), (False, True))
    ]
    assert rates == sorted(rates, reverse=True) and len({*rates}) == 3


def test_a_dry_run_states_hours_memory_and_reading(
    dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "tiny", "--data", str(dataset_dir), "--output", str(tmp_path / "run"), "--dry-run"]
    hours = {}
    for device in ("H200", "H200x8"):
        assert main([*words, "--device", device, "--steps", "100000000"]) == 0
        line, more = capsys.readouterr().out.splitlines()[-2:]
        found = re.match(r"on (\d) x H200 +([\d.,]+) hours at [\d,]+ samples/s, 21.6% of the peak arithmetic", line)
        assert found and "GB on each GPU" in more and "MB/s of 256-pixel shards" in more
        hours[int(found[1])] = float(found[2].replace(",", ""))
    assert hours[1] == pytest.approx(8 * hours[8], rel=0.05)
    assert not (tmp_path / "run").exists()


def test_an_unknown_gpu_is_an_error_of_usage(dataset_dir: Path, tmp_path: Path) -> None:
    words = ["train", "tiny", "--data", str(dataset_dir), "--output", str(tmp_path / "run")]
    assert main([*words, "--dry-run", "--device", "Z80x8"]) == 2
    assert main([*words, "--device", "H200x8"]) == 1, "there is none here to train on"
    assert not (tmp_path / "run").exists()
