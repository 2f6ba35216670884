"""Every figure of the bundled model's card, measured by ``linnaea evaluate`` on photographs that it never saw.

    python benchmarks/nano_scores.py --data DATA --output DIR [--model nano]

DATA is built from the research photographs with their fixed split (the command is in docs/nano.md). What is evaluated
already in DIR is not evaluated again. Prints the tables of docs/nano.md.
"""

import argparse
import json
import shutil
from importlib.resources import files
from pathlib import Path

from linnaea.cli import DONE, main
from linnaea.data.no_organism import write_pictures

SEEN = ("cub", "butterflies", "eu-moths", "primates", "beetles", "big-cats", "fungi", "colorado")
BROAD = ("animal-apps", "animals141", "bug-observations", "detmaster", "faunahub", "fishes", "herps", "imagenet-sample",
         "oceanus", "plant-guides", "popular-animals", "wildsphere")  # fmt: skip
"""The sources of the second folder; most have few photographs in `test`."""
UNSEEN = ("cub", "butterflies", "eu-moths", "colorado", "pfaf")
STRANGE = ("seedlings", "medicinal-leaves")
RANKS = ("class", "order", "family", "genus", "species")
N_EMPTY, EMPTY_SEED = 360, 1
"""Drawn pictures without an organism; calibration learnt from other ones (seed 0)."""

SHIPPED = ("brick.png", "chessboard_GRAY.png", "chessboard_RGB.png", "clock_motion.png", "coffee.png", "coins.png",
           "color.png", "gravel.png", "hubble_deep_field.jpg", "logo.png", "moon.png", "motorcycle_left.png",
           "page.png", "phantom.png", "rocket.jpg", "text.png")  # fmt: skip
"""Pictures without an organism that scikit-image carries."""

Metrics = dict[str, float]


def evaluate(model: str, data: Path, output: Path, *words: str) -> Metrics:
    """The metrics of one ``linnaea evaluate``, made now or before."""
    path = output / "metrics.json"
    if not path.exists() and main(["evaluate", model, "--data", str(data), "--output", str(output), *words]) != DONE:
        raise SystemExit(f"linnaea evaluate {model} {' '.join(words)} failed")
    return dict(json.loads(path.read_text()))


def copy_shipped(folder: Path) -> Path:
    """Real pictures of things; no kind of them was drawn for the calibration."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in SHIPPED:
        shutil.copyfile(str(files("skimage") / "data" / name), folder / name)
    return folder


def percent(metrics: Metrics, rank: str, *, of_images: bool = False) -> str:
    """Accuracy with its 95% interval, classes drawn whole; ``of_images`` adds that of images drawn one by one."""
    ends = ("mean", "low", "high", "images_low", "images_high")
    mean, low, high, *images = (100 * metrics[f"interval/{rank}/{end}"] for end in ends)
    return f"{mean:.1f} ({low:.1f}–{high:.1f})" + ("[{:.1f}–{:.1f}]".format(*images) if of_images else "")


def print_row(*cells: object) -> None:
    print("| " + " | ".join(map(str, cells)) + " |")


def print_head(*cells: str) -> None:
    print_row(*cells)
    print("|---" + "|---:" * (len(cells) - 1) + "|")


def main_scores() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--model", default="nano")
    given = parser.parse_args()

    def ask(name: str, *words: str) -> Metrics:
        return evaluate(given.model, given.data, given.output / name, *words)

    print("\nSeen species, zero-shot among the species of the source on `test`, % right (95% interval)\n")
    print_head("source", "photographs", "species", "species right", "genus", "family", "order")
    for source in SEEN:
        m = ask(f"test-{source}", "--split", "test", "--sources", source, "--species-only", "--shots", "0")
        ranks = [percent(m, rank) for rank in ("species", "genus", "family", "order")]
        print_row(source, int(m["n_images"]), int(m["n_candidates"]), *ranks)

    broad = "--split", "test", "--sources", *BROAD, "--species-only", "--shots", "0"
    for name, words in (("new sources", ()), ("new sources, all labels", ("--labels", given.model))):
        m = ask(f"test-{name.replace(', ', '-').replace(' ', '-')}", *broad, *words)
        ranks = [percent(m, rank) for rank in ("species", "genus", "family", "order")]
        print_row(name, int(m["n_images"]), int(m["n_candidates"]), *ranks)

    print("\nUnseen species, all taxa of the source as candidates: % right (95% interval, species drawn whole)"
          "[photographs drawn one by one]; chance; always the commonest\n")  # fmt: skip
    print_head("source", "photographs", "candidates", "species", "genus", "family")
    for source in UNSEEN:
        words = "--split", "unseen", "--sources", source, "--candidates", "all", "--shots", "0"
        m = ask(f"unseen-{source}", *words)
        cells = []
        for rank in ("species", "genus", "family"):
            chance, commonest = (100 * m[f"zero_shot/taxon_com/{base}/{rank}"] for base in ("chance", "majority"))
            cells.append(f"{percent(m, rank, of_images=True)}; {chance:.1f}; {commonest:.1f}")
        print_row(source, int(m["n_images"]), int(m["n_candidates"]), *cells)

    print("\nAmong the unseen species alone\n")
    print_head("source", "candidates", "species")
    for source in UNSEEN:
        m = ask(f"alone-{source}", "--split", "unseen", "--sources", source, "--candidates", "split", "--shots", "0")
        print_row(source, int(m["n_candidates"]), percent(m, "species"))

    print("\nSources it never saw, SimpleShot\n")
    print_head("source", "1-shot", "5-shot")
    for source in STRANGE:
        m = ask(f"transfer-{source}", "--split", "transfer", "--sources", source, "--shots", "1", "5")
        shots = [f"{100 * m[f'few_shot/{n}/mean']:.1f} ± {100 * m[f'few_shot/{n}/std']:.1f}" for n in (1, 5)]
        print_row(source, *shots)

    empty = given.output / "no-organism"
    if not empty.exists():
        write_pictures(empty, N_EMPTY, seed=EMPTY_SEED)
    things = copy_shipped(given.output / "things")
    empties = []
    print("\nAsked to be sure, all labels as candidates\n")
    print_head("split", "asked", "answered", "right (95% interval)", *(f"{rank} or deeper" for rank in RANKS))
    for split, what, folder in (("test", "drawn pictures", empty), ("unseen", "pictures of things", things)):
        words = "--split", split, "--species-only", "--labels", given.model, "--shots", "0"
        m = ask(f"sure-{split}", *words, "--no-organism", str(folder))
        empties += [
            (what, int(m["open_set/no_organism/n_images"]), m["open_set/no_organism/recognised"]),
            (f"photographs of `{split}`", int(m["n_images"]), m["open_set/organism/recognised"]),
        ]
        for asked in (0.8, 0.9, 0.95):
            place = f"auto/{asked}"
            right, low, high = (100 * m[f"{place}/{end}"] for end in ("right", "right_low", "right_high"))
            reached = [f"{100 * m[f'{place}/reaches/{rank}']:.1f}" for rank in RANKS]
            answered = f"{100 * m[f'{place}/asserted']:.1f}"
            print_row(split, f"{asked:g}", answered, f"{right:.1f} ({low:.1f}–{high:.1f})", *reached)
    print("\nNo organism recognised\n")
    print_head("pictures", "how many", "abstained, %")
    for what, n_images, recognised in empties:
        print_row(what, n_images, f"{100 * (1 - recognised):.1f}")


if __name__ == "__main__":
    main_scores()
