"""Many processes learn what one does: the same loss, the same gradient, the same run, whoever dies or goes on.

All of it happens in four processes that are started once; the tests look at what they found.
"""

import json
import multiprocessing
import os
import pickle
import signal
import socket
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from saved_state import load_newest
from torch import Tensor

from linnaea.errors import LinnaeaError
from linnaea.model.load import TaxonModel
from linnaea.model.open import load_model
from linnaea.model.text import TokenTable, make_token_table
from linnaea.model.training_form import take_training_form
from linnaea.train import losses
from linnaea.train.batches import Batch, Loader
from linnaea.train.checkpoints import list_checkpoints
from linnaea.train.claim import TrainingRun, open_part
from linnaea.train.cutmix import mix_batch
from linnaea.train.heads import prepare
from linnaea.train.objectives import compute_loss, normalise_pixels
from linnaea.train.parallel import ALONE, Peers, clip_gradients, join, spread, whole
from linnaea.train.recipe import Descent, Feed, Recipe, Tower
from linnaea.train.run import run_training
from linnaea.train.start import make_start

SMALL = Recipe(
    tower=Tower(image_size=32, patch_size=16, width=64, image_layers=2, text_layers=1, context_length=48, n_merges=200),
    feed=Feed(batch_size=16, crop_scale=(0.8, 1.0)),
    descent=Descent(steps=12, lr=2e-3, warmup=4, checkpoint_every=5, log_every=1, average=0.9, accumulate=2),
)
WITH_BATCH_NORM = replace(SMALL, tower=replace(SMALL.tower, backbone="test_resnet"))
SWITCHES = list(product((False, True), repeat=3))
"""Logits in blocks, captions trimmed, captions shared."""
OBJECTIVES = (
    "info_nce", "multi_positive", "rank_positive", "level_restricted", "sigmoid", "cross_entropy", "hierarchical",
)  # fmt: skip


@dataclass(frozen=True)
class PlainTable(TokenTable):
    """Captions as everybody else has them: in full context, one for each sample; each saving by itself."""

    trims: bool = True
    shares: bool = True
    context: int = 48

    def batch(self, taxon_ids: Any, text_types: Any) -> Any:
        tokens, own = super().batch(taxon_ids, text_types)
        if not self.trims:
            tokens = torch.nn.functional.pad(tokens, (0, self.context - tokens.shape[1]))
        return (tokens, own) if self.shares else (tokens[own], torch.arange(len(own)))


def make_plain(table: TokenTable, *, trims: bool, shares: bool) -> PlainTable:
    return PlainTable(**{one.name: getattr(table, one.name) for one in fields(table)}, trims=trims, shares=shares)


def make_run(data: Path, output: Path, recipe: Recipe = SMALL, **options: Any) -> TrainingRun:
    return TrainingRun(recipe_name="test", recipe=recipe, data_dir=data, run_dir=output, device="cpu", **options)


def start(data: Path, dtype: torch.dtype, peers: Peers) -> tuple[TaxonModel, Batch, TokenTable]:
    dataset = open_part(make_run(data, Path("unused")))
    model = make_start(SMALL.tower, dataset, seed=0, device="cpu")
    model.clip.train().to(dtype)
    model.clip.logit_bias = torch.nn.Parameter(torch.tensor(-3.0, dtype=dtype))
    loader = Loader(dataset, SMALL.feed, 32, 0, rank=peers.rank, world_size=peers.size)
    batch = next(iter(loader.iter_batches(0, 1)))
    return model, batch, make_token_table(model.tokenizer, dataset.taxa_list, SMALL.feed.text_types, with_ranks=True)


@contextmanager
def blocks_of(numbers: int) -> Any:
    before, losses.LOGITS_AT_ONCE = losses.LOGITS_AT_ONCE, numbers
    yield
    losses.LOGITS_AT_ONCE = before


