"""Retrieval as BioCAP and INQUIRE report it, from the published layouts to the scores."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score

from linnaea.cli import main
from linnaea.errors import LinnaeaError
from linnaea.evaluate.retrieval import score_ranking, score_retrieval
from linnaea.evaluate.tasks import SENTENCES, TASKS, newer_layouts
from linnaea.evaluate.tasks.photographs import open_task

MODEL = ("--device", "cpu", "--allow-different")


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def make_pairs(seed: int, n: int, n_sentences: int) -> tuple[np.ndarray, list[str], dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    sentences = [f"sentence {number}" for number in rng.integers(0, n_sentences, n)]
    text = dict(zip(dict.fromkeys(sentences), unit(rng.normal(size=(n, 6))), strict=False))
    images = unit(np.stack([text[sentence] for sentence in sentences]) + rng.normal(scale=0.6, size=(n, 6)))
    return images, sentences, text


def biocap_recall(similarity: np.ndarray, k: int) -> float:
    """Its loop over pictures: the own place must be among the last k of the sorted scores."""
    return float(np.mean([row in similarity[row].argsort()[-k:] for row in range(len(similarity))]))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.integers(12, 40))
def test_recall_is_biocaps_where_no_sentence_occurs_twice(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    text = unit(rng.normal(size=(n, 6)))
    images = unit(text + rng.normal(scale=0.6, size=(n, 6)))
    metrics = score_retrieval(images, [str(row) for row in range(n)], lambda sentences: text[: len(sentences)])
    similarity = images @ text.T
    for k in (1, 5, 10):
        assert metrics[f"image_to_text/recall_{k}"] == pytest.approx(biocap_recall(similarity, k))
        assert metrics[f"text_to_image/recall_{k}"] == pytest.approx(biocap_recall(similarity.T, k))
        assert metrics[f"image_to_text/same_sentence/recall_{k}"] == metrics[f"image_to_text/recall_{k}"]
        assert metrics[f"text_to_image/same_sentence/recall_{k}"] == metrics[f"text_to_image/recall_{k}"]
        assert metrics[f"chance/recall_{k}"] == pytest.approx(k / n)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999))
def test_equal_sentences_are_shuffled_fairly(seed: int) -> None:
    """The expectation over orders of equal candidates is the mean of many published sorts with shuffled columns."""
    images, sentences, text = make_pairs(seed, 16, 7)
    metrics = score_retrieval(images, sentences, lambda wanted: np.stack([text[one] for one in wanted]))
    text_NE = np.stack([text[sentence] for sentence in sentences])
    similarity, rng, runs = images @ text_NE.T, np.random.default_rng(seed), []
    for _ in range(200):
        order = rng.permutation(16)
        ranked = similarity[:, order].argsort(axis=1, kind="stable")[:, ::-1]
        runs.append([[np.mean([row in order[ranked[row, :k]] for row in range(16)])] for k in (1, 5)])
    for place, k in enumerate((1, 5)):
        assert metrics[f"image_to_text/recall_{k}"] == pytest.approx(np.mean(runs, axis=0)[place][0], abs=0.06)
    right = [any(sentences[column] == sentences[row] for column in similarity[row].argsort()[-1:]) for row in range(16)]
    assert metrics["image_to_text/same_sentence/recall_1"] == pytest.approx(np.mean(right))
    assert metrics["n_sentences"] == len(set(sentences))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.integers(1, 5))
def test_a_ranking_is_scored_as_inquire_does(seed: int, n_queries: int) -> None:
    rng = np.random.default_rng(seed)
    queries = [f"query {number % n_queries}" for number in range(30)]
    images, relevant = unit(rng.normal(size=(30, 5))), rng.integers(0, 2, 30)
    relevant[:n_queries] = 1
    text = dict(zip(dict.fromkeys(queries), unit(rng.normal(size=(n_queries, 5))), strict=True))
    metrics = score_ranking(images, queries, relevant, lambda wanted: np.stack([text[one] for one in wanted]))
    precision, gain, reciprocal = [], [], []
    for query, vector in text.items():
        rows = [row for row, own in enumerate(queries) if own == query]
        truth, score = relevant[rows], images[rows] @ vector
        precision.append(average_precision_score(truth, score))
        gain.append(ndcg_score([truth], [score]) if len(rows) > 1 else 1.0)
        reciprocal.append(1 / (1 + list(truth[np.argsort(-score)]).index(1)))
    assert metrics["rerank/ap"] == pytest.approx(np.mean(precision))
    assert metrics["rerank/ndcg"] == pytest.approx(np.mean(gain))
    assert metrics["rerank/mrr"] == pytest.approx(np.mean(reciprocal))


def test_a_query_without_an_answer_is_left_out() -> None:
    images, text = np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)[:2]
    metrics = score_ranking(images, ["a", "a", "b"], np.array([0, 1, 0]), lambda _: text)
    assert metrics == {"n_queries": 1.0, "rerank/ap": 0.5, "rerank/ndcg": pytest.approx(0.6309, abs=1e-4),
                       "rerank/mrr": 0.5}  # fmt: skip
    with pytest.raises(LinnaeaError, match="no query has a relevant picture"):
        score_ranking(images, ["a", "a", "b"], np.array([0, 0, 0]), lambda _: text)


# From files


def pictures(photographs: Path, n: int) -> list[bytes]:
    table = pl.read_csv(photographs / "metadata.csv", infer_schema=False)
    return [(photographs / path).read_bytes() for path in table["filepath"][:n]]


def biocap_list(rows: list[tuple[str, str]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(("", "id", "source_url", "captions", "md5"))
    writer.writerows((number, key, f"https://example.org/{key}/1200", said, "0") for number, (key, said) in
                     enumerate(rows))  # fmt: skip
    return stream.getvalue()


SAID = [("11", "Aberts_Towhee, Large sparrow, thick bill."), ("12", "Aberts_Towhee, In dry habitats."),
        ("13", "Aberts_Towhee, In dry habitats."), ("14", "A_Hawk, Soars.")]  # fmt: skip


@pytest.fixture
def birds(photographs: Path, tmp_path: Path) -> Path:
    root = tmp_path / "cornell-birds"
    (root / "images").mkdir(parents=True)
    for (key, _), data in zip(SAID, pictures(photographs, 4), strict=True):
        (root / "images" / f"{key}.jpg").write_bytes(data)
    (root / "cornell_bird.csv").write_text(biocap_list(SAID))
    return root


def test_biocaps_lists(birds: Path) -> None:
    table = newer_layouts.read_sentences(birds, "cornell_bird.csv")
    assert table["file"].to_list() == [f"images/{key}.jpg" for key, _ in SAID]
    assert table["sentence"].to_list() == [said for _, said in SAID]
    with pytest.raises(LinnaeaError, match=r"4 images instead of 7,007, 3 classes instead of 5,913"):
        open_task(TASKS["cornell-birds"], birds)
    (birds / "images/12.jpg").unlink()
    assert open_task(TASKS["cornell-birds"], birds, allow_different=True).n_missing == 1


def test_what_a_download_fetched_is_used(birds: Path) -> None:
    (birds / "files").mkdir()
    (birds / "files/x.jpg").write_bytes((birds / "images/11.jpg").read_bytes())
    pl.DataFrame({"source_url": ["https://example.org/11/1200"], "path": ["files/x.jpg"]}).write_parquet(
        birds / "images.parquet"
    )
    images = open_task(TASKS["cornell-birds"], birds, allow_different=True)
    assert (len(images), images.n_missing) == (1, 3)
    assert images.read(0) == (birds / "files/x.jpg").read_bytes()


def test_retrieval_on_the_command_line(
    trained: Path, birds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["evaluate", str(trained), "--root", str(birds), "--output", str(out), *MODEL]
    assert main([*words, "--task", "cornell-birds"]) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["image_to_text/recall_5"] == metrics["text_to_image/recall_10"] == 1
    assert 0 <= metrics["image_to_text/recall_1"] <= metrics["image_to_text/same_sentence/recall_1"]
    assert "image_to_text/recall_1" in capsys.readouterr().out
    (birds / "metadata.csv").write_text("file_name,sentence\nimages/11.jpg,a towhee\nimages/14.jpg,a hawk\n")
    assert main([*words, "--task", SENTENCES.name, "--templates", "plain"]) == 0
    assert json.loads((out / "metrics.json").read_text())["n_images"] == 2


def test_inquire_as_the_hub_has_it(trained: Path, photographs: Path, tmp_path: Path) -> None:
    root = tmp_path / "inquire-rerank"
    (root / "data").mkdir(parents=True)
    cells = [{"bytes": data, "path": None} for data in pictures(photographs, 4)]
    pl.DataFrame(
        {"image": cells, "query": ["A mongoose standing"] * 2 + ["puffins carrying food"] * 2, "relevant": [1, 0, 0, 1],
         "clip_score": [0.1, 0.2, 0.3, 0.4], "inat24_image_id": [1, 2, 3, 4], "iconic_group": ["Mammals"] * 4}
    ).write_parquet(root / "data/test-00000-of-00001.parquet")  # fmt: skip
    out = tmp_path / "out"
    words = ["evaluate", str(trained), "--task", "inquire-rerank", "--root", str(root), "--output", str(out), *MODEL]
    assert main(words) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["n_queries"] == 2
    assert metrics["rerank/ap"] in (0.5, 0.75, 1.0)
    images = open_task(TASKS["inquire-rerank"], root, allow_different=True)
    assert images.read(3) == pictures(photographs, 4)[3]
