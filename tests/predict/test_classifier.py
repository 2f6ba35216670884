"""Banks of any size and precision: the same probabilities, in memory that has a bound."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linnaea.data.shards import make_taxa_table
from linnaea.errors import LinnaeaError
from linnaea.predict import classifier, int8, labels
from linnaea.predict.classifier import iter_probabilities, iter_scored, sum_to_all_ranks
from linnaea.predict.int8 import Int8Rows
from linnaea.predict.label_lists import read_taxa
from linnaea.predict.labels import LabelBank, load_cached_bank
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.taxon import Taxon, TextType


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def make_bank(n_taxa: int, width: int = 16, dtype: type = np.float32) -> LabelBank:
    taxa = [
        Taxon.of(kingdom=f"K{i % 3}", order=f"O{i % 7}", genus=f"G{i % 40}", species=f"s{i}") for i in range(n_taxa)
    ]
    vectors = unit(np.random.default_rng(n_taxa).normal(size=(n_taxa, width)))
    return LabelBank(make_taxa_table(taxa), vectors.astype(dtype), {})


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 400), st.integers(1, 30), st.integers(1, 99), st.sampled_from([np.float16, np.float32]))
def test_probabilities_are_the_softmax_whatever_the_blocks(n_taxa: int, n: int, taxa_at_once: int, dtype: type) -> None:
    bank = make_bank(n_taxa, dtype=dtype)
    images = unit(np.random.default_rng(n).normal(size=(n, 16))).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "TAXA_AT_ONCE", taxa_at_once)
        patch.setattr(classifier, "MAX_CELLS", 7 * n_taxa)
        ours = np.concatenate(list(iter_probabilities(images, bank, 50.0)))
    logits = 50.0 * images.astype(np.float64) @ bank.vectors.astype(np.float64).T
    exact = np.exp(logits - logits.max(axis=1, keepdims=True))
    exact /= exact.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(ours, exact, rtol=2e-4, atol=1e-8)
    for rank, sums in sum_to_all_ranks(ours, bank).items():
        np.testing.assert_allclose(sums, sum_to_all_ranks(ours, bank, rank)[rank], rtol=1e-6)
        np.testing.assert_allclose(sums.sum(axis=1, dtype=np.float64), 1, rtol=1e-5)


def test_sums_over_very_many_taxa_keep_their_precision() -> None:
    """A kingdom of 300,000 species, each with hardly any probability, still adds up."""
    n = 300_000
    table = pl.DataFrame({label: ["Animalia" if label == "kingdom" else ""] * n for label in RANK_LABELS[:5]})
    table = table.with_columns(
        genus=pl.Series([f"G{i // 30:05}" for i in range(n)]),
        species=pl.Series([f"s{i % 30:02}" for i in range(n)]),
        common_name=pl.lit(""),
    )
    bank = LabelBank(table, np.zeros((n, 1), np.float16), {})
    p = np.random.default_rng(0).dirichlet(np.ones(n), size=2).astype(np.float32)
    assert sum_to_all_ranks(p, bank, Rank.KINGDOM)[Rank.KINGDOM].ravel() == pytest.approx(
        p.sum(axis=1, dtype=np.float64), abs=2e-6
    )
    assert bank.group(Rank.GENUS, 7) == Taxon.of(kingdom="Animalia", genus="G00007")
    assert "taxa_list" not in bank.__dict__, "naming one taxon must not make a list of all"


@pytest.mark.long
def test_a_million_taxa_fit_into_a_bounded_memory(tmp_path: Path) -> None:
    """Opening takes under a second, and answering stays under 1.5 GB above Python and torch."""
    n, folder = 1_000_000, tmp_path / "bank"
    folder.mkdir()
    columns = {
        label: [f"{label[0]}{number // 10 ** (6 - depth):07}" for number in range(n)]
        for depth, label in enumerate(RANK_LABELS)
    }
    table = pl.DataFrame({**columns, "scientific_name": [""] * n, "common_name": [""] * n})
    table.with_row_index("taxon_id").write_parquet(folder / "taxa.parquet")
    vectors = np.lib.format.open_memmap(folder / "embeddings.npy", mode="w+", dtype=np.float16, shape=(n, 512))
    for start in range(0, n, 50_000):
        vectors[start : start + 50_000] = np.random.default_rng(start).normal(size=(50_000, 512)) / 512**0.5
    vectors.flush()
    (folder / "bank.json").write_text("{}")
    out = subprocess.run([sys.executable, "-c", ANSWER, folder], check=True, capture_output=True, text=True).stdout
    shutil.rmtree(folder)  # a gigabyte
    seconds, megabytes, total = map(float, out.split())
    assert seconds < 1
    assert megabytes < 1500
    assert total == pytest.approx(1, abs=1e-4)


ANSWER = """
import sys, time
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
import numpy as np
from linnaea.predict.classifier import guess_at_rank, iter_probabilities, sum_to_all_ranks
from linnaea.predict.predictor import decide
from linnaea.predict.int8 import Int8Rows
from linnaea.predict.labels import LabelBank
from linnaea.taxonomy.ranks import Rank
before, start = getrusage(RUSAGE_SELF).ru_maxrss, time.perf_counter()
bank = LabelBank.open(Path(sys.argv[1]))
seconds = time.perf_counter() - start
images = np.random.default_rng(0).normal(size=(32, 512)).astype(np.float32)
for p in iter_probabilities(images, bank, 1.0):
    guess_at_rank(sum_to_all_ranks(p, bank, Rank.GENUS)[Rank.GENUS], bank, Rank.GENUS, 5)
    decide(sum_to_all_ranks(p, bank), bank, 0.1)
