"""Labels in 8 bits: the products and answers of the vectors that were rounded."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linnaea.data.shards import make_taxa_table
from linnaea.model.open import open_encoder
from linnaea.predict import int8, predictor, threads
from linnaea.predict.int8 import STRETCH, Int8Rows, load_rounded
from linnaea.predict.labels import LabelBank
from linnaea.predict.predictor import Predictor
from linnaea.taxonomy.taxon import Taxon


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def make_bank(n_taxa: int, width: int) -> LabelBank:
    taxa = [Taxon.of(kingdom=f"K{i % 3}", genus=f"G{i % 40}", species=f"s{i}") for i in range(n_taxa)]
    vectors = unit(np.random.default_rng(n_taxa).normal(size=(n_taxa, width))).astype(np.float32)
    return LabelBank(make_taxa_table(taxa), vectors, {})


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 300), st.sampled_from([8, 24, 64, 512]), st.booleans(), st.integers(0, 99))
def test_products_are_those_of_the_rounded_vectors(n: int, n_rows: int, width: int, vnni: bool, seed: int) -> None:
    """Off by the rounding of the second part alone, summed over the width.

    It is a 64,516th of the largest value, and a 16,384th where larger integers would saturate.
    """
    rng, is_exact = np.random.default_rng(seed), int8._adds_exactly()
    images = unit(rng.normal(size=(n, width))).astype(np.float32)
    rows = Int8Rows.of(unit(rng.normal(size=(n_rows, width))).astype(np.float32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(int8, "_PRODUCTS_AT_ONCE", 128)
        patch.setattr(int8, "_adds_exactly", lambda: vnni and is_exact)
        got, largest = rows.products(images)
    exact = images.astype(np.float64) @ np.asarray(rows, np.float64).T
    steps = 127 * 254 if vnni and is_exact else 64 * 128
    bound = np.abs(images).max(axis=1, keepdims=True) / steps / 2 * np.abs(np.asarray(rows)).sum(axis=1)
    assert (np.abs(got.T - exact) <= bound + 1e-6).all()
    whole = n_rows // STRETCH
    np.testing.assert_array_equal(largest, got[: whole * STRETCH].reshape(whole, STRETCH, n).max(axis=1))


@pytest.mark.long
def test_products_do_not_saturate_without_vnni() -> None:
    """Integers of an image are at most 64 there, for which the largest of a bank's are exact (in a process of AVX2)."""
    code = """
import numpy as np
from linnaea.predict import int8
assert not int8._adds_exactly()
images = np.ones((3, 512), np.float32)
images[1:, ::2] = -1
rows = int8.Int8Rows.of(np.concatenate([np.ones((64, 512)), -np.ones((64, 512))]).astype(np.float32))
for some in (images, images[:1]):
    print(np.abs(rows.products(some)[0] - np.asarray(rows) @ some.T).max())
"""
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"},
                          capture_output=True, text=True, check=False)  # fmt: skip
    if "assert not" in done.stderr:
        pytest.skip("this processor adds exactly even so")
    assert [float(line) for line in done.stdout.split()] == pytest.approx([0, 0], abs=0.05), done.stderr


def test_images_and_rows_of_zeros_multiply_to_zero() -> None:
    assert (Int8Rows.of(np.zeros((3, 16), np.float32)).products(np.ones((1, 16), np.float32))[0] == 0).all()
    assert (Int8Rows.of(np.ones((3, 16), np.float32)).products(np.zeros((2, 16), np.float32))[0] == 0).all()


def test_a_cache_that_cannot_be_written_costs_no_rounding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make_bank(400, width=16).save(tmp_path / "bank", dtype=np.float16)
    vectors = LabelBank.open(tmp_path / "bank").vectors
    (tmp_path / "file").touch()
    monkeypatch.setenv("LINNAEA_CACHE", str(tmp_path / "file" / "cache"))
    np.testing.assert_array_equal(np.asarray(load_rounded(vectors)), np.asarray(Int8Rows.of(vectors)))
    assert "not kept in the cache" in caplog.text


def test_a_bank_on_disk_is_rounded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy in the cache is mapped again, and made again when the bank's file changes; parts are not cached."""
    monkeypatch.setenv("LINNAEA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(int8, "ROWS_AT_ONCE", 64)
    made: list[int] = []
    write = int8._write_rounded
    monkeypatch.setattr(int8, "_write_rounded", lambda *given: (made.append(1), write(*given)))
    bank = make_bank(400, width=16)
    bank.save(tmp_path / "bank", dtype=np.float16)
    for _ in range(2):
        vectors = LabelBank.open(tmp_path / "bank").vectors
        rounded = load_rounded(vectors)
        assert made == [1]
        assert isinstance(rounded.cells_KE, np.memmap)
        np.testing.assert_array_equal(np.asarray(rounded), np.asarray(Int8Rows.of(vectors)))
    np.testing.assert_array_equal(np.asarray(load_rounded(vectors[:100])), np.asarray(rounded)[:100])
    assert made == [1]
    make_bank(300, width=16).save(tmp_path / "bank", dtype=np.float16)
    os.utime(tmp_path / "bank" / "embeddings.npy", (1, 1))
    assert len(load_rounded(LabelBank.open(tmp_path / "bank").vectors)) == 300
    assert made == [1, 1]


def test_parts_cover_all_rows_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "PART_CELLS", 30)
    seen = np.zeros((17, 10), np.int64)

    def count(rows: slice) -> None:
        seen[rows] += 1

    threads.in_parts(count, seen.shape)
    assert (seen == 1).all()
    threads.in_parts(count, (0, 10))
    with pytest.raises(ZeroDivisionError):
        threads.in_threads(lambda _: 1 // 0, range(5))


def test_each_thread_reserves_memory_once() -> None:
    scratch = threads.Scratch()
    first = scratch.take(4, 8)
    assert np.shares_memory(first, scratch.take(2, 3)) and scratch.take(2, 3).shape == (2, 3)
    assert not np.shares_memory(first, scratch.take(4, 8, np.int32))
    others: list[bool] = []
    threads.in_one_thread(lambda: others.append(np.shares_memory(first, scratch.take(4, 8))))
    assert others == [False]


def test_only_answers_that_are_not_exact_anyway_use_8_bits(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A float32 model keeps float32 products with a bank that is not in 8 bits; a small bank always does."""
    monkeypatch.setenv("LINNAEA_CACHE", str(tmp_path / "cache"))
    exact, lower = open_encoder(str(trained)), open_encoder(str(trained), precision="bf16")
    bank = make_bank(50, width=exact.width)
    assert Predictor(model=lower, bank=bank).rounded is None
    monkeypatch.setattr(predictor, "ROUNDED_FROM", 50)
    assert Predictor(model=exact, bank=bank).rounded is None
    assert isinstance(Predictor(model=lower, bank=bank).rounded, Int8Rows)
    in_8_bits = LabelBank(bank.taxa, Int8Rows.of(bank.vectors), {})
    assert Predictor(model=exact, bank=in_8_bits).rounded is in_8_bits.vectors
