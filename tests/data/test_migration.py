"""A data set in a new taxonomy: labels follow, no image is touched, and a kill leaves the old or the new."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from test_changes import CORVIDS, checklist

from killing import Killer, killed_at
from linnaea.data.migration import migrate_data_set
from linnaea.data.shards import TAXA_SCHEMA, DataSet, make_taxa_table, write_parquet
from linnaea.errors import LinnaeaError
from linnaea.exchange import hold_output
from linnaea.taxonomy.migrate import Migration
from linnaea.taxonomy.taxon import Taxon

SPECIES = ("Corvus monedula", "Corvus corone", "Corvus cornix", "Pica pica")
OLD = checklist(*(f"{CORVIDS} {name}" for name in SPECIES), synonyms={"Pica hudsonia": "Pica pica"})
NEW = checklist(
    *(f"{CORVIDS} {name}" for name in ("Coloeus monedula", "Corvus corone", "Pica pica", "Pica hudsonia")),
    version="2",
    synonyms={"Corvus monedula": "Coloeus monedula", "Corvus cornix": "Corvus corone"},
)


@pytest.fixture(scope="module")
def migration() -> Migration:
    return Migration.between(OLD, NEW)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A data set of two photographs per species; the picture says which species it is."""
    folder = tmp_path / "birds"
    (folder / "train").mkdir(parents=True)
    taxa = make_taxa_table(Taxon((*CORVIDS.split(), *name.split())) for name in SPECIES)  # type: ignore[arg-type]
    blob, rows = b"", []
    for taxon_id, name in taxa.select("taxon_id", "scientific_name").iter_rows():
        for number in range(2):
            content = f"{name} {number}".encode()
            rows.append({"key": f"{taxon_id}-{number}", "split": "train", "shard": "train/shard-000000.tar",
                         "offset": len(blob), "size": len(content), "taxon_id": taxon_id})  # fmt: skip
            blob += content
    (folder / "train" / "shard-000000.tar").write_bytes(blob)
    write_parquet(pl.DataFrame(rows, schema_overrides={"taxon_id": pl.Int32}), folder / "index.parquet")
    write_parquet(taxa, folder / "taxa.parquet")
    (folder / "manifest.json").write_text(json.dumps({"fingerprint": "abc", "shards": {}}))
    return folder


def names_of_pictures(directory: Path) -> dict[str, str]:
    dataset = DataSet.open(directory)
    return {
        dataset.read(row).decode(): dataset.taxon(taxon_id).scientific_name
        for row, taxon_id in enumerate(dataset.index["taxon_id"])
    }


MIGRATED = {
    f"{old} {number}": new
    for old, new in zip(SPECIES, ("Coloeus monedula", "Corvus corone", "Corvus corone", "Pica pica"), strict=True)
    for number in range(2)
}


def test_every_picture_follows_its_label(directory: Path, migration: Migration) -> None:
    shard = directory / "train" / "shard-000000.tar"
    before = (shard.stat().st_mtime_ns, shard.stat().st_ino, shard.read_bytes())
    counts = migrate_data_set(directory, migration)
    assert counts == {"unchanged": 1, "renamed": 1, "lumped": 1, "ambiguous": 1}
    assert names_of_pictures(directory) == MIGRATED
    assert (shard.stat().st_mtime_ns, shard.stat().st_ino, shard.read_bytes()) == before
    assert dict(DataSet.open(directory).taxa.schema) == {name: kind() for name, kind in TAXA_SCHEMA.items()}
    assert [path.name for path in directory.parent.iterdir()] == [directory.name], "nothing is left beside it"


def test_names_that_were_resolved_follow_their_taxa(directory: Path, migration: Migration) -> None:
    taxa = pl.read_parquet(directory / "taxa.parquet")["scientific_name"].to_list()
    numbers = pl.Series([*map(taxa.index, SPECIES), None], dtype=pl.Int32)
    names = pl.DataFrame({"label": [*SPECIES, "gone"], "taxon_id": numbers})
    write_parquet(names, directory / "names.parquet")
    migrate_data_set(directory, migration)
    after, dataset = pl.read_parquet(directory / "names.parquet"), DataSet.open(directory)
    found = {label: dataset.taxon(row).scientific_name for label, row in after.drop_nulls().iter_rows()}
    assert found == {name: MIGRATED[f"{name} 0"] for name in SPECIES}
    assert after["taxon_id"].null_count() == 1


