"""The shard format: any content comes back from any tar reader, and by offset from any process or thread."""

import io
import pickle
import tarfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linnaea.data.shards import (
    TAXA_SCHEMA,
    DataSet,
    ShardWriter,
    iter_members,
    make_taxa_table,
    sort_taxa,
    taxa_from_table,
    write_parquet,
)
from linnaea.errors import LinnaeaError
from linnaea.taxonomy.taxon import Taxon

samples = st.dictionaries(
    st.text("0123456789abcdef", min_size=4, max_size=24),
    st.tuples(st.binary(max_size=3000), st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=3)),
    max_size=8,
)


@settings(max_examples=50, deadline=None)
@given(samples)
def test_whatever_goes_into_a_shard_comes_out(tmp_path_factory: pytest.TempPathFactory, content: dict) -> None:
    stream = io.BytesIO()
    writer = ShardWriter(stream)
    offsets = {key: writer.add(key, jpeg, facts, {"txt": key}) for key, (jpeg, facts) in content.items()}
    writer.close()
    data = stream.getvalue()
    for key, (jpeg, _) in content.items():
        assert data[offsets[key] : offsets[key] + len(jpeg)] == jpeg
    path = tmp_path_factory.mktemp("shard") / "shard.tar"
    path.write_bytes(data)
    with tarfile.open(path) as tar:
        assert tar.getnames() == [f"{key}.{ending}" for key in content for ending in ("jpg", "json", "txt")]
        assert all((member.mtime, member.uid, member.gid, member.uname) == (0, 0, 0, "") for member in tar)
    places = {name: (offset, size) for name, offset, size in iter_members(path)}
    assert all(places[f"{key}.jpg"] == (offsets[key], len(jpeg)) for key, (jpeg, _) in content.items())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 100))
def test_a_shard_cut_anywhere_is_found_out(tmp_path_factory: pytest.TempPathFactory, percent: int) -> None:
    stream = io.BytesIO()
    writer = ShardWriter(stream)
    for number in range(3):
        writer.add(str(number), bytes(700), {}, {})
    writer.close()
    end = stream.getvalue().rstrip(b"\0")
    path = tmp_path_factory.mktemp("cut") / "shard.tar"
    path.write_bytes(stream.getvalue()[: len(end) * percent // 100])
    with pytest.raises(LinnaeaError, match=r"truncated|not a tar archive"):
        list(iter_members(path))


def test_taxa_survive_the_table_and_come_in_depth_first_order(tmp_path: Path) -> None:
    taxa = [
        Taxon.of(kingdom="Plantae", genus="Salix", species="alba"),
        Taxon.of(kingdom="Animalia", phylum="Chordata", genus="Pica", species="pica", common_name="Eurasian magpie"),
        Taxon.of(kingdom="Animalia"),
        Taxon.of(common_name="some bird"),
    ]
    table = make_taxa_table([*taxa, taxa[0]])
    assert dict(table.schema) == TAXA_SCHEMA
    write_parquet(table, tmp_path / "taxa.parquet")
    back = taxa_from_table(pl.read_parquet(tmp_path / "taxa.parquet"))
    assert back == sort_taxa(taxa)
    assert [taxon.rank for taxon in back][:2] == [None, 0]
    assert table["taxon_id"].to_list() == [0, 1, 2, 3]


def test_the_same_table_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        write_parquet(make_taxa_table([Taxon.of(genus="Pica"), Taxon.of(genus="Apis")]), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_reading_is_the_same_from_threads_and_after_pickling(dataset_dir: Path) -> None:
    dataset = DataSet.open(dataset_dir)
    rows = [*range(len(dataset))] * 5
    one_by_one = [dataset.read(row) for row in rows]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(DataSet.open(dataset_dir).read, rows)) == one_by_one
    copy = pickle.loads(pickle.dumps(dataset))
    assert [copy.read(row) for row in rows] == one_by_one


def test_a_split_reads_its_own_rows(dataset_dir: Path) -> None:
    dataset = DataSet.open(dataset_dir)
    for name in dataset.index["split"].unique():
        part = dataset.split(name)
        keys = part.index["key"].to_list()
        row = dataset.index.with_row_index().filter(pl.col("key") == keys[-1])["index"][0]
        assert part.read(len(part) - 1) == dataset.read(row)


def test_photographs_named_to_the_species(dataset_dir: Path) -> None:
    whole = DataSet.open(dataset_dir)
    some = whole.index["taxon_id"].unique().sort()[:2]
    blunt = replace(whole, taxa=whole.taxa.with_columns(
        species=pl.when(pl.col("taxon_id").is_in(some.implode())).then(pl.lit("")).otherwise("species")
    ))  # fmt: skip
    part = blunt.to_species()
    assert 0 < len(part) < len(whole)
    assert not set(part.index["taxon_id"]) & set(some)
    with pytest.raises(LinnaeaError, match="no photograph of this part is named to the species"):
        replace(whole, taxa=whole.taxa.with_columns(species=pl.lit(""))).to_species()
