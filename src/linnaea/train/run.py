"""Run a training, from a recipe to a model folder: :func:`train` is the verb, :func:`run_training` does the work."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from linnaea import __version__
from linnaea.counting import count
from linnaea.data.shards import DataSet, write_parquet
from linnaea.errors import UsageError
from linnaea.model.folders import BPE_FILE, RECIPE_FILE
from linnaea.model.load import TaxonModel, save_model
from linnaea.model.text import TokenTable, make_token_table
from linnaea.model.transfer import pinned_pixels
from linnaea.predict.label_lists import taxa_of_checklist
from linnaea.predict.labels import N_PHOTOGRAPHS, LabelBank, load_class_heads
from linnaea.progress import progress_bar
from linnaea.taxonomy.checklists.store import load_checklist
from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.taxon import PHOTO_TEMPLATE
from linnaea.train.batches import BatchSource, Loader, empty_pixels
from linnaea.train.claim import (
    COMPILED_FOLDER,
    TrainingRun,
    check_same_recipe,
    claimed,
    open_part,
    read_started,
)
from linnaea.train.costs import Plan, make_meter, make_plan
from linnaea.train.distil import blend_towers, load_teacher
from linnaea.train.fit import FitResult, Runtime, fit
from linnaea.train.heads import find_known_classes, imprint_class_heads, make_head_banks, save_head_banks, take_off
from linnaea.train.locked import encode_views, lock, read_views
from linnaea.train.logs import LOG_FILE, Meter
from linnaea.train.objectives import Guides
from linnaea.train.parallel import ALONE, Peers, Spread, join
from linnaea.train.recipe import Recipe
from linnaea.train.recipes import choose_recipe
from linnaea.train.relatives import Relatives, find_relatives
from linnaea.train.replay import MixedLoader, make_replay_loader
from linnaea.train.start import learn_vocabulary_once, make_ready, make_start, tune
from linnaea.train.tuning import merge_low_rank, tuned_device

OnStep = Callable[[int, int, dict[str, Any]], None]
"""Called after each step with its number, the total number of steps, and the step's line of the log."""
Evaluate = Callable[[TaxonModel], Mapping[str, float]]
"""Scores a model during training; the scores go into the log."""


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """The result of :func:`train`."""

    run: Path
    """Folder of the run, with the recipe, checkpoints and ``metrics.jsonl``."""
    model: Path
    """Folder of the model; it exists once the run has finished."""
    steps: int
    """Total number of steps taken."""
    finished: bool
    """False if the run was stopped (Ctrl-C, SIGTERM); ``resume=True`` continues it."""
    metrics: Mapping[str, Any] = field(repr=False)
    """The last line of ``metrics.jsonl``."""
    n_unreadable: int = 0
    """Samples that could not be read during this call; other samples replaced them."""

    def __repr__(self) -> str:
        state = "" if self.finished else ", stopped"
        loss = f", loss {self.metrics['loss']:.3f}" if "loss" in self.metrics else ""
        return f"<TrainResult {self.run}: {count(self.steps, 'step')}{state}{loss}>"


def train(
    recipe: str | Recipe | None = None,
    *,
    data: str | Path | None = None,
    output: str | Path,
    resume: bool = False,
    evaluate: Evaluate | None = None,
    device: str = "auto",
    workers: int = 2,
    spread: Spread = "ddp",
    wandb: str = "",
    on_notice: Callable[[str], None] = lambda text: None,
    **overrides: Any,
) -> TrainResult:
    """Train a model with a recipe, such as ``train("small", data="data/", output="runs/mine", epochs=4)``.

    ``recipe`` is a name (``linnaea list recipes``) or a :class:`~linnaea.train.recipe.Recipe`; ``overrides`` are
    values of the recipe by the names of the command's options (``lr=1e-4``, ``batch_size=64``, ``start="nano"``).
    ``data`` is the folder of a data set, and ``output`` the folder of the run. ``resume`` continues the run in that
    folder, with the values that it was started with; ``recipe`` and ``data`` may then be left out.

    ``evaluate`` scores the model every ``evaluate_every`` steps, for the log
    (:func:`linnaea.evaluate.validation.make_validator` makes one). ``workers`` is the number of decoding threads, which
    does not change the result. ``spread`` and ``wandb`` are as in :class:`~linnaea.train.fit.Runtime`. ``on_notice``
    receives a line about each sample that could not be read and about towers that could not be compiled. Under
    ``torchrun``, all processes make the same call.

    Raises:
        UsageError: There is no such recipe or override, a value is not valid, or the run would not use it.
        LinnaeaError: The folder holds another run, the data set or the start cannot be read, the loss is not finite,
            or a checkpoint cannot be written. A run that fails before its first checkpoint leaves its folder as it was.
    """
    started = find_started(recipe, output) if resume else None
    if started is not None:
        recipe, data = started.recipe, data or started.data_dir
    if recipe is None or data is None:
        raise UsageError("give a recipe and a data set; only a run that is resumed has its own")
    name, chosen = choose_recipe(recipe, overrides, evaluates=evaluate is not None)
    run = TrainingRun(recipe_name=started.recipe_name if started else name, recipe=chosen, data_dir=Path(data),
                      run_dir=Path(output), device=device, n_workers=workers, spread=spread, wandb=wandb)  # fmt: skip
    with join(device) as peers:
        tell = on_notice if peers.is_first else _ignore
        if resume and peers.first_does(lambda: _is_finished(run)):
            tell(f"{run.run_dir}: the run is finished; its model is {run.model_dir}")
            metrics = _read_last_metrics(run.run_dir)
            return TrainResult(run=run.run_dir, model=run.model_dir, steps=metrics.get("step", 0), finished=True,
                               metrics=metrics)  # fmt: skip
        with claimed(run, peers, resume=resume), _shown(peers, tell) as (on_step, on_view):
            result = run_training(
                run, on_step, evaluate or _score_nothing, peers=peers, on_notice=tell, on_view=on_view
            )
        return TrainResult(run=run.run_dir, model=run.model_dir, steps=result.step, finished=result.finished,
                           metrics=_read_last_metrics(run.run_dir), n_unreadable=result.n_unreadable)  # fmt: skip