print(seconds, (getrusage(RUSAGE_SELF).ru_maxrss - before) / 1024, p[0].sum(dtype=np.float64))
"""


def test_a_bank_that_takes_long_is_encoded_once(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from linnaea.model.open import load_model

    model = load_model(str(trained), device="cpu")
    taxa = make_bank(30).taxa
    monkeypatch.setattr(labels, "CACHE_FROM", 10)
    first = load_cached_bank(model, taxa)

    def never(*words: object, **options: object) -> LabelBank:
        raise AssertionError("encoded again")

    with monkeypatch.context() as patch:
        patch.setattr(labels, "make_bank", never)
        second = load_cached_bank(model, taxa)
        with pytest.raises(AssertionError, match="encoded again"):
            load_cached_bank(model, taxa, TextType.SCI)
        with pytest.raises(AssertionError, match="encoded again"):
            load_cached_bank(model, taxa[:20])
    assert second.vectors.dtype == np.float32
    assert (np.asarray(first.vectors) == np.asarray(second.vectors)).all()
    assert np.asarray(labels.make_bank(model, taxa).vectors) == pytest.approx(np.asarray(first.vectors), abs=1e-6)


def test_a_damaged_cache_is_made_again(trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from linnaea.model.open import load_model

    monkeypatch.setenv("LINNAEA_CACHE", str(tmp_path))
    monkeypatch.setattr(labels, "CACHE_FROM", 10)
    model, taxa = load_model(str(trained), device="cpu"), make_bank(30).taxa
    whole = np.array(load_cached_bank(model, taxa).vectors)
    (path,) = tmp_path.rglob("embeddings.npy")
    path.write_bytes(path.read_bytes()[:-100])
    assert (np.asarray(load_cached_bank(model, taxa).vectors) == whole).all()


@pytest.mark.parametrize("exact_bytes", [10**6, 0])
def test_a_cache_that_cannot_be_written_costs_no_labels(
    trained: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture, exact_bytes: int
) -> None:
    from linnaea.model.open import load_model

    monkeypatch.setattr(labels, "CACHE_FROM", 10)
    monkeypatch.setattr(labels, "EXACT_BYTES", exact_bytes)
    model, taxa = load_model(str(trained), device="cpu"), make_bank(30).taxa
    monkeypatch.setenv("LINNAEA_CACHE", str(tmp_path / "cache"))
    stored = load_cached_bank(model, taxa).vectors
    (tmp_path / "file").touch()
    monkeypatch.setenv("LINNAEA_CACHE", str(tmp_path / "file" / "cache"))
    made = load_cached_bank(model, taxa).vectors
    assert made.dtype == stored.dtype
    np.testing.assert_array_equal(np.asarray(made), np.asarray(stored))
    assert "30 labels are not kept in the cache" in caplog.text


def test_taxa_out_of_order_are_sorted(tmp_path: Path) -> None:
    """A genus in two places would be two genera, each with half of its probability."""
    taxa = make_bank(20).taxa
    taxa.sample(fraction=1, shuffle=True, seed=1).write_parquet(tmp_path / "taxa.parquet")
    assert read_taxa(tmp_path).equals(taxa)


def test_a_bank_cut_short_is_one_line(tmp_path: Path) -> None:
    bank = make_bank(12)
    bank.save(tmp_path / "bank")
    (tmp_path / "bank" / "bank.json").unlink()
    with pytest.raises(LinnaeaError, match="it should be the facts of a label bank"):
        LabelBank.open(tmp_path / "bank")
    bank.save(tmp_path / "bank")
    np.save(tmp_path / "bank" / "embeddings.npy", np.zeros((3, 16), np.float16))
    with pytest.raises(LinnaeaError, match="12 taxa, but 3 x 16 vectors"):
        LabelBank.open(tmp_path / "bank")


def test_a_bank_in_8_bits_reads_as_float32(tmp_path: Path) -> None:
    """Saved, opened, indexed in any way, saved again: half a step of rounding from the vectors, and no further."""
    bank = make_bank(300, width=64)
    bank.save(tmp_path / "small", dtype=np.int8)
    opened = LabelBank.open(tmp_path / "small")
    assert isinstance(opened.vectors, Int8Rows)
    assert opened.vectors.nbytes == 300 * (64 + 4)
    everything = np.asarray(opened.vectors)
    assert everything.dtype == np.float32
    step = np.abs(bank.vectors).max(axis=1, keepdims=True) / 127
    assert (np.abs(everything - bank.vectors) <= 0.501 * step).all()
    for rows in (slice(5, 90), np.array([3, 200, 7]), np.arange(300) % 2 == 0, 17):
        np.testing.assert_array_equal(opened.vectors[rows], everything[rows])
    opened.save(tmp_path / "again", dtype=opened.vectors.dtype.type)
    again = LabelBank.open(tmp_path / "again")
    np.testing.assert_allclose(np.asarray(again.vectors), everything, rtol=1e-6)


@pytest.mark.parametrize("stays", [0, 10**9])
def test_probabilities_of_a_bank_in_8_bits_are_those_of_its_vectors(
    stays: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where its pages are given back after every block, as a large bank's are."""
    bank = make_bank(500, width=64)
    for dtype in (np.int8, np.float16):
        bank.save(tmp_path / "bank", dtype=dtype)
        opened = LabelBank.open(tmp_path / "bank")
        monkeypatch.setattr(int8, "STAYS_MAPPED", stays)
        monkeypatch.setattr(classifier, "TAXA_AT_ONCE", 77)
        plain = LabelBank(opened.taxa, np.array(opened.vectors, np.float32), {})
        images = unit(np.random.default_rng(1).normal(size=(9, 64))).astype(np.float32)
        got = np.concatenate(list(iter_probabilities(images, opened, 50.0)))
        expected = np.concatenate(list(iter_probabilities(images, plain, 50.0)))
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-7)


