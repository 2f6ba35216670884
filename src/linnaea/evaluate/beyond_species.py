"""Score BioCLIP 2's tasks beyond species (arXiv 2505.23883, section 4.3) on frozen features from one pass.

Every function takes features and labels and returns one score per run; the papers report mean and standard deviation
over runs. Random numbers are seeded with ``seed + run``. They differ from those of the published scripts, which depend
on the machine, so scores agree within the spread of the runs, but not example by example.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int
from numpy import ndarray

from linnaea.arrays import to_unit
from linnaea.errors import LinnaeaError
from linnaea.evaluate.intervals import Interval, bootstrap_mean, mean_of_classes
from linnaea.evaluate.probes import simple_shot
from linnaea.jobs import OnProgress, ignore_progress

N_RUNS = 3
N_TRANSFERS = 5
BATCH = 64
HIDDEN = 512
PUBLISHED_THRESHOLD = 0.5
"""The published scripts compare *logits* with this threshold, which corresponds to a probability of 0.62."""


@dataclass(frozen=True, kw_only=True)
class RunScore:
    """The scores of repeated runs."""

    runs: tuple[float, ...]
    by_class: tuple[float, ...] = ()
    """The same as means over classes, where the scores are means over images."""
    interval: Interval | None = None
    """The interval of the mean for other classes, or binary tasks, where the scores are means over images."""

    @classmethod
    def of_images(cls, right: Sequence[Bool[ndarray, "N"]], group_N: Int[ndarray, "N"]) -> "RunScore":  # noqa: F821
        """Return the score of runs over the same images, whose groups are drawn whole for the interval."""
        asked_N = np.full(len(group_N), len(right))
        interval = bootstrap_mean(np.mean(right, axis=0), group_N=group_N, weight_N=asked_N) if len(group_N) else None
        return cls(runs=tuple(float(run.mean()) if len(run) else float("nan") for run in right), interval=interval)

    @property
    def mean(self) -> float:
        return float(np.mean(self.runs))

    @property
    def std(self) -> float:
        """Population standard deviation over the runs."""
        return float(np.std(self.runs))


@dataclass(frozen=True, kw_only=True)
class TraitHead:
    """Training settings of the trait classifier: two linear layers on frozen features with dropout between them."""

    learning_rate: float
    epochs: int
    n_runs: int = N_RUNS


FISHNET_HEAD = TraitHead(learning_rate=1e-4, epochs=50)
AWA2_HEAD = TraitHead(learning_rate=1e-5, epochs=50)
"""The learning rate is the published one. The number of epochs is FishNet's, because AwA2's was not found."""


def predict_traits(
    train_SE: Float32[ndarray, "S E"],
    trait_SA: Int[ndarray, "S A"],
    test_QE: Float32[ndarray, "Q E"],
    head: TraitHead,
    *,
    seed: int = 0,
) -> Float32[ndarray, "Q A"]:
    """Train a classifier of ``A`` binary traits and return its logits for each query.

    Training uses Adam with batches of 64 and halves the learning rate every 20 epochs. Features are not normalised.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = torch.nn.Sequential(
            torch.nn.Linear(train_SE.shape[1], HIDDEN),
            torch.nn.Dropout(0.5),
            torch.nn.Linear(HIDDEN, trait_SA.shape[1]),
        )
        optimizer = torch.optim.Adam(classifier.parameters(), lr=head.learning_rate)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=20, gamma=0.5)
        features, target = torch.from_numpy(np.asarray(train_SE)), torch.from_numpy(np.asarray(trait_SA)).float()
        for _ in range(head.epochs):
            for rows in torch.split(torch.randperm(len(features)), BATCH):
                output = classifier(features[rows])
                loss = torch.nn.functional.binary_cross_entropy_with_logits(output, target[rows])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            schedule.step()
        classifier.eval()
        with torch.no_grad():
            return np.asarray(classifier(torch.from_numpy(np.asarray(test_QE))).numpy())


def all_right(said_QA: Bool[ndarray, "Q A"], truth_QA: Int[ndarray, "Q A"]) -> Bool[ndarray, "Q"]:  # noqa: F821
    """Return which images have every trait right (FishNet)."""
    return np.asarray((said_QA == truth_QA.astype(bool)).all(axis=1))


