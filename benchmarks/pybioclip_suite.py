"""Run pybioclip's own tests against ``linnaea.compat.bioclip``, with a small random model on a hub on this machine.

    pip download pybioclip==2.1.6 --no-deps --no-binary :all:
    tar xzf pybioclip-2.1.6.tar.gz
    python benchmarks/pybioclip_suite.py pybioclip-2.1.6

The script makes a package ``bioclip`` in a temporary folder that re-exports ``linnaea.compat.bioclip``, and a hub with
a model in the layout of ``imageomics/bioclip-2`` (768 numbers wide, its towers tiny) and a bank of ten taxa. The model
knows nothing: the bank's first vector is that of the cat of the tests, so that the cat is recognised, and the seed is
one with which "cat" is likelier than "dog".
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from hub import SMALL, Hub, serve_hub

MODEL, DATA = "imageomics/bioclip-2", "imageomics/TreeOfLife-200M"
WIDTH, SEEDS = 768, 50
CAT = ["Animalia", "Chordata", "Mammalia", "Carnivora", "Felidae", "Felis"]
BEAR = [*CAT[:4], "Ursidae", "Ursus"]
NAMES = [
    *([[*CAT, epithet], "cat"] for epithet in ("catus", "silvestris", "chaus", "margarita", "nigripes", "lybica")),
    *([[*BEAR, epithet], "bear"] for epithet in ("arctos", "americanus", "maritimus")),
    [["Animalia", "Chordata", "Aves", "Passeriformes", "Corvidae", "Pica", "pica"], "magpie"],
]
PACKAGE = """
import sys

import linnaea.compat.bioclip

sys.modules[__name__] = linnaea.compat.bioclip
"""


def main() -> int:
    source = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder, serve_hub(Path(folder) / "hub") as hub:
        package = Path(folder) / "package" / "bioclip"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(PACKAGE)
        environment = {
            **os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": f"{folder}/home", "HF_HUB_OFFLINE": "0",
            "LINNAEA_CACHE": f"{folder}/cache",
            "PYTHONPATH": os.pathsep.join([str(package.parent), os.environ.get("PYTHONPATH", "")]),
        }  # fmt: skip
        fill(hub, source / "tests" / "images" / "mycat.jpg", source / "tests" / "images" / "mycat.png")
        shutil.copytree(source / "tests", Path(folder) / "tests")  # away from the source, which would be imported
        words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rf", "--tb=line", *sys.argv[2:]]
        return subprocess.run([*words, "tests"], env=environment, cwd=folder, check=False).returncode


def fill(hub: Hub, *cats: Path) -> None:
    """Write a model that prefers "cat" to "dog" for the cats, and a bank whose cat is theirs."""
    from linnaea.predict.pybioclip import BaseClassifier, CustomLabelsClassifier

    config = {**SMALL, "embed_dim": WIDTH, "vision_cfg": {**SMALL["vision_cfg"], "image_size": 224, "patch_size": 32}}
    for seed in range(SEEDS):
        folder = hub.add_model(MODEL, seed=seed, model_cfg=config)
        words = CustomLabelsClassifier(["cat", "dog"], model_str=str(folder))
        rows = words.predict([str(cat) for cat in cats])
        if [row["classification"] for row in rows] == ["cat", "dog"] * len(cats):
            break
    else:
        raise SystemExit(f"none of {SEEDS} seeds prefers the cat")
    base = BaseClassifier(model_str=str(folder))
    vectors = np.random.default_rng(0).normal(size=(len(NAMES), WIDTH))
    vectors[0] = base.create_image_features_for_image(str(cats[0])).numpy()
    hub.add_bank(DATA, "txt_emb_bioclip-2", NAMES, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


if __name__ == "__main__":
    sys.exit(main())
