"""A kill at, or an error of, any system call that changes files leaves the old or the new (strace injects them)."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from test_changes import CORVIDS, checklist

from linnaea.data.migration import migrate_data_set
from linnaea.data.shards import DataSet, make_taxa_table, write_parquet
from linnaea.model.encoder import Encoder
from linnaea.model.preprocess import Preprocess
from linnaea.predict.index import Index, update_index
from linnaea.predict.inputs import Input
from linnaea.predict.labels import LabelBank
from linnaea.taxonomy.checklists import store
from linnaea.taxonomy.columns import NAME_COLUMNS
from linnaea.taxonomy.migrate import Migration
from linnaea.taxonomy.taxon import Taxon

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]

CALLS = ("rename", "renameat", "renameat2", "unlink", "unlinkat", "fsync", "link", "linkat", "mkdir", "rmdir", "chmod",
         "ftruncate", "write")  # fmt: skip
HARM = {"kill": "signal=KILL", "error": "error=ENOSPC"}


@dataclass(frozen=True, kw_only=True)
class Change:
    """How a folder gets its state 1 or 2, and how its state is seen."""

    make: Callable[[Path, int], object]
    state: Callable[[Path], int]


def make_bank(folder: Path, number: int) -> None:
    row = {"taxon_id": [0], **{name: [str(number)] for name in NAME_COLUMNS}}
    taxa = pl.DataFrame(row, schema_overrides={"taxon_id": pl.Int32})
    LabelBank(taxa, np.full((1, 4), number, np.float32), {"model": str(number), "text_type": "sci"}).save(folder)


def state_of_bank(folder: Path) -> int:
    bank = LabelBank.open(folder)
    (one,) = {int(bank.facts["model"]), int(bank.taxa["genus"][0]), int(bank.vectors[0, 0])}
    return one


def make_checklist(folder: Path, number: int) -> None:
    table, name = folder.with_name(f"{number}.csv"), "pica" if number == 1 else "alba"
    table.write_text(f"kingdom,phylum,class,order,family,genus,species\nAnimalia,Chordata,Aves,P,C,Pica,{name}\n")
    store._save(store.make_checklist(store.read_checklist_source(table)), folder, "mine", "x")


def state_of_checklist(folder: Path) -> int:
    return 1 if store._open(folder).taxa["name"][-1] == "Pica pica" else 2


class Grey(Encoder):
    """A model whose vectors say how grey a picture is."""

    name, preprocess, facts = "grey", Preprocess(image_size=8), {}
    fingerprint, width, logit_scale = "grey", 4, 1.0  # type: ignore[assignment]

    def encode_pixels(self, pixels_BCHW: Any, *, unit: bool = True) -> Any:
        return np.eye(4, dtype=np.float32)[pixels_BCHW[:, 0, 0, 0].astype(int) % 4]

    def encode_captions(self, captions: Any, on_progress: Any) -> Any:
        raise NotImplementedError


def grey_photograph(number: int) -> Input:
    return Input(name=f"{number}.jpg", load=lambda size: np.full((8, 8, 3), number, np.uint8))


def make_index(folder: Path, number: int) -> None:
    photographs = [grey_photograph(grey) for grey in range(1 if number == 1 else 3)]
    update_index(Grey(), photographs, folder, batch_size=1, n_workers=1)


def state_of_index(folder: Path) -> int:
    """An index grows photograph by photograph; each of them is right."""
    index = Index.open(folder)
    found = [int(name[0]) for name in index.names]
    assert [int(vector.argmax()) for vector in index.vectors(0, 9)] == found == list(range(len(found)))
    return 1 if len(found) < 3 else 2


def make_data_set(folder: Path, number: int) -> None:
    names = ("Corvus monedula", "Pica pica")
    if number == 2:
        moved = {"Corvus monedula": "Coloeus monedula"}
        new = checklist(f"{CORVIDS} Coloeus monedula", f"{CORVIDS} Pica pica", version="2", synonyms=moved)
        migrate_data_set(folder, Migration.between(checklist(*(f"{CORVIDS} {name}" for name in names)), new))
        return
    folder.mkdir()
    row = {"key": ["a", "b"], "split": "train", "shard": "train/s.tar", "offset": 0, "size": 0, "taxon_id": [0, 1]}
    write_parquet(pl.DataFrame(row, schema_overrides={"taxon_id": pl.Int32}), folder / "index.parquet")
    taxa = make_taxa_table(Taxon((*CORVIDS.split(), *name.split())) for name in names)  # type: ignore[arg-type]
    write_parquet(taxa, folder / "taxa.parquet")
    (folder / "manifest.json").write_text(json.dumps({"fingerprint": "x", "shards": {}}))


def state_of_data_set(folder: Path) -> int:
    data = DataSet.open(folder)
    first, second = (data.taxon(row).scientific_name for row in data.index["taxon_id"])
    assert second == "Pica pica"
    return {"Corvus monedula": 1, "Coloeus monedula": 2}[first]


CHANGES: Mapping[str, Change] = {
    "bank": Change(make=make_bank, state=state_of_bank),
    "checklist": Change(make=make_checklist, state=state_of_checklist),
    "index": Change(make=make_index, state=state_of_index),
    "data set": Change(make=make_data_set, state=state_of_data_set),
}
RUN = (
    "import sys; from pathlib import Path; import test_killed_at_system_calls as t; t.CHANGES[{!r}].make(Path({!r}), 2)"
)


def run_harmed(kind: str, folder: Path, call: str, inject: str, log: Path) -> subprocess.CompletedProcess[str]:
    """Bring a folder from state 1 to state 2 in another process, whose first thread is harmed at a call."""
    tests = Path(__file__).parent
    paths = [str(tests), str(tests / "taxonomy"), *filter(None, sys.path)]
    more = {"PYTHONPATH": os.pathsep.join(paths), "POLARS_MAX_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    tracer = ["strace", "-qq", "-o", str(log), "--seccomp-bpf", f"--trace={call}", f"--inject={call}:{inject}"]
    words = [*tracer, sys.executable, "-c", RUN.format(kind, str(folder))]
    return subprocess.run(words, check=False, capture_output=True, text=True, env=os.environ | more)


def moments(kind: str, folder: Path, harm: str) -> Iterator[subprocess.CompletedProcess[str]]:
    """Make the change with harm at the first call of each kind, at the second, and so on, from the old state."""
    work, kept, log = folder.parent, folder.parent.with_name("kept"), folder.parent.with_name("calls")
    CHANGES[kind].make(folder, 1)
    shutil.copytree(work, kept)
    for call in CALLS:
        number, was_harmed = 0, True
        while was_harmed:
            number += 1
            shutil.rmtree(work)
            shutil.copytree(kept, work)
            done = run_harmed(kind, folder, call, f"{HARM[harm]}:when={number}", log)
            was_harmed = done.returncode in (-9, 137) or "(INJECTED)" in log.read_text()
            if was_harmed:
                yield done


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("kind", CHANGES)
def test_any_harm_leaves_the_old_or_the_new(kind: str, harm: str, tmp_path: Path) -> None:
    folder, n_harmed = tmp_path / "work" / "folder", 0
    folder.parent.mkdir()
    for done in moments(kind, folder, harm):
        found = CHANGES[kind].state(folder)
        assert found in ((2,) if done.returncode == 0 else (1, 2)), done.stderr
        CHANGES[kind].make(folder, 2)
        assert CHANGES[kind].state(folder) == 2, "the same command works afterwards"
        n_harmed += 1
    print(f"{kind}: {n_harmed} times {harm}")
    assert n_harmed >= 5