def test_the_history_is_kept_and_a_second_run_changes_nothing(directory: Path, migration: Migration) -> None:
    counts = migrate_data_set(directory, migration)
    history = pl.read_parquet(directory / "taxonomy_history.parquet")
    assert sorted(history.select("old_name", "new_name", "change").rows()) == [
        ("Corvus cornix", "Corvus corone", "lumped"),
        ("Corvus monedula", "Coloeus monedula", "renamed"),
        ("Pica pica", "Pica pica", "ambiguous"),
    ]
    assert history.filter(pl.col("change") == "ambiguous")["candidates"].item() == "Pica hudsonia; Pica pica"
    before = {path: path.stat().st_mtime_ns for path in directory.rglob("*.parquet")}
    assert migrate_data_set(directory, migration) == counts
    assert {path: path.stat().st_mtime_ns for path in directory.rglob("*.parquet")} == before


def test_history_ids_follow_a_second_migration(directory: Path, migration: Migration) -> None:
    migrate_data_set(directory, migration)
    third = checklist(f"{CORVIDS} Zoloeus monedula", f"{CORVIDS} Corvus corone", f"{CORVIDS} Pica pica", version="3",
                      synonyms={"Coloeus monedula": "Zoloeus monedula"})  # fmt: skip
    migrate_data_set(directory, Migration.between(NEW, third))
    names = DataSet.open(directory).taxa["scientific_name"].to_list()
    history = pl.read_parquet(directory / "taxonomy_history.parquet").filter(pl.col("change") == "renamed")
    assert [names[i] for i in history["taxon_id"]] == ["Zoloeus monedula"] * 2
    assert history["old_name"].to_list() == ["Corvus monedula", "Coloeus monedula"]
    assert len(json.loads((directory / "manifest.json").read_text())["taxonomy_migrations"]) == 2


def test_another_folder_leaves_the_first_as_it_was(directory: Path, migration: Migration, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    output = tmp_path / "out" / "birds-2"
    migrate_data_set(directory, migration, output=output)
    assert names_of_pictures(output) == MIGRATED
    assert {path.name: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before
    shards = [folder / "train" / "shard-000000.tar" for folder in (directory, output)]
    assert shards[0].samefile(shards[1])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("precious")
    with pytest.raises(LinnaeaError, match="something else"):
        migrate_data_set(directory, migration, output=tmp_path / "full")


@pytest.mark.parametrize("elsewhere", [False, True])
def test_killed_at_any_step_it_is_the_old_or_the_new(
    directory: Path, migration: Migration, elsewhere: bool, killer: Killer, tmp_path: Path
) -> None:
    before, output = names_of_pictures(directory), tmp_path / "out"
    target = output if elsewhere else directory
    shutil.copytree(directory, tmp_path / "kept")
    killed, moment = True, 0
    while killed:
        moment += 1
        killed = killed_at(moment, killer, lambda: migrate_data_set(directory, migration, output=target))
        assert (elsewhere and not output.exists()) or names_of_pictures(target) in (before, MIGRATED)
        assert not elsewhere or names_of_pictures(directory) == before
        if killed:
            shutil.rmtree(target, ignore_errors=True)
            if not elsewhere:
                shutil.copytree(tmp_path / "kept", directory)
    assert names_of_pictures(target) == MIGRATED
    assert moment > 10, "it was killed at many steps"
    migrate_data_set(directory, migration)
    assert {path.name for path in tmp_path.iterdir()} <= {"birds", "kept", "out"}, "nothing is left behind"


def test_two_at_once_are_one_and_a_word(directory: Path, migration: Migration) -> None:
    with hold_output(directory, kind="command"), pytest.raises(LinnaeaError, match="another command is writing here"):
        migrate_data_set(directory, migration)


def test_a_folder_that_is_no_data_set_is_refused(tmp_path: Path, migration: Migration) -> None:
    with pytest.raises(LinnaeaError, match="not a finished data set"):
        migrate_data_set(tmp_path, migration)