def measure(
    data: Path, peers: Peers, dtype: torch.dtype, switches: tuple[bool, ...] = (False, True, True), how: Any = "ddp",
    objective: Any = "info_nce", mixes: bool = False, form: bool = False,
) -> tuple[float, dict[str, Tensor]]:  # fmt: skip
    """Loss and gradients of the first global batch, our way."""
    model, batch, table = start(data, dtype, peers)
    chunked, trims, shares = switches
    plain = make_plain(table, trims=trims, shares=shares)
    descent = Descent(objective=objective, label_smoothing=0.1 if mixes else 0.0)
    batch = mix_batch(batch, 1.0, 0) if mixes else batch
    model = prepare(model, table, descent, with_replay=False, seed=0)
    model.clip.to(dtype)
    if form:
        take_training_form(model.clip, model.preprocess, compiled=False)
    loss_of = spread(model.clip, lambda b: compute_loss(model, b, plain, descent, peers), peers, how)
    with blocks_of(20 if chunked else 10**9):
        loss = loss_of(batch)
        loss.backward()
    norm = clip_gradients(model.clip.parameters(), 0.5 * 10**9)
    found = {name: whole(p.grad).clone() for name, p in model.clip.named_parameters() if p.grad is not None}
    assert float(norm) == pytest.approx(float(torch.stack([g.norm() for g in found.values()]).norm()), rel=1e-5)
    return float(loss.detach()), found


def measure_open_clip(data: Path, dtype: torch.dtype, peers: Peers = ALONE) -> tuple[float, dict[str, Tensor]]:
    """The same by open_clip's own loss, model and text tower; in a process's own part with its gathering."""
    model, batch, table = start(data, dtype, peers)
    tokens, _ = make_plain(table, trims=False, shares=False).batch(batch.taxon_ids, batch.text_types)
    image = model.clip.encode_image(normalise_pixels(model, torch.from_numpy(batch.pixels)), normalize=True)
    text = model.clip.encode_text(tokens, normalize=True)
    many = {"local_loss": True, "gather_with_grad": True, "rank": peers.rank, "world_size": peers.size}
    loss = open_clip.ClipLoss(**many if peers.size > 1 else {})(image, text, model.clip.logit_scale.exp())
    loss.backward()
    found = {name: p.grad for name, p in model.clip.named_parameters() if p.grad is not None}
    return float(loss.detach()), found


def find_parity(data: Path, peers: Peers) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for dtype, switches in product((torch.float64, torch.float32), SWITCHES):
        found[dtype, switches] = measure(data, peers, dtype, switches)
    for objective in OBJECTIVES:
        found[objective] = measure(data, peers, torch.float64, objective=objective)
    found["mixed"] = measure(data, peers, torch.float64, objective="hierarchical", mixes=True)
    theirs = measure_open_clip(data, torch.float64, peers)[0]
    found["open_clip"] = peers.total(theirs)[0] / peers.size
    return found


def train_until(run: TrainingRun, peers: Peers, stop_at: int) -> int:
    """SIGTERM to the first process in the middle of a run."""

    def on_step(step: int, total: int, line: dict[str, Any]) -> None:
        if step == stop_at and peers.is_first:
            os.kill(os.getpid(), signal.SIGTERM)

    return run_training(run, on_step, peers=peers).step


def work(rank: int, ports: list[int], data: Path, folder: Path) -> None:
    """What one of the processes does, from first to last."""
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "RANK": str(rank), "WORLD_SIZE": "4", "MASTER_PORT": str(ports[0])}
    found: dict[str, Any] = {}
    with join("cpu") as peers:
        found[4] = find_parity(data, peers)
    if rank < 2:
        os.environ |= {"WORLD_SIZE": "2", "MASTER_PORT": str(ports[1])}
        with join("cpu") as peers:
            found[2] = find_parity(data, peers)
            found["fsdp"] = measure(data, peers, torch.float64, how="fsdp")
            for how in ("ddp", "fsdp"):
                found["form", how] = measure(data, peers, torch.float64, how=how, form=True)
            run_training(make_run(data, folder / "whole-2"), peers=peers)
            run_training(make_run(data, folder / "fsdp", spread="fsdp"), peers=peers)
            run_training(make_run(data, folder / "batch-norm", WITH_BATCH_NORM), peers=peers)
            for name in ("stopped-2", "from-2"):
                found[name] = train_until(make_run(data, folder / name), peers, 7)
            run_training(make_run(data, folder / "stopped-2"), peers=peers)
            run_training(make_run(data, folder / "from-1"), peers=peers)
            found["bad"] = find_failure(data, folder / "bad", peers, poison=True)
        (folder / f"found-{rank}.pickle").write_bytes(pickle.dumps(found))
        os.environ["MASTER_PORT"] = str(ports[2])
        message = ""
        try:
            with join("cpu") as peers:
                find_failure(data, folder / "died", peers, poison=False)
        except LinnaeaError as error:
            message = str(error)
        (folder / f"died-{rank}.txt").write_text(message)