def find_started(recipe: str | Recipe | None, output: str | Path) -> TrainingRun | None:
    """Return the run to resume in a folder; ``None`` if it is not one of this recipe.

    Raises:
        LinnaeaError: No recipe is given, and there is no run.
    """
    folder = Path(output)
    if isinstance(recipe, Recipe) or (recipe is not None and not (folder / RECIPE_FILE).exists()):
        return None
    started = read_started(folder)
    return started if recipe in (None, started.recipe_name) else None


def plan(recipe: str | Recipe, *, data: str | Path, evaluates: bool = False, **overrides: Any) -> Plan:
    """Estimate the costs of :func:`train` without taking a step or downloading weights.

    ``evaluates`` says whether ``train`` would be given an ``evaluate``.

    Raises:
        UsageError: As in :func:`train`.
        LinnaeaError: The data set or the start cannot be read.
    """
    name, chosen = choose_recipe(recipe, overrides, evaluates=evaluates)
    return make_plan(
        chosen, open_part(TrainingRun(recipe_name=name, recipe=chosen, data_dir=Path(data), run_dir=Path()))
    )


def _ignore(text: str) -> None:
    pass


def _score_nothing(model: TaxonModel) -> Mapping[str, float]:
    return {}


def _is_finished(run: TrainingRun) -> bool:
    check_same_recipe(run)
    return run.is_finished


def _read_last_metrics(run_dir: Path) -> dict[str, Any]:
    path = run_dir / LOG_FILE
    lines = path.read_text().splitlines() if path.exists() else []
    last: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    return last


@contextmanager
def _shown(peers: Peers, tell: Callable[[str], None]) -> Iterator[tuple[OnStep, Callable[[int, int], None]]]:
    """Yield callbacks that show progress of steps and of encoded views; only the first process shows it."""
    if not peers.is_first:
        yield (lambda step, total, line: None), (lambda done, total: None)
        return
    with progress_bar("training", "steps") as on_progress:

        def on_step(step: int, total: int, line: dict[str, Any]) -> None:
            on_progress(step, total, f"loss {line['loss']:.3f}, {line['samples_per_s']:.0f} samples/s")
            for sample in line["unreadable"]:
                tell(f"sample {sample}; another sample replaces it")

        yield on_step, lambda done, total: on_progress(done, total, "pictures encoded")


def run_training(
    run: TrainingRun,
    on_step: OnStep = lambda step, total, line: None,
    evaluate: Evaluate = _score_nothing,
    *,
    peers: Peers = ALONE,
    on_notice: Callable[[str], None] = _ignore,
    on_view: Callable[[int, int], None] = lambda done, total: None,
) -> FitResult:
    """Train a run, starting from its newest checkpoint if there is one.

    Writes ``model/``, ``checkpoints/`` and ``metrics.jsonl`` to the folder of the run. With ``peers`` (see
    :func:`linnaea.train.parallel.join`), all processes make the same call.

    Raises:
        LinnaeaError: As in :func:`linnaea.train.fit.fit`, or the data set does not fit the recipe.
    """
    recipe, dataset = run.recipe, open_part(run)
    torch.manual_seed(recipe.seed)
    model = make_start(
        recipe.tower,
        dataset,
        seed=recipe.seed,
        device=run.device,
        vocabulary=lambda *of: peers.first_does(lambda: learn_vocabulary_once(run.run_dir / BPE_FILE, *of)),
    )
    by_rank = recipe.descent.objective == "level_restricted"
    table = make_token_table(model.tokenizer, dataset.taxa_list, recipe.feed.text_types, with_ranks=by_rank)
    banks = load_class_heads(recipe.tower.start) if recipe.tower.start else {}
    with tuned_device(model.device, recipe.descent, run.run_dir / COMPILED_FOLDER):
        tune(model, recipe.descent, peers=peers, spread=run.spread, on_notice=on_notice)
        model = make_ready(model, recipe, table, dataset, banks)
        guides = _find_guides(recipe, model, dataset, banks)
        loader = _make_loader(run, model, dataset, peers)
        if recipe.descent.imprint:
            known = find_known_classes(model, dataset, table, banks)
            views = _one_view(loader)
            peers.first_does(lambda: encode_views(model, views, run.run_dir, on_view))
            imprint_class_heads(model, *read_views(views, table, run.run_dir), known)
        batches = _make_batches(model, loader, run.run_dir, peers, on_view)
        measures = peers.is_first and not recipe.feed.cached_views
        meter = make_meter(model, loader, table, recipe, peers) if measures else Meter()
        result = fit(
            model,
            batches,
            table,
            recipe.descent,
            recipe.n_steps(len(dataset)),
            run.run_dir,
            guides=guides,
            runtime=Runtime(peers=peers, spread=run.spread, meter=meter, wandb=run.wandb),
            evaluate=evaluate,
            on_step=on_step,
        )
    if result.finished:
        merge_low_rank(result.clip)
        final = replace(model, clip=result.clip)
        peers.first_does(lambda: _save_result(run, final, dataset, table, result))
    return result


