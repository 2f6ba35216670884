"""Score tasks other than classification: by the protocols of BioCLIP 2 (arXiv 2505.23883), BioCAP and INQUIRE."""

from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float32, Int64
from numpy import ndarray

from linnaea.errors import LinnaeaError
from linnaea.evaluate.beyond_species import (
    AWA2_HEAD,
    FISHNET_HEAD,
    N_RUNS,
    PUBLISHED_THRESHOLD,
    RunScore,
    all_right,
    macro_f1,
    predict_traits,
    score_discovery,
    score_pairs,
    score_transfer,
)
from linnaea.evaluate.retrieval import EncodeSentences, score_ranking, score_retrieval
from linnaea.evaluate.tasks import Task
from linnaea.evaluate.tasks.layouts import TRAIT
from linnaea.evaluate.tasks.photographs import TaskImages
from linnaea.jobs import OnProgress, ignore_progress
from linnaea.storage import read_regular

OLD_CLASSES = "old-classes.txt"
"""A file next to Herbarium 19's folders with the names of the old classes, one per line."""


def score_task(
    task: Task,
    images: TaskImages,
    features_NE: Float32[ndarray, "N E"],
    encode: EncodeSentences,
    *,
    n_jobs: int = 1,
    on_progress: OnProgress = ignore_progress,
) -> dict[str, int | float]:
    """Return the flat metrics of a task with any protocol but ``classes``; ``encode`` gives the vectors of sentences.

    Raises:
        LinnaeaError: A split or the list of old classes is missing.
    """
    match task.protocol:
        case "transfer":
            return _transfer(images, features_NE)
        case "pairs":
            return _pairs(images, features_NE, n_jobs, on_progress)
        case "traits":
            return _traits(task, images, features_NE, on_progress)
        case "discovery":
            return _discovery(images, features_NE)
        case "retrieval":
            return dict(score_retrieval(features_NE, images.extra["sentence"].to_list(), encode))
        case "ranking":
            relevant = images.extra["relevant"].to_numpy()
            return dict(score_ranking(features_NE, images.extra["sentence"].to_list(), relevant, encode))
        case _:
            raise ValueError(f"task {task.name}: protocol {task.protocol} is scored as classes")


def _flat(place: str, score: RunScore) -> dict[str, int | float]:
    means: dict[str, int | float] = {f"{place}/mean": score.mean, f"{place}/std": score.std}
    if score.interval:
        means |= {f"{place}/low": score.interval.low, f"{place}/high": score.interval.high}
    return means | ({f"{place}/mean_by_class": float(np.mean(score.by_class))} if score.by_class else {})


def _is_train(images: TaskImages) -> ndarray:
    is_train = (images.index["split"] == "train").to_numpy()
    if is_train.all() or not is_train.any():
        raise LinnaeaError(
            f"{images.directory}: only {'train' if is_train.all() else 'test'} images; the task needs train and test"
        )
    return np.asarray(is_train)


def _labels(images: TaskImages) -> Int64[ndarray, "N"]:  # noqa: F821
    return images.index["taxon_id"].to_numpy().astype(np.int64)


def _transfer(images: TaskImages, features: ndarray) -> dict[str, int | float]:
    train, label = _is_train(images), _labels(images)
    return _flat("transfer", score_transfer(features[train], label[train], features[~train], label[~train]))


def _pairs(images: TaskImages, features: ndarray, n_jobs: int, on_progress: OnProgress) -> dict[str, int | float]:
    tasks = images.extra["task"].to_list()
    score, own = score_pairs(
        features, _labels(images), _is_train(images), tasks, n_jobs=n_jobs, on_progress=on_progress
    )
    clusters = dict(zip(tasks, images.extra["cluster"], strict=True))
    table = pl.DataFrame({"cluster": [clusters[name] for name in own], "right": list(own.values())})
    by_cluster = table.group_by("cluster").mean().sort("cluster").iter_rows()
    mean_of_clusters = {f"pairs/{cluster}/mean_of_tasks": value for cluster, value in by_cluster}
    return {"n_tasks": len(own)} | _flat("pairs", score) | mean_of_clusters


def _traits(task: Task, images: TaskImages, features: ndarray, on_progress: OnProgress) -> dict[str, int | float]:
    """Score traits: ``traits/mean`` thresholds logits at 0.5 as published, ``traits/at_zero/mean`` at 0."""
    trait_NA = images.extra.select(column for column in images.extra.columns if column.startswith(TRAIT)).to_numpy()
    train = _is_train(images)
    is_awa2 = task.name == "awa2"
    scores: dict[str, list[float]] = {}
    right: dict[str, list[ndarray]] = {}
    for run in range(N_RUNS):
        head = AWA2_HEAD if is_awa2 else FISHNET_HEAD
        logits = predict_traits(features[train], trait_NA[train], features[~train], head, seed=run)
        for name, said in (("", logits > PUBLISHED_THRESHOLD), ("at_zero/", logits > 0)):
            if is_awa2:
                scores.setdefault(f"traits/{name}first_two", []).append(macro_f1(said, trait_NA[~train], first=2))
                scores.setdefault(f"traits/{name}", []).append(macro_f1(said, trait_NA[~train]))
            else:
                right.setdefault(f"traits/{name}", []).append(all_right(said, trait_NA[~train]))
        on_progress(run + 1, N_RUNS)
    metrics: dict[str, int | float] = {"n_traits": trait_NA.shape[1], "n_test": int((~train).sum())}
    for place, values in scores.items():
        metrics |= _flat(place.rstrip("/"), RunScore(runs=tuple(values)))
    for place, images_right in right.items():
        metrics |= _flat(place.rstrip("/"), RunScore.of_images(images_right, _labels(images)[~train]))
    return metrics


def _discovery(images: TaskImages, features: ndarray) -> dict[str, int | float]:
    old = _read_old_classes(images.directory / OLD_CLASSES)
    names = [images.raw_labels[number] for number in range(len(images.raw_labels))]
    if unknown := old - set(names):
        raise LinnaeaError(f"{images.directory / OLD_CLASSES}: {sorted(unknown)[0]!r} is not a class folder")
    is_old = np.array([name in old for name in names])
    if is_old.all() or not is_old.any():
        raise LinnaeaError(f"{images.directory / OLD_CLASSES}: must name some of the classes, not all")
    metrics: dict[str, int | float] = {"n_old_classes": int(is_old.sum())}
    for name, score in score_discovery(features, _labels(images), is_old).items():
        metrics |= _flat(f"discovery/{name}", score)
    return metrics


def _read_old_classes(path: Path) -> set[str]:
    try:
        return {line.strip() for line in read_regular(path).decode("utf-8", "replace").splitlines() if line.strip()}
    except OSError as error:
        raise LinnaeaError(
            f"{path}: {error.strerror}; list the old classes of the published split in it, one per line"
        ) from error