def find_failure(data: Path, output: Path, peers: Peers, *, poison: bool) -> str:
    """Train until the second process has a NaN in its weights, or dies; what is then said."""

    def on_step(step: int, total: int, line: dict[str, Any]) -> None:
        if step == 7 and peers.rank == 1:
            if not poison:
                os._exit(9)
            raise_soon.append(step)

    raise_soon: list[int] = []
    from linnaea.train import fit

    compute = fit.compute_loss

    def spoilt(*args: Any) -> Tensor:
        return compute(*args) * (float("nan") if raise_soon else 1.0)

    fit.compute_loss = spoilt
    try:
        run_training(make_run(data, output), on_step, peers=peers)
    except (LinnaeaError, SystemExit) as error:
        if not poison:
            raise
        return f"{type(error).__name__}: {error}"
    finally:
        fit.compute_loss = compute
    return ""


@dataclass(frozen=True)
class Found:
    folder: Path
    facts: list[dict[Any, Any]]

    def losses(self, run: str) -> list[float]:
        text = (self.folder / run / "metrics.jsonl").read_text()
        return [json.loads(line)["loss"] for line in text.splitlines()]

    def weights(self, run: str) -> dict[str, Tensor]:
        state = load_newest(self.folder / run / "checkpoints")
        assert state is not None
        assert state["step"] == 12
        model: dict[str, Tensor] = state["model"]
        return model


