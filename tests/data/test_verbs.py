"""The verbs of data sets do what the commands do, and return it typed."""

import subprocess
import sys
from pathlib import Path

import pytest

import linnaea
from linnaea.data.verbs import make_benchmarks
from linnaea.errors import LinnaeaError, UsageError


def test_benchmarks_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    paths = (tmp_path / "birds" / "test", tmp_path / "plants" / "test", tmp_path / "rare.v2")
    benchmarks = make_benchmarks(paths, by_taxon=False)
    assert [one.name for one in benchmarks] == [str(paths[0]), str(paths[1]), "rare.v2"]


@pytest.fixture(scope="module")
def built(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> linnaea.BuiltDataSet:
    output = tmp_path_factory.mktemp("verbs") / "data"
    return linnaea.build(photographs / "metadata.csv", output, split_column="split", workers=1)


def test_a_built_data_set_accounts_for_every_record(built: linnaea.BuiltDataSet) -> None:
    summary = built.summary
    assert summary.n_in == summary.n_out + summary.n_rejected == len(built.open()) == 96
    assert "96 records in = 96 images out + 0 rejected" in repr(built)
    assert any(note.startswith("report: ") for note in built.notes)


def test_the_same_call_leaves_a_finished_build_alone(built: linnaea.BuiltDataSet, photographs: Path) -> None:
    told: list[str] = []
    table = photographs / "metadata.csv"
    again = linnaea.build(table, built.directory, split_column="split", workers=1, on_note=told.append)
    assert again.summary.already_built
    assert told == list(again.notes)
    assert any("nothing to do" in note for note in told)
    with pytest.raises(LinnaeaError, match="other inputs or options"):
        linnaea.build(table, built.directory, workers=1)


def test_check_describe_and_export(built: linnaea.BuiltDataSet, tmp_path: Path) -> None:
    checked = linnaea.check_data(built.directory, decode=True)
    assert (checked.is_whole, checked.n_images, checked.n_taxa) == (True, 96, 12)
    assert linnaea.describe_data(built.directory).n_images == 96
    exported = linnaea.export_data(built.directory, tmp_path / "out", format="webdataset", split="train", workers=1)
    assert exported.n_images == len(built.open().split("train"))
    assert linnaea.repair_data(built.directory).is_whole


@pytest.mark.parametrize(
    ("options", "what"),
    [({"val": 2.0}, "share"), ({"unseen_rank": "tribe"}, "tribe"), ({"ray_address": "auto"}, "--engine ray")],
)
def test_what_cannot_be_meant_is_a_usage_error(
    photographs: Path, tmp_path: Path, options: dict[str, object], what: str
) -> None:
    with pytest.raises(UsageError, match=what):
        linnaea.build(photographs / "metadata.csv", tmp_path / "data", **options)  # type: ignore[arg-type]


def test_a_source_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(LinnaeaError, match="photos"):
        linnaea.build(tmp_path / "photos", tmp_path / "data", workers=1)
    with pytest.raises(UsageError, match="2/8"):
        linnaea.download(tmp_path / "urls.csv", tmp_path / "files", part="2")
    with pytest.raises(UsageError, match="--images"):
        linnaea.draw_no_organism(tmp_path / "nothing", images=0)


def test_drawings(tmp_path: Path) -> None:
    assert linnaea.synthesize(tmp_path / "tree", species=8, images=1, size=32, workers=1).n_images == 8
    assert len(linnaea.draw_no_organism(tmp_path / "nothing", images=3, size=32)) == 3


SCRIPT = """
import linnaea
print("started")
print(linnaea.build({table!r}, "data", workers=2))
"""


def test_a_script_without_a_main_guard_runs_once(photographs: Path, tmp_path: Path) -> None:
    """A spawned worker must not run the caller's script again."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(table=str(photographs / "metadata.csv")))
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "started",
        "<data set data: 96 records in = 96 images out + 0 rejected>",
    ]
