"""Copies are found by bytes, pixels, hashes, embeddings and names; what is no copy stays."""

import time
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pdqhash
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scenes import scene

from linnaea.data.copies.hashes import (
    CROP_STEPS,
    MIN_QUALITY,
    PART_SCHEMA,
    HashTask,
    both_ways,
    hash_pictures,
    hashes_both_ways,
    pixel_sha256,
    variant_hashes,
    variants,
)
from linnaea.data.copies.leakage import (
    encode_pictures,
    find_exact,
    find_leaks_by_embedding,
    match_benchmark_taxa,
    species_key,
)
from linnaea.data.copies.links import connect, connect_near, iter_links, lead
from linnaea.data.copies.search import BLOCK_PAIRS, THRESHOLD, iter_near
from linnaea.data.images import Picture, decode

PHOTOGRAPHS = Path(__file__).parents[2].parent / "shared" / "species-images"


def near_copy(picture: Picture, seed: int, most: float = 0.05) -> Picture:
    """Cropped on each side, scaled, saved again as JPEG."""
    random = np.random.default_rng(seed)
    height, width = picture.shape[:2]
    top, bottom, left, right = random.uniform(0, most, 4)
    cut = picture[round(top * height) : height - round(bottom * height),
                  round(left * width) : width - round(right * width)]  # fmt: skip
    scale = random.uniform(0.5, 1.5)
    scaled = cv2.resize(cut, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    quality = int(random.integers(50, 96))
    jpeg = cv2.imencode(".jpg", scaled[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return decode(jpeg.tobytes())


def official(picture_256: Picture) -> tuple[NDArray[np.uint64], int]:
    vector, quality = pdqhash.compute(picture_256)
    return np.packbits(np.asarray(vector, dtype=np.uint8)).view(">u8").astype(np.uint64), quality


def perceptual_hash(picture: Picture) -> tuple[NDArray[np.uint64], int]:
    """The hash of the whole picture, and its quality."""
    hashes, quality = variant_hashes(picture, (0.0,))
    return hashes[0], quality


@pytest.mark.parametrize("seed", range(20))
def test_the_hash_is_pdq(seed: int) -> None:
    picture = scene(seed, 256, 256)
    bits, quality = official(picture)
    ours, our_quality = perceptual_hash(picture)
    assert np.bitwise_count(ours ^ bits).sum() <= 2  # a coefficient that equals the median but for rounding
    assert our_quality == quality


def test_the_hash_is_pdq_on_photographs() -> None:
    if not PHOTOGRAPHS.is_dir():
        pytest.skip("needs ../shared/species-images")
    table = pl.read_csv(PHOTOGRAPHS / "metadata.csv", infer_schema=False)
    for path in table["filepath"].gather_every(400):
        picture = decode((PHOTOGRAPHS / path).read_bytes())
        how = cv2.INTER_AREA if min(picture.shape[:2]) >= 256 else cv2.INTER_LINEAR
        bits, quality = official(cv2.resize(picture, (256, 256), interpolation=how))
        ours, our_quality = perceptual_hash(picture)
        assert np.bitwise_count(ours ^ bits).sum() <= 2
        assert abs(our_quality - quality) <= 1


def test_a_variant_hash_is_the_hash_of_the_crop() -> None:
    picture = scene(3, 512, 400)
    hashes, _ = variant_hashes(picture)
    assert len(hashes) == len(variants()) == 81
    for one, bits in zip(variants(), hashes, strict=True):
        crop = picture[round(one.top * 512) : 512 - round(one.bottom * 512),
                       round(one.left * 400) : 400 - round(one.right * 400)]  # fmt: skip
        assert np.bitwise_count(perceptual_hash(crop)[0] ^ bits).sum() <= 16


def test_pixels_are_compared_not_files() -> None:
    picture = scene(5)
    png, bmp = (cv2.imencode(ending, picture)[1].tobytes() for ending in (".png", ".bmp"))
    assert pixel_sha256(decode(png)) == pixel_sha256(decode(bmp))
    assert pixel_sha256(picture) != pixel_sha256(picture.transpose(1, 0, 2))
    assert pixel_sha256(picture) != pixel_sha256(picture.reshape(120, 640, 3))


def test_exact_copies() -> None:
    assert find_exact(["a", "b", "a"], ["x", "a"]).rows() == [(0, 1), (2, 1)]
    assert find_exact([], ["x"]).columns == ["train_row", "benchmark_row"]


def naive(queries: NDArray[np.uint64], targets: NDArray[np.uint64], threshold: int) -> set[tuple[int, int, int]]:
    distance = np.bitwise_count(queries[:, None] ^ targets[None]).sum(axis=2, dtype=int)
    return {(int(q), int(t), int(distance[q, t])) for q, t in zip(*np.nonzero(distance <= threshold), strict=True)}


def found(queries: NDArray[np.uint64], targets: NDArray[np.uint64], threshold: int) -> list[tuple[int, int, int]]:
    return [
        row
        for hits in iter_near(queries, targets, threshold)
        for row in zip(hits.query.tolist(), hits.target.tolist(), hits.distance.tolist(), strict=True)
    ]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n_targets=st.sampled_from([1, 3, 2_000, 2_500]),
    threshold=st.integers(0, 40),
    n_flat=st.integers(0, 300),
)
def test_the_search_is_exact(seed: int, n_targets: int, threshold: int, n_flat: int) -> None:
    """Equal to comparing all with all; also where many hashes are the same (flat pictures fill one bucket)."""
    random = np.random.default_rng(seed)
    targets = random.integers(0, 2**64, (n_targets, 4), dtype=np.uint64)
    targets[:n_flat] = targets[0]
    queries = targets[random.integers(0, n_targets, 60)]
    flips = random.random((60, 256)) < random.uniform(0, 0.25, (60, 1))
    queries = queries ^ np.packbits(flips, axis=1).view(np.uint64)
    hits = found(queries, targets, threshold)
    assert len(hits) == len(set(hits))
    assert set(hits) == naive(queries, targets, threshold)


def test_full_buckets_are_cut_into_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linnaea.data.copies.search.BLOCK_PAIRS", 1000)
    assert BLOCK_PAIRS > 1000
    same = np.full((2_500, 4), 7, dtype=np.uint64)
    assert len(found(same[:3], same, 31)) == 3 * 2_500


@pytest.mark.parametrize("threshold", [-1, 64])
def test_a_threshold_that_cannot_be_searched(threshold: int) -> None:
    with pytest.raises(ValueError, match="must be between 0 and 63"):
        next(iter_near(np.zeros((1, 4), np.uint64), np.zeros((1, 4), np.uint64), threshold))


def find_leaks(
    train: list[Picture], benchmark: list[Picture], steps: tuple[float, ...] = CROP_STEPS
) -> set[tuple[int, int]]:
    """Pairs of a training picture and a benchmark's picture of which a crop is near."""
    queries = np.concatenate([variant_hashes(picture, (0.0,))[0] for picture in train])
    targets = np.concatenate([variant_hashes(picture, steps)[0] for picture in benchmark])
    return {(query, target // len(steps) ** 4) for query, target, _ in found(queries, targets, THRESHOLD)}


def test_planted_near_copies_are_found_and_nothing_else() -> None:
    benchmark = [scene(seed) for seed in range(40)]
    copies = [near_copy(picture, seed) for seed, picture in enumerate(benchmark)]
    others = [scene(1000 + seed) for seed in range(200)]
    hits = find_leaks(copies + others, benchmark)
    right = {(row, row) for row in range(40)}
    assert len(hits & right) >= 38
    assert not hits - right
    assert len(find_leaks(copies + others, benchmark, (0.0,))) < len(hits)  # what the crops are for


def test_a_benchmark_picture_that_was_cut_from_a_training_picture_is_found() -> None:
    training = [scene(seed) for seed in range(40)]
    benchmark = [near_copy(picture, seed) for seed, picture in enumerate(training)]
    others = [scene(1000 + seed) for seed in range(200)]
    queries = np.concatenate([variant_hashes(picture, (0.0,))[0] for picture in training + others])
    targets = np.concatenate([hashes_both_ways(picture)[0] for picture in benchmark])
    hits = {(query, target // len(both_ways(CROP_STEPS))) for query, target, _ in found(queries, targets, THRESHOLD)}
    right = {(row, row) for row in range(40)}
    assert len(hits & right) >= 37
    assert not hits - right
    assert len(find_leaks(training + others, benchmark)) < 20  # what growing is for


def test_flat_pictures_have_no_hash(tmp_path: Path) -> None:
    grey = np.full((100, 100, 3), 128, dtype=np.uint8)
    for name, picture in (("grey", grey), ("scene", scene(1))):
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture)
    assert perceptual_hash(grey)[1] < MIN_QUALITY
    pl.DataFrame({"location": [str(tmp_path / f"{name}.png") for name in ("grey", "scene", "gone")]}).write_parquet(
        tmp_path / "pictures.parquet"
    )
    part = tmp_path / "part.parquet"
    task = HashTask(pictures=tmp_path / "pictures.parquet", start=0, length=3, steps=(0.0,), part=part)
    assert hash_pictures(task) == 3
    made = pl.read_parquet(part)
    assert made.schema == PART_SCHEMA
    assert made["hashes"].is_null().to_list() == [True, False, True]
    assert made["pixels"].is_null().to_list() == [False, False, True]


def test_embeddings_of_an_encoder_that_is_handed_in() -> None:
    def encode(pictures: object) -> NDArray[np.float32]:
        return np.stack([cv2.resize(p, (8, 8)).ravel().astype(np.float32) - 128 for p in pictures])  # type: ignore[attr-defined]

    benchmark = [scene(seed) for seed in range(5)]
    train = [scene(50), near_copy(benchmark[3], 0), scene(51)]
    vectors = encode_pictures(train, encode, batch=2), encode_pictures(benchmark, encode, batch=2)
    assert np.allclose(np.linalg.norm(vectors[0], axis=1), 1)
    leaks = find_leaks_by_embedding(*vectors, min_cosine=0.95)
    assert leaks.select("train_row", "benchmark_row").rows() == [(1, 3)]


TAXA = pl.DataFrame(
    {
        "genus": ["Cyclonaias", "Polygonia", "Panthera", "Panthera", "Aster", ""],
        "species": ["tuberculata", "c-album", "leo persica", "pardus", "", ""],
    }
)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("Cyclonaias tuberculata", 0),
        ("CYCLONAIAS_TUBERCULATA", 0),
        ("cyclonaias  tuberculata", 0),
        ("Animalia-Mollusca-Bivalvia-Unionida-Unionidae-Cyclonaias-tuberculata", 0),
        ("Animalia_Arthropoda_Insecta_Lepidoptera_Nymphalidae_Polygonia_c-album", 1),
        ("Animalia-Arthropoda-Insecta-Lepidoptera-Nymphalidae-Polygonia-c-album", 1),
        ("00123_Animalia_Chordata_Mammalia_Carnivora_Felidae_Panthera_pardus", 3),
        ("Panthera leo", 2),
        ("Panthera leo (Linnaeus, 1758)", 2),
    ],
)
def test_a_benchmarks_species_are_found_however_spelled(name: str, row: int) -> None:
    match = match_benchmark_taxa(TAXA, [name])
    assert np.flatnonzero(match.is_in_benchmark).tolist() == [row]
    assert match.unmatched == ()


def test_names_that_match_nothing_are_told() -> None:
    match = match_benchmark_taxa(TAXA, ["Panthera", "Panthera onca", "", "Panthera leo"])
    assert match.unmatched == ("Panthera", "", "Panthera onca")
    assert match.is_in_benchmark.sum() == 1


def test_no_empty_name_matches_an_empty_taxon() -> None:
    assert species_key("") is None and species_key("Aster") is None and species_key("__") is None
    assert not match_benchmark_taxa(TAXA, ["", " ", "Aster"]).is_in_benchmark.any()


def camera_frames(n_frames: int, *, share: float = 0.05, seed: int = 0) -> NDArray[np.uint64]:
    """Hashes of the frames of one camera: each differs from the scene in about 5% of the bits, two in about 10%."""
    random = np.random.default_rng(seed)
    flips = np.packbits(random.random((n_frames, 256)) < share, axis=1).view(np.uint64)
    return random.integers(0, 2**64, (1, 4), dtype=np.uint64) ^ flips


def all_clusters(hashes: NDArray[np.uint64], threshold: int) -> list[int]:
    pairs = [(q, t) for q, t, _ in naive(hashes, hashes, threshold)]
    return connect(len(hashes), [(np.array([q for q, _ in pairs]), np.array([t for _, t in pairs]))]).tolist()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), threshold=st.integers(0, 40), n_bursts=st.integers(1, 8), is_indexed=st.booleans())
def test_the_links_connect_what_all_pairs_connect(seed: int, threshold: int, n_bursts: int, is_indexed: bool) -> None:
    """With all pairs or with an index, whole or in slices, and in no more links than rows."""
    random = np.random.default_rng(seed)
    bursts = [camera_frames(15, share=random.uniform(0, 0.12), seed=seed + n) for n in range(n_bursts)]
    hashes = np.concatenate([*bursts, random.integers(0, 2**64, (20, 4), dtype=np.uint64)])
    hashes = hashes[random.permutation(len(hashes))]
    expected = all_clusters(hashes, threshold)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("linnaea.data.copies.links.ALL_PAIRS_UP_TO", 0 if is_indexed else 10**6)
        assert connect_near(hashes, threshold).tolist() == expected
        slices = (iter_links(hashes, threshold, start=start, length=50) for start in range(0, len(hashes), 50))
        links = [hits for part in slices for hits in part]
    ends = [(hits.query, hits.target) for hits in links]
    assert connect(len(hashes), ends).tolist() == expected
    assert sum(len(hits.query) for hits in links) <= len(hashes) * -(-len(hashes) // 50)
    close = {(q, t, d) for q, t, d in naive(hashes, hashes, threshold) if q < t}
    assert all(set(zip(hits.query, hits.target, hits.distance, strict=True)) <= close for hits in links)


def test_a_night_of_one_camera_needs_little_memory() -> None:
    """3,000 frames within the threshold of one another are 4.5 million pairs, of which 2,999 links are kept."""
    hashes = camera_frames(3_000, share=0.03)
    tracemalloc.start()
    n_links = sum(len(hits.query) for hits in iter_links(hashes, 31))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n_links == 2_999
    assert peak < 100e6


@pytest.mark.long
def test_twenty_thousand_frames_of_one_camera_take_less_than_a_minute() -> None:
    hashes, start = camera_frames(20_000, share=0.03), time.perf_counter()
    tracemalloc.start()
    assert len(np.unique(connect_near(hashes, 31))) == 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert time.perf_counter() - start < 60
    assert peak < 300e6


def test_leaders_are_apart_and_everyone_is_near_its_leader() -> None:
    hashes = camera_frames(200)
    leader, distance = lead(hashes, 20)
    led = np.unique(leader)
    assert (leader[led] == led).all()
    apart = np.bitwise_count(hashes[led][:, None] ^ hashes[led][None]).sum(axis=2)
    assert (apart + 999 * np.eye(len(led), dtype=int) > 20).all()
    assert (np.bitwise_count(hashes ^ hashes[leader]).sum(axis=1) == distance).all()
    assert distance.max() <= 20
    assert 1 < len(led) < 200