def macro_f1(said_QA: Bool[ndarray, "Q A"], truth_QA: Int[ndarray, "Q A"], *, first: int | None = None) -> float:
    """Return the F1 score of the positive answer, averaged over traits (AwA2).

    A trait that is never predicted and never true scores 0. ``first`` limits the mean to that many traits. The
    published script asks scikit-learn for the labels 0 and 1, which for a table of traits are columns 0 and 1; the
    published score is therefore ``first=2`` of the 85 traits.
    """
    from sklearn.metrics import f1_score

    said, truth = said_QA[:, :first], truth_QA[:, :first].astype(bool)
    return float(f1_score(truth, said, average="macro", zero_division=0.0))


def answer_pairs(
    train_SE: Float[ndarray, "S E"],
    label_S: Int[ndarray, "S"],  # noqa: F821
    test_QE: Float[ndarray, "Q E"],
    *,
    seed: int = 0,
    n_draws: int = 100,
    n_jobs: int = 1,
) -> Int[ndarray, "Q"]:  # noqa: F821
    """Answer one of NeWT's binary tasks with an SVM on centred, normalised and scaled features.

    A random search draws 100 settings of C (log-uniform, 1e-3 to 10), gamma (log-uniform, 1e-4 to 1e-3) and one of
    four kernels. It uses five-fold cross-validation, or fewer folds if an answer has fewer than five training images.

    Raises:
        LinnaeaError: An answer has fewer than two training images.
    """
    from scipy.stats import loguniform
    from sklearn.model_selection import RandomizedSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    centre = train_SE.mean(axis=0, keepdims=True)
    space = {
        "svc__C": loguniform(1e-3, 1e1),
        "svc__kernel": ["rbf", "linear", "sigmoid", "poly"],
        "svc__gamma": loguniform(1e-4, 1e-3),
    }
    _, counts = np.unique(label_S, return_counts=True)
    if len(counts) < 2 or counts.min() < 2:
        raise LinnaeaError(f"a binary task has {counts.tolist()} training images per answer; each answer needs two")
    pipeline = make_pipeline(StandardScaler(), SVC())
    search = RandomizedSearchCV(
        pipeline, space, n_iter=n_draws, random_state=seed, n_jobs=n_jobs, cv=min(5, int(counts.min()))
    )
    search.fit(to_unit(train_SE - centre), label_S)
    return np.asarray(search.predict(to_unit(test_QE - centre)))


def score_pairs(
    features_NE: Float[ndarray, "N E"],
    label_N: Int[ndarray, "N"],  # noqa: F821
    is_train_N: Bool[ndarray, "N"],  # noqa: F821
    task_N: Sequence[str],
    *,
    n_runs: int = N_RUNS,
    n_draws: int = 100,
    n_jobs: int = 1,
    on_progress: OnProgress = ignore_progress,
) -> tuple[RunScore, dict[str, float]]:
    """Return the accuracy over the test images of all tasks for each run, and each task's accuracy in the first run.

    Tasks are drawn whole for the interval: the images of a task are answered by one classifier.
    """
    tasks = np.asarray(task_N)
    names = sorted(set(task_N))
    runs, own = [], {}
    for run in range(n_runs):
        right: list[ndarray] = []
        for number, name in enumerate(names):
            train, test = (tasks == name) & is_train_N, (tasks == name) & ~is_train_N
            said = answer_pairs(
                features_NE[train], label_N[train], features_NE[test], seed=run, n_draws=n_draws, n_jobs=n_jobs
            )
            right.append(said == label_N[test])
            if run == 0:
                own[name] = float(right[-1].mean())
            on_progress(run * len(names) + number + 1, n_runs * len(names))
        runs.append(np.concatenate(right))
    sizes = [int(((tasks == name) & ~is_train_N).sum()) for name in names]
    return RunScore.of_images(runs, np.repeat(np.arange(len(names)), sizes)), own


def score_transfer(
    train_SE: Float[ndarray, "S E"],
    label_S: Int[ndarray, "S"],  # noqa: F821
    test_QE: Float[ndarray, "Q E"],
    truth_Q: Int[ndarray, "Q"],  # noqa: F821
) -> RunScore:
    """Score SimpleShot with one image per class of another split, over :data:`N_TRANSFERS` draws.

    BioCLIP 2 evaluates PlantDoc this way.
    """
    n_classes = int(max(label_S.max(), truth_Q.max())) + 1
    runs, by_class = [], []
    for seed in range(N_TRANSFERS):
        rng = np.random.default_rng(seed)
        support = np.concatenate(
            [rng.permutation(np.flatnonzero(label_S == label))[:1] for label in np.unique(label_S)]
        )
        runs.append(simple_shot(train_SE[support], label_S[support], test_QE, n_classes) == truth_Q)
        by_class.append(mean_of_classes(runs[-1], truth_Q))
    return replace(RunScore.of_images(runs, truth_Q), by_class=tuple(by_class))


