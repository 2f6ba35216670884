"""What many tests need: a small tree of life on disk, a data set of it, a model that costs nothing."""

import difflib
import fcntl
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import open_clip  # noqa: F401  (before jaxtyping's hook, in which everything that is imported is compiled anew)
import pytest
import sklearn  # noqa: F401
from hypothesis import settings

from hub import Hub, serve_hub
from killing import Killer

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach for the network
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # with as many workers as cores, more threads wait for one another
settings.register_profile("no deadline", deadline=None)  # a busy machine is not a defect
settings.load_profile("no deadline")


@pytest.fixture(scope="session")
def all_workers_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of a run of the tests see."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def make_once(all_workers_dir: Path) -> Callable[[str, Callable[[Path], None]], Path]:
    """Let the first worker that needs a folder fill it; the others wait for it and take it as it is."""

    def make(name: str, fill: Callable[[Path], None]) -> Path:
        folder = all_workers_dir / name
        with (all_workers_dir / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "whole").exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                fill(folder)
                (folder / "whole").touch()
        return folder

    return make


@pytest.fixture(scope="session", autouse=True)
def cache_of_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache of this worker; tests and fixtures of every scope leave the user's alone."""
    with pytest.MonkeyPatch.context() as patch:
        if "LINNAEA_CACHE" not in os.environ:
            patch.setenv("LINNAEA_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield Path(os.environ["LINNAEA_CACHE"])


@pytest.fixture(autouse=True)
def _embedded_checklist_is_read_once(cache_of_worker: Path, all_workers_dir: Path) -> Iterator[None]:
    """What one worker has read of the embedded checklist (ten seconds), the other need not read again."""
    of_all, is_own = all_workers_dir / "cache-of-all", cache_of_worker.is_relative_to(all_workers_dir)
    if is_own:
        _copy_embedded(of_all, cache_of_worker)
    yield
    if is_own:
        _copy_embedded(cache_of_worker, of_all)


def _copy_embedded(source: Path, target: Path) -> None:
    """Link the files of a cache into another on the same disk, where they are not there yet."""
    below = Path("checklists", "read")
    for whole in (source / below).glob("inat-*/checklist.json"):
        folder = target / below / whole.parent.name
        if not folder.exists():
            partial = folder.with_name(f"{folder.name}.{os.getpid()}")
            shutil.copytree(whole.parent, partial, copy_function=os.link)
            try:
                partial.rename(folder)
            except OSError:  # the other worker was faster
                shutil.rmtree(partial)


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic tree of life: 12 species, 8 photographs each, class folders and metadata.csv."""
    from linnaea.data.synthetic import SyntheticConfig, synthesize

    folder = tmp_path_factory.mktemp("synthetic") / "photographs"
    synthesize(folder, SyntheticConfig(n_species=12, n_images=8, size=48), n_workers=1)
    return folder


@pytest.fixture(scope="session")
def dataset_dir(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photographs as a data set with splits train, val, test and unseen."""
    from linnaea.data.build import BuildConfig, build
    from linnaea.data.engine import LocalEngine
    from linnaea.data.sources.table import TableSource

    folder = tmp_path_factory.mktemp("dataset") / "data"
    source = TableSource(
        table=photographs / "metadata.csv", root=photographs, path_column="filepath", split_column="split"
    )
    build([source], folder, BuildConfig(shard_size=20), LocalEngine(1))
    return folder


@pytest.fixture(scope="session")
def trained(dataset_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few steps on the data set; knows next to nothing, but is whole."""
    from linnaea.train.claim import TrainingRun
    from linnaea.train.recipe import Descent, Feed, Recipe, Tower
    from linnaea.train.run import run_training

    tower = Tower(image_size=32, width=64, image_layers=2, text_layers=1, context_length=48, n_merges=200)
    recipe = Recipe(tower=tower, feed=Feed(batch_size=16), descent=Descent(steps=6, warmup=2))
    run = TrainingRun(
        recipe_name="test",
        recipe=recipe,
        data_dir=dataset_dir,
        run_dir=tmp_path_factory.mktemp("run") / "run",
        device="cpu",
    )
    run_training(run)
    return run.run_dir


@pytest.fixture(scope="session")
def killer() -> Killer:
    """A hook that ends a change to files before any step of it; Python's audit hooks cannot be taken away again."""
    hook = Killer()
    sys.addaudithook(hook)
    return hook


@pytest.fixture
def hub(tmp_path: Path, all_workers_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """An empty hub on this machine, which this process asks, and a cache with nothing but the embedded checklist."""
    import huggingface_hub
    from huggingface_hub import constants

    with serve_hub(tmp_path / "hub") as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE",
                            served.url + "/{repo_id}/resolve/{revision}/{filename}")  # fmt: skip
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("LINNAEA_CACHE", str(tmp_path / "cache"))
        huggingface_hub.close_session()
        _copy_embedded(all_workers_dir / "cache-of-all", tmp_path / "cache")
        yield served
        _copy_embedded(tmp_path / "cache", all_workers_dir / "cache-of-all")
        huggingface_hub.close_session()


@pytest.fixture
def two_threads() -> Iterator[None]:
    """PyTorch with two threads: what depends on who is first shows."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real photographs and name lists beside the repository."""
    folder = Path(__file__).parent.parent.parent / "shared"
    if not folder.is_dir():
        pytest.skip("../shared (real photographs and name lists) is not here")
    return folder


BROWSER_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
)  # fmt: skip


@pytest.fixture
def browser(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """Chromium; an indirect parameter is the width of its window, pixels."""
    driver_path = shutil.which("chromedriver")
    if driver_path is None or not shutil.which("chromium"):
        pytest.skip("Chromium with its driver is not here")
    from selenium import webdriver

    width = getattr(request, "param", 1100)
    options = webdriver.ChromeOptions()
    for flag in (*BROWSER_FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"download.default_directory": str(tmp_path)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_path))
    driver.set_window_size(width, 900)
    yield driver
    driver.quit()


@pytest.fixture
def pinned() -> Callable[[str, Path], None]:
    """Compare a text with a committed file; ``UPDATE_PINS=1`` in the environment writes the file instead."""

    def compare(text: str, path: Path) -> None:
        if os.environ.get("UPDATE_PINS"):
            path.write_text(text, encoding="utf-8")
        before = path.read_text(encoding="utf-8").splitlines()
        changes = [*difflib.unified_diff(before, text.splitlines(), "pinned", "now", n=0, lineterm="")]
        assert not changes, "\n".join(
            [f"{path.name} differs (if this is meant, write it anew: UPDATE_PINS=1 pytest ...)", *changes]
        )

    return compare
