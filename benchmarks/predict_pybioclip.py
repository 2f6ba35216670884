"""Prediction against pybioclip: the same tower, the same bank of 860,000 real names, the same photographs.

pybioclip may live in an environment of its own; name its interpreter (without, it is imported from this one):

    python -m venv /tmp/peer && /tmp/peer/bin/pip install pybioclip
    PYBIOCLIP_PYTHON=/tmp/peer/bin/python python benchmarks/predict_pybioclip.py [--parts ranks end agree memory]

The tower is ViT-B/16 as open_clip initialises it, logit scale 100, saved as open_clip saves it; the bank is species of
the embedded checklist with random unit vectors of width 512, in float32 for both. Parts:

  ranks   parity of scores and of the five likeliest at every rank, and what ranks cost on top of product and softmax
  end     photographs to the five likeliest species, both on all cores, in turns; float32, and ours in bf16 and int8
  agree   ours in bf16 against float32: the likeliest species, with banks of several seeds
  memory  what is held beyond model and bank: ours for 10,000 pictures, the peer for 1,000 (a small tower, as the tower
          is not what is measured)

pybioclip gets its bank by overriding the two methods that fetch it from the hub, and is called with a callback so that
it draws no progress bar; both are as its users do it. Version 2.1.5 fails where a single taxon passes its threshold
(not so here, where a hundred thousand do), and 2.1.6 mended that. Nothing else is worked around.
"""

import argparse
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bank_memory import make_bank_folder, random_unit_vectors

RANKS = ("kingdom", "phylum", "class", "order", "family", "genus", "species")

COMMON = """
import io, json, sys, time
import numpy as np
from PIL import Image

def status(word):
    with open("/proc/self/status") as lines:
        return int(next(line for line in lines if line.startswith(word)).split()[1]) / 1024

def answer(**facts):
    print("ANSWER " + json.dumps(facts), flush=True)

def picture(number):  # 64 x 64, each another
    pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC)

def serve(predict, rank_costs, many):
    answer(ready=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["do"] == "predict":
            start = time.perf_counter()
            rows = predict(asked["images"])
            answer(seconds=time.perf_counter() - start, rows=rows)
        elif asked["do"] == "ranks":
            answer(**rank_costs(asked["images"]))
        elif asked["do"] == "memory":
            many(64)  # the bank's pages are in by now
            before = status("VmRSS")
            with open("/proc/self/clear_refs", "w") as refs:
                refs.write("5")
            start = time.perf_counter()
            many(asked["n"])
            answer(before=before, peak=status("VmHWM"), seconds=time.perf_counter() - start)
"""

PEER = """
import torch
from bioclip.predict import TreeOfLifeClassifier, Rank

class Peer(TreeOfLifeClassifier):
    def get_txt_emb(self):
        return torch.from_numpy(np.load(sys.argv[2] + "/txt_emb_species.npy"))
    def get_txt_names(self):
        with open(sys.argv[2] + "/txt_emb_species.json") as stream:
            return json.load(stream)

peer = Peer(model_str="local-dir:" + sys.argv[1])

def quiet(done, total):
    pass

def predict(images):
    return peer.predict(images, Rank.SPECIES, callback=quiet)

@torch.no_grad()
def rank_costs(images):
    start = time.perf_counter()
    bank = peer.get_txt_embeddings()
    probs = peer.create_batched_probabilities_for_images(images, bank, batch_size=10, callback=quiet)
    whole, cost, rows = time.perf_counter() - start, {}, {}
    for rank in Rank:
        start = time.perf_counter()
        of_rank = {}
        for image in images:
            p = probs[image].cpu()
            of_rank[image] = (peer.format_species_probs(image, p, 5) if rank == Rank.SPECIES
                              else peer.format_grouped_probs(image, p, rank))
        cost[rank.get_label()] = (time.perf_counter() - start) / len(images)
        rows[rank.get_label()] = of_rank
    return {"whole": whole / len(images), "cost": cost, "rows": rows}

def many(n):
    peer.predict([picture(number) for number in range(n)], Rank.SPECIES, callback=quiet)

serve(predict, rank_costs, many)
"""

