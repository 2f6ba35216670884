"""Scores of fully fine-tuned models by the questions of claims.py: the cells of its grid that matter most, in full.

    linnaea train nano-base --data DATA --output DIR/info_nce --backbone-weights WEIGHTS.pth --objective info_nce
    python benchmarks/claims_full.py --photos ../shared/species-images DIR/info_nce DIR/cross_entropy ...

DATA is the data set that ``linnaea data build`` makes of the photographs with their fixed split (docs/claims.md).
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from claims import (
    Photographs,
    by_seen_species,
    divide_photographs,
    prefixed,
    ranks_right,
    read_rows,
    zero_shot,
)
from claims_table import MAIN
from linnaea.evaluate.hierarchy import score_ranks
from linnaea.evaluate.probes import score_few_shot
from linnaea.model.encode import iter_encoded_images
from linnaea.model.load import TaxonModel
from linnaea.model.open import load_model
from linnaea.predict.labels import LabelBank, load_class_heads
from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.taxon import Taxon, TextType

SPLITS = ("test", "unseen")


def score_run(run: Path, photos: Path) -> dict[str, float]:
    """The scores of the grid's table for a model folder."""
    model = load_model(str(run), device="cpu")
    vectors = encode_rows(model, photos)
    parts, taxa = divide_photographs(photos, vectors)
    seen = np.unique(parts["train"].taxon_ids)
    heads = load_class_heads(run)
    scores: dict[str, float] = {}
    for split in SPLITS:
        part, ids = parts[split], np.unique(parts[split].taxon_ids)
        own = np.asarray(part.features.numpy())
        for score in score_few_shot(own, part.taxon_ids, (1, 5)):
            scores[f"{split}/{score.n_shots}-shot"] = score.mean
        if heads:
            scores |= prefixed(split, by_head(heads[Rank.SPECIES], part, own, taxa, ids if split == "test" else seen))
            continue
        found = zero_shot(model, part, own, taxa, ids, TextType.TAXON_COM)
        scores |= prefixed(f"{split}/taxon_com", {name: found[name] for name in ("top1", "genus", "family")})
        if split == "unseen":
            scores |= prefixed("unseen/by_seen", by_seen_species(model, part, own, taxa, seen))
    return scores


def encode_rows(model: TaxonModel, photos: Path) -> np.ndarray:
    """Unit vectors of the photographs of :data:`SPLITS`; zeros for the others, whose vectors nothing asks for."""
    rows = read_rows(photos)
    vectors = np.zeros((len(rows), model.width), np.float32)
    items = ((i, photos / row["filepath"]) for i, row in enumerate(rows) if row["eval_split"] in SPLITS)
    for i, vector in iter_encoded_images(model, items):
        if not isinstance(vector, np.ndarray):
            raise SystemExit(f"{rows[i]['filepath']}: {vector}")
        vectors[i] = vector
    return vectors


def by_head(head: LabelBank, part: Photographs, vectors: np.ndarray, taxa: list[Taxon],
            candidates: np.ndarray) -> dict[str, float]:  # fmt: skip
    """The head's answers among the taxa ``candidates``: their own species, or the nearest seen ones' ranks."""
    number_of = {taxa[number].lineage: number for number in candidates}
    kept = [(row, number_of[taxon.lineage]) for row, taxon in enumerate(head.taxa_list) if taxon.lineage in number_of]
    places, numbers = (np.array(column) for column in zip(*kept, strict=True))
    answer = numbers[(vectors @ np.asarray(head.vectors, np.float32)[places].T).argmax(axis=1)]
    if np.isin(part.taxon_ids, candidates).all():
        ranks = score_ranks(taxa, part.taxon_ids, answer)
        return {"class_head/top1": float((answer == part.taxon_ids).mean()),
                "class_head/genus": ranks["genus"], "class_head/family": ranks["family"]}  # fmt: skip
    return prefixed("by_seen", ranks_right(answer, part.taxon_ids, taxa))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--photos", type=Path, default=Path("../shared/species-images"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"| run | {' | '.join(MAIN)} |\n|---|{'---:|' * len(MAIN)}", flush=True)
    for run in options.runs:
        scores = score_run(run, options.photos)
        cells = [next((f"{100 * scores[name]:.1f}" for name in names if name in scores), "") for names in MAIN.values()]
        print(f"| {run.name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