def free_ports(n: int) -> list[int]:
    sockets = [socket.socket() for _ in range(n)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def train_together(data: Path, folder: Path) -> None:
    """Fill a folder with the runs of one, two and four processes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    run_training(make_run(data, folder / "whole-1"))
    train_until(make_run(data, folder / "from-1"), ALONE, 7)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["linnaea.train.run", "open_clip"])
    processes = [
        context.Process(target=work, args=(rank, ports, data, folder)) for ports in [free_ports(3)] for rank in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
        process.kill()
    assert [process.exitcode for process in processes] == [0, 9, 0, 0]
    run_training(make_run(data, folder / "from-2"))
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def found(dataset_dir: Path, make_once: Callable[[str, Callable[[Path], None]], Path]) -> Found:
    folder = make_once("parallel", partial(train_together, dataset_dir))
    return Found(folder, [pickle.loads((folder / f"found-{rank}.pickle").read_bytes()) for rank in range(2)])


def assert_near(ours: Any, theirs: Any, *, loss: float, gradient: float, absolute: bool) -> None:
    assert abs(ours[0] - theirs[0]) <= loss * (1 if absolute else abs(theirs[0]))
    for name, expected in theirs[1].items():
        difference = ours[1][name] - expected
        error = difference.abs().max() if absolute else difference.norm() / expected.norm()
        assert error <= gradient, (name, float(error))


@pytest.mark.parametrize("size", [1, 2, 4])
def test_loss_and_gradient_are_those_of_open_clip(size: int, found: Found, dataset_dir: Path) -> None:
    """In every combination of blocks, trimming and sharing: float64 to 1e-10, float32 to 1e-6 and 1e-5."""
    facts = find_parity(dataset_dir, ALONE) if size == 1 else found.facts[0][size]
    exact, rough = (measure_open_clip(dataset_dir, dtype) for dtype in (torch.float64, torch.float32))
    assert abs(facts["open_clip"] - exact[0]) <= 1e-10
    for switches in SWITCHES:
        assert_near(facts[torch.float64, switches], exact, loss=1e-10, gradient=1e-10, absolute=True)
        assert_near(facts[torch.float32, switches], rough, loss=1e-6, gradient=1e-5, absolute=False)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_is_the_same_whatever_the_number_of_processes(
    objective: str, found: Found, dataset_dir: Path
) -> None:
    alone = measure(dataset_dir, ALONE, torch.float64, objective=objective)
    for size in (2, 4):
        assert_near(found.facts[0][size][objective], alone, loss=1e-10, gradient=1e-10, absolute=True)


def test_mixed_pictures_have_the_same_loss_whatever_the_number_of_processes(found: Found, dataset_dir: Path) -> None:
    alone = measure(dataset_dir, ALONE, torch.float64, objective="hierarchical", mixes=True)
    for size in (2, 4):
        assert_near(found.facts[0][size]["mixed"], alone, loss=1e-10, gradient=1e-10, absolute=True)


def test_a_sharded_model_has_the_same_gradient(found: Found, dataset_dir: Path) -> None:
    exact = measure_open_clip(dataset_dir, torch.float64)
    assert_near(found.facts[0]["fsdp"], exact, loss=1e-10, gradient=1e-10, absolute=True)


@pytest.mark.parametrize("how", ["ddp", "fsdp"])
def test_towers_in_the_training_form_have_the_same_gradient(how: str, found: Found, dataset_dir: Path) -> None:
    exact = measure_open_clip(dataset_dir, torch.float64)
    assert_near(found.facts[0]["form", how], exact, loss=1e-10, gradient=1e-10, absolute=True)


@pytest.mark.parametrize("run", ["whole-2", "fsdp", "from-2", "from-1"])
def test_a_run_is_the_same_on_one_and_two_processes_and_from_one_to_the_other(run: str, found: Found) -> None:
    """Started on so many, stopped by SIGTERM, gone on with on the other number."""
    assert np.allclose(found.losses(run), found.losses("whole-1"), rtol=0, atol=1e-4)
    assert len(found.losses(run)) == 12
    weights = found.weights(run)
    for name, value in found.weights("whole-1").items():
        assert torch.allclose(value, weights[name], rtol=0, atol=2e-3), name


def test_with_as_many_processes_a_stopped_run_goes_on_bit_for_bit(found: Found) -> None:
    assert found.facts[0]["stopped-2"] == found.facts[1]["stopped-2"] == 7
    assert found.losses("stopped-2") == found.losses("whole-2")
    expected = found.weights("whole-2")
    assert all(torch.equal(value, expected[name]) for name, value in found.weights("stopped-2").items())


@pytest.mark.parametrize("run", ["whole-2", "fsdp", "batch-norm"])
def test_what_many_leave_is_an_ordinary_model(run: str, found: Found) -> None:
    model = load_model(str(found.folder / run / "model"), device="cpu")
    state = load_newest(found.folder / run / "checkpoints")
    assert state is not None
    for name, value in model.clip.state_dict().items():
        assert torch.equal(value, state["average"][name]), name


def test_a_loss_that_is_not_finite_anywhere_stops_all_and_one_says_so(found: Found) -> None:
    first, second = (facts["bad"] for facts in found.facts)
    assert first.startswith("LinnaeaError: the loss at step 8 is not finite; samples ")
    assert second == "SystemExit: 1"


def test_a_process_that_dies_ends_the_others_and_leaves_the_last_checkpoint(found: Found) -> None:
    message = (found.folder / "died-0.txt").read_text()
    assert "another process of this run has ended" in message
    assert "\n" not in message
    assert [path.name for path in list_checkpoints(found.folder / "died" / "checkpoints")][-1] == "step-000000005"
    assert load_newest(found.folder / "died" / "checkpoints") is not None