def score_discovery(
    features_NE: Float32[ndarray, "N E"],
    label_N: Int[ndarray, "N"],  # noqa: F821
    is_old_K: Bool[ndarray, "K"],  # noqa: F821
) -> dict[str, RunScore]:
    """Score generalised category discovery (Vaze et al., CVPR 2022), as BioCLIP 2 does for Herbarium 19.

    80% of the images of old classes are labelled. Semi-supervised k-means finds as many clusters as there are classes.
    Clusters are matched to classes on the unlabelled images, separately for old and new classes. The keys are ``all``,
    ``old`` and ``new``.
    """
    old_N = is_old_K[label_N]
    candidates = np.flatnonzero(old_N)
    labelled = np.zeros(len(label_N), bool)
    labelled[np.random.RandomState(0).choice(candidates, int(0.8 * len(candidates)), replace=False)] = True
    parts = {"all": ~labelled, "old": old_N & ~labelled, "new": ~old_N}
    rights = []
    for run in range(N_RUNS):
        cluster_N = cluster_partly_labelled(features_NE, label_N, labelled, len(is_old_K), seed=run)
        right = np.zeros(len(label_N), bool)
        for part in (old_N & ~labelled, ~old_N):
            right[part] = match_clusters(cluster_N[part], label_N[part])
        rights.append(right)
    return {name: RunScore.of_images([right[part] for right in rights], label_N[part]) for name, part in parts.items()}


_STEPS_AT_MOST, _STILL = 10, 1e-4


def cluster_partly_labelled(
    features_NE: Float32[ndarray, "N E"],
    label_N: Int[ndarray, "N"],  # noqa: F821
    labelled_N: Bool[ndarray, "N"],  # noqa: F821
    n_clusters: int,
    *,
    seed: int = 0,
) -> Int[ndarray, "N"]:  # noqa: F821
    """Cluster with k-means, keeping labelled images in the cluster of their class.

    The remaining centres are initialised with k-means++.
    """
    classes = np.unique(label_N[labelled_N])
    place = np.searchsorted(classes, label_N)
    fixed = np.where(labelled_N, place, -1)
    centres = np.stack([features_NE[labelled_N & (label_N == label)].mean(axis=0) for label in classes])
    free = features_NE[~labelled_N]
    rng = np.random.default_rng(seed)
    nearest = _square_distances(free, centres).min(axis=1)
    added = []
    for _ in range(n_clusters - len(classes)):
        total = nearest.sum()
        chosen = rng.choice(len(free), p=nearest / total) if total > 0 else rng.integers(len(free))
        added.append(free[chosen])
        nearest = np.minimum(nearest, _square_distances(free, free[chosen][None])[:, 0])
    centres = np.concatenate([centres, np.stack(added)]) if added else centres
    cluster_N = fixed.copy()
    for _ in range(_STEPS_AT_MOST):
        cluster_N[~labelled_N] = _square_distances(free, centres).argmin(axis=1)
        counts = np.bincount(cluster_N, minlength=len(centres))
        sums = np.zeros(centres.shape, np.float64)
        np.add.at(sums, cluster_N, features_NE)
        moved = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centres).astype(np.float32)
        shift = float(((moved - centres) ** 2).sum())
        centres = moved
        if shift < _STILL:
            break
    return cluster_N


def match_clusters(cluster_N: Int[ndarray, "N"], label_N: Int[ndarray, "N"]) -> Bool[ndarray, "N"]:  # noqa: F821
    """Return which images are right under the best one-to-one matching of clusters and classes (Hungarian method)."""
    from scipy.optimize import linear_sum_assignment

    if not len(label_N):
        return np.zeros(0, bool)
    n = int(max(cluster_N.max(), label_N.max())) + 1
    together = np.zeros((n, n), np.int64)
    np.add.at(together, (cluster_N, label_N), 1)
    rows, columns = linear_sum_assignment(together, maximize=True)
    class_of = np.empty(n, np.int64)
    class_of[rows] = columns
    return np.asarray(class_of[cluster_N] == label_N)


def _square_distances(points: Float[ndarray, "N E"], centres: Float[ndarray, "K E"]) -> Float64[ndarray, "N K"]:
    squares = (points**2).sum(axis=1)[:, None] - 2 * points @ centres.T + (centres**2).sum(axis=1)
    return np.asarray(np.maximum(squares, 0), np.float64)
