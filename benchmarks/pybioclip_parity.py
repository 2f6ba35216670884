"""Compare features and scores at all ranks with pybioclip's, on the same model, label bank and photographs.

    python -m venv /tmp/peer && /tmp/peer/bin/pip install pybioclip==2.1.6
    PYBIOCLIP_PYTHON=/tmp/peer/bin/python python benchmarks/pybioclip_parity.py PHOTOGRAPHS [--n 24]

A hub on this machine has a random model in the layout of ``imageomics/bioclip-2`` (224 pixels, width 768, logit scale
100) and a bank of real names with random vectors. One script runs twice: in pybioclip's environment, and in this one
with ``linnaea.compat.bioclip`` for ``bioclip``. ``linnaea predict`` answers the same photographs.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from hub import SMALL, Hub, serve_hub

FEATURES, SCORES = 2e-6, 4e-4
"""How far features and scores may be apart."""
CONFIG: dict[str, Any] = {
    **SMALL, "embed_dim": 768,
    "vision_cfg": {"image_size": 224, "layers": 4, "width": 256, "head_width": 64, "patch_size": 16},
}  # fmt: skip
SCRIPT = """
import json, sys
from MODULE import Rank, TreeOfLifeClassifier
images = json.load(open(sys.argv[1]))
classifier = TreeOfLifeClassifier(model_str="hf-hub:imageomics/bioclip-2")
features = [classifier.create_image_features_for_image(image, normalize=True).tolist() for image in images]
rows = {rank.get_label(): classifier.predict(images, rank, k=5) for rank in Rank}
json.dump({"features": features, "rows": rows}, open(sys.argv[2], "w"), default=str)
"""


def fill(hub: Hub, n_taxa: int) -> None:
    import torch

    from linnaea.predict.label_lists import taxa_of_checklist
    from linnaea.taxonomy.checklists.store import load_checklist
    from linnaea.taxonomy.ranks import RANK_LABELS

    folder = hub.add_model("imageomics/bioclip-2", model_cfg=CONFIG)
    weights = torch.load(folder / "open_clip_pytorch_model.bin")
    weights["logit_scale"].fill_(math.log(100))
    torch.save(weights, folder / "open_clip_pytorch_model.bin")
    taxa = taxa_of_checklist(load_checklist("inat")).sample(n_taxa, seed=0)
    names = [[list(row[:7]), row[7] or ""] for row in taxa.select(*RANK_LABELS, "common_name").iter_rows()]
    vectors = np.random.default_rng(0).normal(size=(n_taxa, CONFIG["embed_dim"]))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for name in ("txt_emb_species", "txt_emb_bioclip-2"):  # pybioclip 2.1.6 knows the first layout
        hub.add_bank("imageomics/TreeOfLife-200M", name, names, vectors)


def ask(python: str, module: str, images: Path, output: Path, environment: dict[str, str]) -> dict[str, Any]:
    code = SCRIPT.replace("MODULE", module)
    subprocess.run([python, "-c", code, str(images), str(output)], env=environment, check=True)
    found: dict[str, Any] = json.loads(output.read_text())
    return found


def compare_rows(theirs: list[dict[str, Any]], ours: list[dict[str, Any]]) -> tuple[float, int]:
    """Return the largest difference of scores and the number of rows that differ in anything else.

    Two rows whose scores are nearer than the bound may change places.
    """
    if len(theirs) != len(ours):
        return math.inf, abs(len(theirs) - len(ours))
    scores = max(abs(float(one["score"]) - float(other["score"])) for one, other in zip(theirs, ours, strict=True))
    n_others = 0
    for one, other in zip(theirs, ours, strict=True):
        near = [row for row in theirs if row["file_name"] == one["file_name"]
                and abs(float(row["score"]) - float(one["score"])) < SCORES]  # fmt: skip
        n_others += not any({key: row[key] for key in row if key != "score"}.items() <= other.items() for row in near)
    return scores, n_others


def by_command(rank: str, images: list[str], folder: Path, environment: dict[str, str]) -> list[dict[str, Any]]:
    import polars as pl

    words = ["predict", *images, "--model", "bioclip-2", "--rank", rank, "--k", "5", "--preprocess", "squash",
             "--no-calibration", "--device", "cpu", "--output", str(folder / "rows.csv")]  # fmt: skip
    subprocess.run([sys.executable, "-m", "linnaea", *words], env=environment, check=True, capture_output=True)
    rows = pl.read_csv(folder / "rows.csv", infer_schema=False).fill_null("")
    return rows.with_columns(pl.col("score").cast(pl.Float64)).to_dicts()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--n", type=int, default=24)
    parser.add_argument("--taxa", type=int, default=20_000)
    asked = parser.parse_args()
    every = sorted(path for path in asked.photographs.rglob("*") if path.suffix.lower() in (".jpg", ".png"))
    images = [str(every[n].resolve()) for n in np.random.default_rng(0).permutation(len(every))[: asked.n]]
    with tempfile.TemporaryDirectory() as name, serve_hub(Path(name) / "hub") as hub:
        folder = Path(name)
        fill(hub, asked.taxa)
        environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": f"{name}/home", "HF_HUB_OFFLINE": "0",
                       "LINNAEA_CACHE": f"{name}/cache"}  # fmt: skip
        (folder / "images.json").write_text(json.dumps(images))
        alone = {key: value for key, value in environment.items() if key != "PYTHONPATH"}
        theirs = ask(os.environ["PYBIOCLIP_PYTHON"], "bioclip", folder / "images.json", folder / "a.json", alone)
        ours = ask(sys.executable, "linnaea.compat.bioclip", folder / "images.json", folder / "b.json", environment)
        worst = float(np.abs(np.array(theirs["features"]) - np.array(ours["features"])).max())
        print(f"{len(images)} photographs, {asked.taxa:,} taxa: features within {worst:.1e}")
        good = worst <= FEATURES
        for rank, rows in theirs["rows"].items():
            for door, mine in (("classes", ours["rows"][rank]),
                               ("command", by_command(rank, images, folder, environment))):  # fmt: skip
                scores, others = compare_rows(rows, mine)
                good = good and scores <= SCORES and others == 0
                print(f"  {rank:8} {door}: {len(rows)} rows, scores within {scores:.1e}, {others} rows differ")
    print("parity" if good else "NO PARITY")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