def test_a_row_of_zeros_in_8_bits_stays_zero() -> None:
    assert (np.asarray(Int8Rows.of(np.zeros((2, 4), np.float32))) == 0).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 300), st.integers(1, 9), st.integers(1, 40), st.integers(0, 99), st.booleans())
def test_the_largest_are_those_of_a_sort(n: int, k: int, stretch: int, seed: int, ties: bool) -> None:
    row = np.random.default_rng(seed).normal(size=n).astype(np.float32)
    if ties:  # as probabilities that underflow
        row = np.maximum(row, 0.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "STRETCH", stretch)
        found = classifier._largest(row, min(k, n))
    assert len(set(found.tolist())) == min(k, n)
    assert sorted(row[found]) == sorted(row)[-min(k, n) :]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_vectors_that_are_not_finite_are_one_line(value: float) -> None:
    bank = make_bank(12)
    images = np.asarray(bank.vectors[:2], np.float32)
    broken = np.array(bank.vectors, np.float32)
    broken[5, 1] = value
    with pytest.raises(LinnaeaError, match="the labels have vectors that are not finite"):
        list(iter_scored(images, replace(bank, vectors=broken), 10.0))
    images = images.copy()
    images[1, 0] = value
    with pytest.raises(LinnaeaError, match="the model gives photographs vectors that are not finite"):
        list(iter_scored(images, bank, 10.0))
