"""Training learns, stops and goes on bit for bit, and says what is wrong."""

import errno
import json
import math
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from saved_state import load_newest
from torch.distributed.checkpoint import filesystem

from linnaea.errors import LinnaeaError
from linnaea.model.load import TaxonModel
from linnaea.model.open import load_model
from linnaea.model.text import make_token_table
from linnaea.train import fit
from linnaea.train.batches import Loader
from linnaea.train.checkpoints import list_checkpoints
from linnaea.train.claim import RECIPE_FILE, TrainingRun, check_same_recipe, open_part
from linnaea.train.fit import Average, due, set_learning_rate
from linnaea.train.heads import add_logit_bias
from linnaea.train.logs import MetricsLog
from linnaea.train.objectives import compute_loss
from linnaea.train.recipe import Descent, Feed, Recipe, Tower
from linnaea.train.run import run_training
from linnaea.train.start import make_start
from linnaea.train.tuning import make_optimizer

SMALL = Recipe(
    tower=Tower(image_size=32, patch_size=8, width=64, image_layers=2, text_layers=1, context_length=48, n_merges=200),
    feed=Feed(batch_size=16, crop_scale=(0.8, 1.0)),
    descent=Descent(steps=12, lr=2e-3, warmup=4, checkpoint_every=5, log_every=1),
)
WITH_BATCH_NORM = replace(SMALL, tower=replace(SMALL.tower, backbone="test_resnet"))
EVERYTHING = replace(
    WITH_BATCH_NORM,
    feed=replace(SMALL.feed, taxon_balance=0.5, colour_jitter=0.2, flip=True),
    descent=replace(SMALL.descent, average=0.9, accumulate=2, clip_norm=1.0, objective="sigmoid"),
)
"""All that keeps a state of its own: BatchNorm, an average, parts made twice, a bias."""


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_run(data: Path, output: Path, recipe: Recipe = SMALL, **options: Any) -> TrainingRun:
    return TrainingRun(recipe_name="test", recipe=recipe, data_dir=data, run_dir=output, device="cpu", **options)


def losses(run: TrainingRun) -> list[float]:
    return [json.loads(line)["loss"] for line in (run.run_dir / "metrics.jsonl").read_text().splitlines()]


def weights(run: TrainingRun) -> dict[str, torch.Tensor]:
    state = load_newest(run.run_dir / "checkpoints")
    assert state is not None
    model: dict[str, torch.Tensor] = state["model"]
    return model


def assert_same(a: TrainingRun, b: TrainingRun) -> None:
    assert losses(a) == losses(b)
    one, other = weights(a), weights(b)
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_a_tiny_model_learns_a_tiny_set_by_heart(dataset_dir: Path, tmp_path: Path) -> None:
    recipe = replace(SMALL, descent=replace(SMALL.descent, steps=90), feed=replace(SMALL.feed, crop_scale=(1.0, 1.0)))
    run = make_run(
        dataset_dir, tmp_path / "run", replace(recipe, descent=replace(recipe.descent, objective="multi_positive"))
    )
    result = run_training(run)
    assert result.finished
    assert losses(run)[0] > 0.8 * math.log(16)
    floor = losses(run)[-10:]
    assert sum(floor) / 10 < 0.55 * math.log(16)