OURS = """
from pathlib import Path
import torch
from linnaea.model.encode import iter_encoded_images
from linnaea.model.open import open_encoder
from linnaea.predict.classifier import guess_at_rank, iter_scored, sum_to_all_ranks
from linnaea.predict.inputs import bytes_input, list_inputs
from linnaea.predict.labels import LabelBank
from linnaea.predict.predictor import Predictor
from linnaea.taxonomy.ranks import RANK_LABELS, Rank

model = open_encoder(sys.argv[1], device="cpu", precision=sys.argv[3])
bank = LabelBank.open(Path(sys.argv[2]))
bank.groups
predictor = Predictor(model=model, bank=bank)

def row(name, guess):
    taxon = guess.taxon
    lineage = {label: taxon.lineage[at] for at, label in enumerate(RANK_LABELS)}
    species = f"{taxon.genus} {taxon.species}" if taxon.species else ""
    return {"file_name": name, **lineage, "species": species, "score": guess.score}

def predict(images):
    return [row(one.input.name, guess) for one in predictor.answer(list_inputs(images)) for guess in one.guesses]

def guess_at_all_ranks(probabilities):
    sums = sum_to_all_ranks(probabilities, bank)
    return {rank: guess_at_rank(sums[rank], bank, rank, 5) for rank in Rank}

def rank_costs(images):
    start = time.perf_counter()
    vectors = np.stack([vector for _, vector in iter_encoded_images(model, [(name, Path(name)) for name in images])])
    blocks = list(iter_scored(vectors, bank, model.logit_scale))
    whole = time.perf_counter() - start
    for _ in range(2):  # the second is what a batch after the first costs
        start = time.perf_counter()
        guesses = [guess_at_all_ranks(block.probability_BK) for block in blocks]
        cost = time.perf_counter() - start
    rows = {}
    for rank in guesses[0]:
        of_rank = [found for block in guesses for found in block[rank]]
        rows[rank.label] = {name: [row(name, one) for one in found] for name, found in zip(images, of_rank)}
    return {"whole": whole / len(images), "cost": {"all": cost / len(images)}, "rows": rows}

def many(n):
    def inputs():
        for number in range(n):
            stream = io.BytesIO()
            picture(number).save(stream, "JPEG")
            yield bytes_input(str(number), stream.getvalue())
    assert sum(len(one.guesses) == 5 for one in predictor.answer(inputs())) == n

serve(predict, rank_costs, many)
"""