def _make_loader(run: TrainingRun, model: TaxonModel, dataset: DataSet, peers: Peers) -> Loader:
    allocate = pinned_pixels if model.device.type == "cuda" else empty_pixels
    size, seed = model.preprocess.image_size, run.recipe.seed
    return Loader(dataset, run.recipe.feed, size, seed, run.n_workers, peers.rank, peers.size, allocate)


def _make_batches(
    model: TaxonModel, loader: Loader, run_dir: Path, peers: Peers, on_view: Callable[[int, int], None]
) -> BatchSource:
    """Return the source of batches: the loader, with cached vectors and general pictures if the recipe has them."""
    general = make_replay_loader(loader) if loader.feed.replay else None
    batches: BatchSource = loader
    if loader.feed.cached_views:
        peers.first_does(lambda: encode_views(model, loader, run_dir, on_view))
        batches = lock(loader, run_dir)
    if general is not None:
        batches = MixedLoader(taxa=batches, general=general, tokenizer=model.tokenizer)
    return batches


def _find_guides(recipe: Recipe, model: TaxonModel, dataset: DataSet, banks: dict[Rank, LabelBank]) -> Guides:
    """Return what guides the run besides its samples; blend the image tower with that of --distil-from, if asked."""
    tower, descent = recipe.tower, recipe.descent
    other = load_teacher(tower.distil_from, model, descent.precision) if tower.distil_from else None
    if other is not None and tower.blend:
        blend_towers(model, other, tower.blend)
    return Guides(
        relatives=_find_relatives(recipe, dataset, banks, model.tokenizer),
        teacher=other if descent.distil else None,
    )


def _one_view(loader: Loader) -> Loader:
    """Return the loader for one view of each picture, the middle or whole of it."""
    feed = replace(loader.feed, cached_views=1, crop_scale=(1.0, 1.0), colour_jitter=0.0, flip=False)
    return replace(loader, feed=feed)


def _find_relatives(recipe: Recipe, dataset: DataSet, banks: dict[Rank, LabelBank], tokenizer: Any) -> Relatives | None:
    """Return the recipe's relatives, or ``None`` if it has none."""
    feed = recipe.feed
    if not feed.relatives:
        return None
    names, n_per_step = taxa_of_checklist(load_checklist(feed.relatives)), feed.relatives_per_step
    types, seed = feed.text_types, recipe.seed
    return find_relatives(names, dataset, banks, tokenizer, types, n_per_step=n_per_step, seed=seed)


def _save_result(run: TrainingRun, model: TaxonModel, dataset: DataSet, table: TokenTable, result: FitResult) -> None:
    facts = {
        "linnaea": __version__,
        "recipe": run.recipe_name,
        "text_types": [str(text_type) for text_type in run.recipe.feed.text_types],
        "template": PHOTO_TEMPLATE,
        "objective": run.recipe.descent.objective,
        "steps": result.step,
        "n_images": len(dataset),
        "n_taxa": dataset.index["taxon_id"].n_unique(),
        "data": run.describe()["data"],
    }
    counts = dataset.index["taxon_id"].value_counts(name=N_PHOTOGRAPHS)
    seen = dataset.pictured_taxa.join(counts, on="taxon_id", how="left", maintain_order="left")
    write_parquet(seen.with_columns(taxon_id=seen["taxon_id"].rank("ordinal").cast(seen["taxon_id"].dtype) - 1),
                  run.model_dir / "taxa.parquet")  # fmt: skip
    weights = take_off(model)
    final = replace(model, facts=facts)
    save_head_banks(make_head_banks(weights, dataset, table, final), run.model_dir)
    save_model(final, run.model_dir)