def test_every_line_of_the_log_is_valid(dataset_dir: Path, tmp_path: Path) -> None:
    run = make_run(dataset_dir, tmp_path / "run")
    run_training(run)
    lines = [json.loads(line) for line in (run.run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert all(math.isfinite(line["loss"]) and line["samples_per_s"] > 0 for line in lines)


def test_the_model_folder_is_open_clips(dataset_dir: Path, tmp_path: Path) -> None:
    run = make_run(dataset_dir, tmp_path / "run")
    run_training(run)
    model = load_model(str(run.model_dir), device="cpu")
    found = model.clip.state_dict()
    for name, value in weights(run).items():
        assert torch.equal(value, found[name]), name
    assert model.facts["steps"] == 12
    assert (run.model_dir / "taxa.parquet").exists()


@pytest.mark.parametrize(("stop_at", "recipe"), [(1, SMALL), (7, SMALL), (7, EVERYTHING)])
def test_a_run_that_stops_goes_on_bit_for_bit(dataset_dir: Path, tmp_path: Path, stop_at: int, recipe: Recipe) -> None:
    """SIGTERM in mid-epoch, then another number of workers."""
    whole = make_run(dataset_dir, tmp_path / "whole", recipe)
    run_training(whole)
    stopped = make_run(dataset_dir, tmp_path / "stopped", recipe, n_workers=1)

    def on_step(step: int, total: int, line: dict[str, Any]) -> None:
        if step == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    result = run_training(stopped, on_step)
    assert (result.step, result.finished) == (stop_at, False)
    assert not stopped.is_finished
    assert run_training(replace(stopped, n_workers=3)).finished
    assert_same(whole, stopped)
    models = [load_model(str(run.model_dir), device="cpu") for run in (whole, stopped)]
    assert models[0].fingerprint == models[1].fingerprint


def test_a_run_that_died_goes_on_from_its_last_checkpoint(dataset_dir: Path, tmp_path: Path) -> None:
    """What kill -9 leaves: no last words, a torn line in the log."""
    whole = make_run(dataset_dir, tmp_path / "whole")
    run_training(whole)
    died = make_run(dataset_dir, tmp_path / "died")

    class Killed(BaseException):
        pass

    def on_step(step: int, total: int, line: dict[str, Any]) -> None:
        if step == 8:
            raise Killed

    with pytest.raises(Killed):
        run_training(died, on_step)
    with (died.run_dir / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 9, "lo')
    assert run_training(died).finished
    assert_same(whole, died)


def test_going_on_does_not_learn_the_vocabulary_again(
    dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes over a minute for a checklist of a million names."""
    run = make_run(dataset_dir, tmp_path / "run")

    class Killed(BaseException):
        pass

    def on_step(step: int, total: int, line: dict[str, Any]) -> None:
        raise Killed

    with pytest.raises(Killed):
        run_training(run, on_step)
    learnt = (run.run_dir / "bpe.txt.gz").read_bytes()
    monkeypatch.setattr("linnaea.train.start.make_vocabulary", lambda *of: pytest.fail("learnt again"))
    assert run_training(run).finished
    assert (run.model_dir / "bpe.txt.gz").read_bytes() == learnt


def test_a_run_of_a_version_that_knew_fewer_settings_goes_on(dataset_dir: Path, tmp_path: Path) -> None:
    run = make_run(dataset_dir, tmp_path / "run")
    run.run_dir.mkdir()
    path = run.run_dir / RECIPE_FILE
    known = json.loads(json.dumps(run.describe()))
    del known["descent"]["cutmix"], known["feed"]["cached_views"]
    path.write_text(json.dumps(known))
    check_same_recipe(run)
    mixing = replace(SMALL, descent=replace(SMALL.descent, objective="hierarchical", cutmix=0.5))
    with pytest.raises(LinnaeaError, match=r"descent.cutmix: 0.0 -> 0.5"):
        check_same_recipe(replace(run, recipe=mixing))


def test_a_loss_that_is_not_finite_names_step_and_samples(
    dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(dataset_dir, tmp_path / "run")
    compute, calls = fit.compute_loss, []

    def bad(*args: Any) -> torch.Tensor:
        calls.append(args)
        return compute(*args) * (math.nan if len(calls) == 8 else 1)

    monkeypatch.setattr(fit, "compute_loss", bad)
    with pytest.raises(LinnaeaError, match=r"step 8 is not finite; samples [0-9a-f]{24}"):
        run_training(run)
    state = load_newest(run.run_dir / "checkpoints")
    assert state is not None
    assert state["step"] == 5


def test_a_full_disk_keeps_the_last_checkpoint(
    dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(dataset_dir, tmp_path / "run")

    def on_step(step: int, total: int, line: dict[str, Any]) -> None:
        if step == 10:  # from now on
            monkeypatch.setattr(filesystem, "_write_item", full)

    with pytest.raises(LinnaeaError, match=r"the disk is full; the last one, step-000000005, is intact"):
        run_training(run, on_step)
    monkeypatch.undo()
    assert [path.name for path in list_checkpoints(run.run_dir / "checkpoints")][-1] == "step-000000005"
    assert run_training(run).finished


def test_a_full_disk_at_the_end_loses_no_step(
    dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the writer of the model's weights says is no OSError; the run goes on from its last checkpoint."""
    run = make_run(dataset_dir, tmp_path / "run")

    def no_space(*args: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch, pytest.raises(LinnaeaError, match=r"safetensors: the disk is full; free some"):
        patch.setattr("linnaea.model.load.save_file", no_space)
        run_training(run)
    assert not run.is_finished
    steps: list[int] = []
    assert run_training(run, lambda step, total, line: steps.append(step)).finished
    assert not steps
    assert run.is_finished


def full(*args: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_weight_decay_spares_what_open_clip_spares(dataset_dir: Path, tmp_path: Path) -> None:
    run = make_run(dataset_dir, tmp_path / "run")
    clip = make_start(SMALL.tower, open_part(run), seed=0, device="cpu").clip
    free, decayed = make_optimizer(clip, SMALL.descent).param_groups
    names = {id(parameter): name for name, parameter in clip.named_parameters()}
    assert free["weight_decay"] == 0
    assert decayed["weight_decay"] == SMALL.descent.weight_decay
    assert "logit_scale" in {names[id(p)] for p in free["params"]}
    assert all(p.ndim >= 2 for p in decayed["params"])
    assert len(names) == len(free["params"]) + len(decayed["params"])


def test_the_schedule_warms_up_and_falls_to_zero() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1)
    descent = Descent(lr=1.0, warmup=10)
    rates = [set_learning_rate(optimizer, step, 110, descent) for step in range(110)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert rates[60] == pytest.approx(0.5)
    assert rates[-1] < 0.001
    assert max(rates) == 1.0


def test_due_counts_first_every_and_last() -> None:
    assert [step for step in range(1, 26) if due(step, 10, 25)] == [1, 10, 20, 25]


def test_a_torn_log_is_mended(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    for step in (1, 2, 3):
        log.write({"step": step, "loss": 1.0})
    with log.path.open("a") as stream:
        stream.write('{"step": 4, "los')
    log.cut_after(2)
    assert [json.loads(line)["step"] for line in log.path.read_text().splitlines()] == [1, 2]


def start(dataset_dir: Path, recipe: Recipe) -> tuple[TaxonModel, Any, Any]:
    """A model, a batch and its table of captions."""
    dataset = open_part(make_run(dataset_dir, Path("unused"), recipe))
    model = add_logit_bias(make_start(recipe.tower, dataset, seed=0, device="cpu"))
    model.clip.train()
    batch = next(Loader(dataset, recipe.feed, recipe.tower.image_size, 0).iter_batches(0, 1))
    return model, batch, make_token_table(model.tokenizer, dataset.taxa_list, recipe.feed.text_types)


@pytest.mark.parametrize("objective", ["info_nce", "multi_positive", "sigmoid"])
@pytest.mark.parametrize(("accumulate", "keep"), [(2, 0), (5, 3), (16, 1), (4, 4)])
def test_a_batch_in_parts_has_the_loss_and_gradient_of_the_whole(
    dataset_dir: Path, objective: Any, accumulate: int, keep: int
) -> None:
    model, batch, table = start(dataset_dir, SMALL)
    found = []
    for parts, kept in ((1, 0), (accumulate, keep)):
        model.clip.zero_grad()
        descent = replace(SMALL.descent, objective=objective, accumulate=parts, keep_parts=kept)
        loss = compute_loss(model, batch, table, descent)
        loss.backward()
        gradients = {name: p.grad.clone() for name, p in model.clip.named_parameters() if p.grad is not None}
        found.append((float(loss.detach()), gradients))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    for name, gradient in found[0][1].items():
        assert (gradient - found[1][1][name]).norm() <= 1e-5 * gradient.norm() + 1e-9, name


def test_captions_are_encoded_once_and_the_loss_is_that_of_the_plain_way(dataset_dir: Path) -> None:
    """The plain way: every sample's caption in full context through open_clip's encode_text, and its ClipLoss."""
    import open_clip

    model, batch, table = start(dataset_dir, SMALL)
    seen: list[int] = []
    embedding = model.clip.token_embedding
    hook = embedding.register_forward_hook(lambda module, inputs, out: seen.append(len(inputs[0])))
    loss = compute_loss(model, batch, table, SMALL.descent)
    hook.remove()
    ours = torch.autograd.grad(loss, list(model.clip.parameters()), allow_unused=True)
    dataset, types = open_part(make_run(dataset_dir, Path("unused"))), SMALL.feed.text_types
    captions = [
        dataset.taxon(taxon).caption(types[kind], "a photo of {}.")
        for taxon, kind in zip(batch.taxon_ids.tolist(), batch.text_types.tolist(), strict=True)
    ]
    assert seen == [len(set(captions))]
    pixels = torch.from_numpy(batch.pixels).float() / 255 - torch.tensor(model.preprocess.mean).view(3, 1, 1)
    pixels = pixels / torch.tensor(model.preprocess.std).view(3, 1, 1)
    image = model.clip.encode_image(pixels, normalize=True)
    text = model.clip.encode_text(model.tokenizer(captions), normalize=True)
    plain = open_clip.ClipLoss()(image, text, model.clip.logit_scale.exp())
    theirs = torch.autograd.grad(plain, list(model.clip.parameters()), allow_unused=True)
    assert abs(float(loss.detach() - plain.detach())) <= 1e-6 * float(plain.detach())
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None) == (b is None)
        assert a is None or (a - b).norm() <= 1e-4 * b.norm() + 1e-7


def test_running_statistics_count_each_part_once(dataset_dir: Path) -> None:
    """What is made again on the way back must not move BatchNorm's averages again."""
    counts = []
    for backward in (False, True):
        model, batch, table = start(dataset_dir, WITH_BATCH_NORM)
        loss = compute_loss(model, batch, table, replace(SMALL.descent, accumulate=4))
        if backward:
            loss.backward()
        buffers = model.clip.named_buffers()
        counts.append({name: value for name, value in buffers if "running" in name or "num_batches" in name})
    assert any(name.endswith("num_batches_tracked") and value == 4 for name, value in counts[0].items())
    for name, value in counts[0].items():
        assert torch.equal(value, counts[1][name]), name


def test_the_average_is_one_and_becomes_the_model(dataset_dir: Path, tmp_path: Path) -> None:
    run = make_run(dataset_dir, tmp_path / "run", EVERYTHING)
    run_training(run)
    state = load_newest(run.run_dir / "checkpoints")
    assert state is not None
    saved = load_model(str(run.model_dir), device="cpu").clip.state_dict()
    assert all(torch.equal(saved[name], value) for name, value in state["average"].items())
    assert any(not torch.equal(saved[name], value) for name, value in state["model"].items())


def test_the_average_follows_its_formula() -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        layer.weight.fill_(0.0)
        average = Average(layer, 0.9)
        layer.weight.fill_(1.0)
    average.update(layer, 1)  # young: (1 + 1) / (10 + 1) of the old stays
    assert float(average.state["weight"]) == pytest.approx(1 - 2 / 11)
    average.update(layer, 1000)
    assert float(average.state["weight"]) == pytest.approx(1 - 2 / 11 * 0.9)
    with average.swapped_in(layer):
        assert not layer.training
        assert float(layer.weight.detach()) == pytest.approx(1 - 2 / 11 * 0.9)
    assert layer.training
    assert float(layer.weight.detach()) == 1.0


def test_evaluation_changes_nothing_but_the_log(dataset_dir: Path, tmp_path: Path) -> None:
    plain, watched = (make_run(dataset_dir, tmp_path / name, EVERYTHING) for name in ("plain", "watched"))
    run_training(plain)
    modes = []

    def evaluate(model: TaxonModel) -> dict[str, float]:
        modes.append(model.clip.training)
        return {"val/top1": 0.25}

    run_training(watched, evaluate=evaluate)
    assert_same(plain, watched)
    assert modes == [False, False]
    lines = [json.loads(line) for line in (watched.run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line.get("evaluate/val/top1") == 0.25] == [1, 12]


def test_a_gradient_that_is_not_finite_stops_before_the_weights_are_spoilt(
    dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = fit.compute_loss

    def bad(*args: Any) -> torch.Tensor:
        loss = compute(*args)
        loss.register_hook(lambda gradient: gradient * math.nan)
        return loss

    monkeypatch.setattr(fit, "compute_loss", bad)
    with pytest.raises(LinnaeaError, match="the gradient at step 1 is not finite; samples"):
        run_training(make_run(dataset_dir, tmp_path / "run"))


def test_bf16_and_sigmoid_train_and_load(dataset_dir: Path, tmp_path: Path) -> None:
    recipe = replace(SMALL, descent=replace(SMALL.descent, precision="bf16", objective="sigmoid", steps=3))
    run = make_run(dataset_dir, tmp_path / "run", recipe)
    assert run_training(run).finished
    model = load_model(str(run.model_dir), device="cpu")
    assert float(model.clip.logit_bias.detach()) == pytest.approx(-10, abs=0.1)