class Child:
    """One side in a process of its own, that answers when asked."""

    def __init__(self, python: str, code: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [python, "-c", COMMON + code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._read()

    def ask(self, **asked: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("ANSWER "):
                found: dict[str, Any] = json.loads(line.removeprefix("ANSWER "))
                return found
        sys.exit("one side ended; what it said is above")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def make_tower(folder: Path, name: str) -> None:
    """A CLIP model as open_clip initialises and saves it: ViT-B/16, or a tower that costs nothing."""
    if (folder / "open_clip_config.json").exists():
        return
    import open_clip
    import torch
    from safetensors.torch import save_file

    config = open_clip.get_model_config("ViT-B-16")
    assert config is not None
    if name == "tiny":
        config["vision_cfg"] = {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 16}
        config["text_cfg"] |= {"layers": 1, "width": 64, "heads": 2}
    torch.manual_seed(0)
    clip = open_clip.model.CLIP(**config)
    with torch.no_grad():
        clip.logit_scale.fill_(math.log(100))
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {key: value.contiguous() for key, value in clip.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    preprocess = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711],
                  "interpolation": "bicubic", "resize_mode": "shortest"}  # fmt: skip
    whole = {"model_cfg": config, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(whole, indent=1))
    from linnaea.model.onnx_export import write_graph
    from linnaea.model.open import load_model

    side = config["vision_cfg"]["image_size"]  # a packed model has a graph, too
    write_graph(load_model(str(folder), device="cpu"), folder, np.zeros((1, 3, side, side), np.uint8))


def make_int8(tower: Path, paths: list[str]) -> None:
    """The tower in 8 bits; its random weights would be refused where answers count."""
    from linnaea.data.images import decode
    from linnaea.model.folders import INT8_FILE
    from linnaea.model.onnx_export import write_int8
    from linnaea.model.open import load_model

    if not (tower / INT8_FILE).exists():
        model = load_model(str(tower), device="cpu")
        pixels = np.stack([model.preprocess.pixels(decode(Path(path).read_bytes())) for path in paths[:16]])
        write_int8(model, tower, pixels.astype(np.uint8))


def make_banks(ours: Path, peers: Path, n_taxa: int, width: int) -> None:
    """One bank in both forms, float32."""
    from linnaea.predict.labels import LabelBank
    from linnaea.predict.published import write_published_bank

    make_bank_folder(ours, n_taxa, width, "float32")
    if not (peers / "txt_emb_species.json").exists():
        path = write_published_bank(LabelBank.open(ours), peers)
        columns = np.load(path, mmap_mode="r")  # the published file is in C order: a row per cell
        np.save(peers / "rows.npy", np.ascontiguousarray(columns))
        (peers / "rows.npy").replace(path)


def make_photographs(folder: Path, n: int) -> list[str]:
    """Drawn photographs of 1000 x 800 pixels; only where none of one's own are given."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for number in range(n):
        if not (folder / f"{number}.jpg").exists():
            rng = np.random.default_rng(number)
            coarse = Image.fromarray(rng.integers(0, 256, (8, 10, 3), dtype=np.uint8)).resize((1000, 800))
            grain = rng.normal(0, 12, (800, 1000, 3))
            pixels = np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.jpg", quality=90)
    return [str(folder / f"{number}.jpg") for number in range(n)]


def name_of(row: dict[str, Any], rank: str) -> str:
    at = RANKS.index(rank)
    return " ".join([*(row[label] for label in RANKS[: min(at, 5) + 1]), row["species"] if rank == "species" else ""])


def compare(theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    """Scores at every place of the five, and names wherever neighbours differ by more than a thousandth."""
    for rank in RANKS:
        worst, n_names, n_same = 0.0, 0, 0
        for image, rows in theirs["rows"][rank].items():
            mine = ours["rows"][rank][image]
            assert len(mine) == len(rows), f"{rank}: {len(mine)} and {len(rows)} answers"
            scores = [row["score"] for row in rows]
            for place, (a, b) in enumerate(zip(rows, mine, strict=True)):
                worst = max(worst, abs(a["score"] - b["score"]) / a["score"])
                near = [abs(a["score"] - scores[other]) / a["score"] for other in (place - 1, place + 1)
                        if 0 <= other < len(scores)]  # fmt: skip
                if not near or min(near) > 1e-3:
                    n_names, n_same = n_names + 1, n_same + (name_of(a, rank) == name_of(b, rank))
        word = "the same" if n_same == n_names else f"ONLY {n_same} THE SAME"
        print(f"  {rank:8} scores within {worst:.1e}; {n_names} names to compare, {word}")


def part_ranks(peer: Child, ours: Child, images: list[str]) -> None:
    theirs, mine = peer.ask(do="ranks", images=images), ours.ask(do="ranks", images=images)
    print(f"Parity and the cost of ranks, {len(images)} photographs")
    compare(theirs, mine)
    all_ranks, cost = sum(theirs["cost"].values()), mine["cost"]["all"]
    each = ", ".join(f"{rank} {seconds:.2g}" for rank, seconds in theirs["cost"].items())
    print(f"  all seven ranks: pybioclip {all_ranks:.1f} s a photograph ({each}),")
    print(f"  ours {cost * 1000:.1f} ms: {all_ranks / cost:,.0f} times (aim: 1,000)")
    print(f"  a photograph at family rank, end to end: pybioclip {theirs['whole'] + theirs['cost']['family']:.2f} s,"
          f" ours at all ranks {mine['whole'] + cost:.2f} s")  # fmt: skip


def part_end(sides: dict[str, Child], images: list[str], rounds: int) -> None:
    rows: dict[str, Any] = {}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for child in sides.values():
        child.ask(do="predict", images=images[:8])
    for _ in range(rounds):
        for name, child in sides.items():
            done = child.ask(do="predict", images=images)
            times[name].append(done["seconds"] / len(images))
            rows[name] = [row["species"] for row in done["rows"]][::5]
    print(f"End to end at species rank, {len(images)} photographs, {os.cpu_count()} cores, medians of {rounds} rounds")
    first = next(iter(sides))
    for name, seconds in times.items():
        same = np.mean([a == b for a, b in zip(rows[name], rows[first], strict=True)])
        ratio = np.median(np.array(times[first]) / np.array(seconds))
        listed = ", ".join(f"{value * 1000:.0f}" for value in seconds)
        print(f"  {name:18} {np.median(seconds) * 1000:6.0f} ms a photograph ({listed}); {ratio:.2f} times {first};"
              f" same first species {same:.1%}")  # fmt: skip


def part_agree(tower: Path, images: list[str], n_taxa: int, n_banks: int) -> None:
    """Random banks are as hard as it gets: among so many random vectors the best two are often nearly equal."""
    from linnaea.model.encode import iter_encoded_images
    from linnaea.model.open import open_encoder

    vectors = {}
    for precision in ("float32", "bf16"):
        model = open_encoder(str(tower), device="cpu", precision=precision)
        start = time.perf_counter()
        found = [vector for _, vector in iter_encoded_images(model, [(name, Path(name)) for name in images])]
        vectors[precision] = np.stack(found)
        print(
            f"  {precision}: {(time.perf_counter() - start) / len(images) * 1000:.0f} ms a photograph for the vectors"
        )
    error = np.linalg.norm(vectors["bf16"] - vectors["float32"], axis=1).mean()
    same: list[float] = []
    for seed in range(n_banks):
        best = {key: [np.full(len(images), -2.0), np.zeros(len(images), int)] for key in vectors}
        for start in range(0, n_taxa, 65_536):
            bank = random_unit_vectors(
                min(65_536, n_taxa - start), vectors["bf16"].shape[1], seed=10_000 * seed + start
            )
            for key, of_images in vectors.items():
                scores = of_images @ bank.T
                top, where = scores.max(axis=1), scores.argmax(axis=1)
                better = top > best[key][0]
                best[key][0][better], best[key][1][better] = top[better], start + where[better]
        same.append((best["float32"][1] == best["bf16"][1]).mean())
    print(f"  bf16 against float32: vectors {error:.2%} apart; same first of {n_taxa:,} random vectors for"
          f" {np.mean(same):.2%} of {len(images)} photographs x {n_banks} banks")  # fmt: skip


def part_memory(peer: Child, ours: Child, n_peer: int, n_ours: int) -> None:
    print("Memory beyond model and bank, at species rank")
    done = peer.ask(do="memory", n=n_peer)
    grown = done["peak"] - done["before"]
    print(f"  pybioclip, {n_peer:,} pictures: {grown:,.0f} MB ({done['seconds']:.0f} s);"
          f" scaled to 10,000: {grown * 10_000 / n_peer / 1000:,.1f} GB")  # fmt: skip
    peer.close()
    done = ours.ask(do="memory", n=n_ours)
    print(f"  ours, {n_ours:,} pictures: {done['peak'] - done['before']:,.0f} MB ({done['seconds']:.0f} s);"
          " aim: 10,000 in under 4 GB")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=["ranks", "end", "agree", "memory"])
    parser.add_argument("--taxa", type=int, default=860_000)
    parser.add_argument("--photographs", type=Path, help="a folder of one's own; default: drawn, 1000 x 800")
    parser.add_argument("--n-ranks", type=int, default=2, help="photographs for the cost of ranks")
    parser.add_argument("--n-end", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--n-agree", type=int, default=200)
    parser.add_argument("--banks", type=int, default=3)
    parser.add_argument("--n-memory", type=int, default=10_000)
    parser.add_argument("--n-peer-memory", type=int, default=1_000)
    parser.add_argument("--folder", type=Path, help="keep towers, bank and drawn photographs there, for another run")
    options = parser.parse_args()
    python = os.environ.get("PYBIOCLIP_PYTHON", sys.executable)
    if "PYBIOCLIP_PYTHON" not in os.environ and importlib.util.find_spec("bioclip") is None:
        print("(set PYBIOCLIP_PYTHON to measure against pybioclip; see the top of this file)")
        options.parts = [part for part in options.parts if part == "agree"]
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        tower, tiny = folder / "vit-b16", folder / "tiny"
        make_tower(tower, "vit-b16")
        make_tower(tiny, "tiny")
        bank, published = folder / f"{options.taxa}-512-float32", folder / f"published-{options.taxa}"
        make_banks(bank, published, options.taxa, 512)
        n = max(options.n_end, options.n_agree, options.n_ranks)
        if options.photographs:
            images = sorted(str(path) for path in options.photographs.rglob("*.jpg"))
            images = images[:: max(1, len(images) // n)][:n]
        else:
            images = make_photographs(folder / "photographs", n)

        def ours(model: Path, precision: str) -> Child:
            return Child(sys.executable, OURS, str(model), str(bank), precision)

        if {"ranks", "end"} & set(options.parts):
            sides = {
                "pybioclip": Child(python, PEER, str(tower), str(published)),
                "ours, float32": ours(tower, "float32"),
            }
            if "ranks" in options.parts:
                part_ranks(*sides.values(), images[: options.n_ranks])
            if "end" in options.parts:
                make_int8(tower, images)
                sides |= {f"ours, {precision}": ours(tower, precision) for precision in ("bf16", "int8")}
                part_end(sides, images[: options.n_end], options.rounds)
            for child in sides.values():
                child.close()
        if "agree" in options.parts:
            print("Agreement of bf16 with float32")
            part_agree(tower, images[: options.n_agree], options.taxa, options.banks)
        if "memory" in options.parts:
            peer, mine = Child(python, PEER, str(tiny), str(published)), ours(tiny, "float32")
            part_memory(peer, mine, options.n_peer_memory, options.n_memory)
            mine.close()


if __name__ == "__main__":
    main()
