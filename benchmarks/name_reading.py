"""How names are read and resolved where the right answer is known.

    python benchmarks/name_reading.py [--shared ../shared] [--only strings synonyms holdout forms speed] [--small]

- strings: the name strings of gnparser's own tests (``shared/taxonomy/name-strings.tsv``) against its canonical form
  and authorship. ``--differences`` prints those that differ.
- synonyms: an archive drawn from the embedded checklist, with 10,000 names below the species that are synonyms of
  other species, in four spellings each, resolved against itself.
- holdout: 30,000 species, resolved by the embedded checklist without them. None of them should be asserted as another.
- forms: 12,000 labels in twelve forms of writing one name.
- speed: a million names, in processor seconds of one process.
"""

import argparse
import csv
import random
import re
import resource
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from linnaea.taxonomy.checklists.arrange import SYNONYM_SCHEMA
from linnaea.taxonomy.checklists.store import Checklist, load_checklist, with_keys
from linnaea.taxonomy.names import parse_labels
from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.readings import Rejection
from linnaea.taxonomy.resolve import Resolver

ASSERTED = ("accepted", "synonym", "vernacular", "fuzzy")
AUTHORS = ("L.", "Mill.", "(L.) Mill.", "Linnaeus, 1758", "(Fabricius, 1775)", "Gonn. & Rabenh.", "DC.", "Walker, 1866")
MARKS = ("subsp.", "ssp.", "var.", "f.")
SECTIONS_BY_DESIGN = re.compile(
    r"hybrid|formula|virus|cultivar|infragener|two uninomials|\bcf\b|approx|comparison|surrogate|graft|chimera|"
    r"no parsing|open taxonomy",
    re.IGNORECASE,
)
"""Sections whose names we answer otherwise on purpose: a formula is a genus, a subgenus is its genus, and so on."""


def main() -> None:
    """Print the tables; see the module's docstring."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shared", type=Path, default=Path(__file__).resolve().parents[2] / "shared")
    parser.add_argument("--only", nargs="*", default=["strings", "synonyms", "holdout", "forms", "speed"])
    parser.add_argument("--small", action="store_true", help="a tenth of the sizes")
    parser.add_argument("--differences", action="store_true", help="print what differs")
    options = parser.parse_args()
    share = 10 if options.small else 1
    parts: dict[str, Callable[[], pl.DataFrame]] = {
        "strings": lambda: score_strings(options.shared / "taxonomy" / "name-strings.tsv"),
        "synonyms": lambda: score_synonyms(load_checklist("inat"), 10_000 // share),
        "holdout": lambda: score_holdout(load_checklist("inat"), 30_000 // share),
        "forms": lambda: score_forms(
            options.shared / "taxonomy" / "inat21-categories.csv", load_checklist("inat"), 12_000 // share
        ),
        "speed": lambda: score_speed(load_checklist("inat"), 1_000_000 // share),
    }
    for name in options.only:
        table = parts[name]()
        print(f"\n{name}")
        with pl.Config(
            tbl_rows=200, tbl_cols=20, fmt_str_lengths=90, tbl_width_chars=240, tbl_hide_dataframe_shape=True
        ):
            print(summarise(table))
            if options.differences:
                print(table.filter(pl.col("verdict").is_in(("wrong", "missed"))))


def summarise(table: pl.DataFrame) -> pl.DataFrame:
    """Return one row per form with the counts and percentages of each verdict."""
    every = pl.concat([table, table.with_columns(form=pl.lit("all"))])
    counts = every.group_by("form", maintain_order=True).agg(
        n=pl.len(),
        right=(pl.col("verdict") == "right").sum(),
        wrong=(pl.col("verdict") == "wrong").sum(),
        missed=(pl.col("verdict") == "missed").sum(),
    )
    share = [(100 * pl.col(c) / pl.col("n")).round(2).alias(f"{c} %") for c in ("right", "wrong", "missed")]
    return counts.with_columns(share)


# Reading alone.


def score_strings(path: Path) -> pl.DataFrame:
    """Compare canonical forms and authorships; ``form`` says which, ``verdict`` whether they agree."""
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    rows = [row for row in rows if row["canonical"] and not SECTIONS_BY_DESIGN.search(row["section"])]
    rows = [row for row in rows if not re.search(r" (?:cf\.?|x|×) ", row["name"])]
    out = []
    for row, parsed in zip(rows, parse_labels([row["name"] for row in rows]), strict=True):
        name, authorship = ("", "") if isinstance(parsed, Rejection) else (parsed.name, parsed.authorship)
        same = fold(name) == fold(row["canonical"])
        out.append(("canonical", row["name"], row["canonical"], name, "right" if same else "wrong"))
        if row["authorship"] and same:
            agree = letters(authorship) == letters(row["authorship"])
            out.append(("authorship", row["name"], row["authorship"], authorship, "right" if agree else "wrong"))
    return pl.DataFrame(out, schema=["form", "label", "truth", "found", "verdict"], orient="row")


def fold(name: str) -> str:
    """Return a canonical form in small letters."""
    return name.lower().replace("×", "").replace("  ", " ").strip()


def letters(authorship: str) -> str:
    """Return the letters, digits and joints of an authorship."""
    plain = unicodedata.normalize("NFKD", authorship)
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return re.sub(r"[^a-z0-9&]", "", re.sub(r"\bet\b", "&", plain).lower())


# Synonyms below the species.


def draw_archive(checklist: Checklist, n: int, seed: int = 0) -> tuple[Checklist, pl.DataFrame]:
    """Return a checklist with ``n`` synonyms below the species, and their names with the true species.

    Each synonym is written under one species and belongs to another of its genus. One in ten has a namesake at another
    rank, or with another author, that belongs to a third species.
    """
    draw = random.Random(seed)
    species = checklist.taxa.with_row_index("row").filter(
        (pl.col("rank") == int(Rank.SPECIES)) & pl.col("name").str.contains(r"^[A-Z][a-z]+ [a-z]{4,}$")
    )
    genera = (
        species.group_by("genus", maintain_order=True)
        .agg("row", "name", "species")
        .filter(pl.col("row").list.len() > 4)
    )
    synonyms, truth = [], []
    for rows, names, epithets in (
        genera.sample(min(n, genera.height), seed=seed, shuffle=True).select("row", "name", "species").iter_rows()
    ):
        for _ in range(max(1, n // genera.height + 1)):
            under, of, other = draw.sample(range(len(rows)), 3)
            infra = f"{epithets[of][:-2]}{draw.choice(('ella', 'ina', 'oides', 'iana'))}"
            mark, author = draw.choice(MARKS), draw.choice(AUTHORS)
            name = f"{names[under]} {mark} {infra}"
            synonyms.append((name, author, rows[of], "synonym"))
            truth.append((name, author, names[of]))
            if draw.random() < 0.1:
                second = draw.choice([a for a in AUTHORS if a != author])
                synonyms.append((name, second, rows[other], "synonym"))
                truth.append((name, second, names[other]))
    table = pl.DataFrame(synonyms[:n], schema=SYNONYM_SCHEMA, orient="row")
    drawn = replace(checklist, name="drawn", synonyms=pl.concat([checklist.synonyms.select(*SYNONYM_SCHEMA), table]))
    plain = replace(drawn, taxa=drawn.taxa.select(checklist_columns(drawn)))
    return with_keys(plain), pl.DataFrame(truth[:n], schema=["name", "author", "truth"], orient="row")


def checklist_columns(checklist: Checklist) -> list[str]:
    """Return the columns of taxa without keys."""
    return [column for column in checklist.taxa.columns if column != "key"]


def score_synonyms(checklist: Checklist, n: int) -> pl.DataFrame:
    """Resolve the drawn synonyms against their own archive, in four spellings."""
    archive, truth = draw_archive(checklist, n)
    spellings = {
        "as in the archive": pl.concat_str("name", pl.lit(" "), "author"),
        "without its author": pl.col("name"),
        "ssp. for subsp.": pl.col("name").str.replace("subsp.", "ssp.", literal=True),
        "without the mark": pl.col("name").str.replace(r" (?:subsp|ssp|var|f)\. ", " "),
    }
    labels = pl.concat(
        [truth.select(form=pl.lit(form), label=label, truth="truth") for form, label in spellings.items()]
    )
    return judge(labels, Resolver.of([archive]))


# Species that the checklist lacks.


def score_holdout(checklist: Checklist, n: int) -> pl.DataFrame:
    """Resolve species by the checklist without them; ``wrong`` are those asserted as another species."""
    keyed = checklist.taxa.with_row_index("row").with_columns(pl.col("row").cast(pl.Int32))
    species = keyed.filter(
        (pl.col("rank") == int(Rank.SPECIES)) & pl.col("name").str.contains(r"^[A-Z][a-z-]+ [a-z-]{3,}$")
    )
    # A name that an animal and a plant share is the same name, not another species.
    species = species.filter(pl.col("name").is_unique())
    held = species.sample(min(n, species.height // 2), seed=0)
    kept = keyed.join(held.select("row"), on="row", how="anti", maintain_order="left").with_row_index("now")
    moved = kept.select("row", now=pl.col("now").cast(pl.Int32))
    synonyms = checklist.synonyms.join(moved, on="row").with_columns(row="now").drop("now")
    parents = kept.join(moved.rename({"row": "parent", "now": "above"}), on="parent", how="left", maintain_order="left")
    taxa = parents.with_columns(parent=pl.col("above").fill_null(-1)).select(checklist.taxa.columns)
    rest = replace(checklist, taxa=taxa, synonyms=synonyms)
    found = Resolver.of([rest]).resolve(held["name"])
    table = held.select(label="name", truth="name", truth_kingdom="kingdom").hstack(
        found.select("status", "scientific_name", "kingdom", "note")
    )
    asserted = pl.col("status").is_in(ASSERTED)
    across = (pl.col("kingdom") != "") & (pl.col("kingdom") != pl.col("truth_kingdom"))
    verdict = pl.when(asserted | across).then(pl.lit("wrong")).otherwise(pl.lit("right"))
    form = pl.when(across).then(pl.lit("across kingdoms")).otherwise(pl.format("within, {}", "status"))
    return table.with_columns(form=form, found="scientific_name", verdict=verdict)


# Twelve forms of a label.


def draw_forms(table: pl.DataFrame, n: int, seed: int = 0) -> pl.DataFrame:
    """Return form, label, truth of ``n`` labels drawn from species with English names (columns of iNat21)."""
    draw = random.Random(seed)
    rows = table.filter(pl.col("common_name") != "").to_dicts()
    out = []
    for form, write in FORMS.items():
        for row in draw.choices(rows, k=n // len(FORMS)):
            label, truth = write(row, draw)
            out.append((form, label, truth))
    return pl.DataFrame(out, schema=["form", "label", "truth"], orient="row")


def _name(row: dict[str, str]) -> str:
    return f"{row['genus']} {row['specific_epithet']}"


def _lineage(row: dict[str, str], joint: str) -> str:
    ranks = ("kingdom", "phylum", "class", "order", "family", "genus")
    return joint.join([*(row[rank] for rank in ranks), _name(row)])


def _speciesnet(row: dict[str, str]) -> str:
    cells = [row[rank].lower() for rank in ("class", "order", "family", "genus")]
    return ";".join([*cells, row["specific_epithet"], row["common_name"].lower()])


Form = Callable[[dict[str, str], random.Random], tuple[str, str]]
FORMS: dict[str, Form] = {
    "English (Scientific)": lambda row, _: (f"{row['common_name']} ({_name(row)})", _name(row)),
    "English, Scientific": lambda row, _: (f"{row['common_name']}, {_name(row)}", _name(row)),
    "English [Scientific]": lambda row, _: (f"{row['common_name']} [{_name(row)}]", _name(row)),
    "Scientific (English)": lambda row, _: (f"{_name(row)} ({row['common_name']})", _name(row)),
    "Scientific_English": lambda row, _: (f"{_name(row)}_{row['common_name']}", _name(row)),
    "lineage, ;": lambda row, _: (_lineage(row, ";"), _name(row)),
    "lineage, class to English": lambda row, _: (_speciesnet(row), _name(row)),
    "with an author": lambda row, draw: (f"{_name(row)} {draw.choice(AUTHORS)}", _name(row)),
    "Class_folder_01": lambda row, draw: (f"{_name(row).replace(' ', '_')}_{draw.randint(1, 99):02}", _name(row)),
    "genus and author": lambda row, draw: (f"{row['genus']} {draw.choice(AUTHORS)}", row["genus"]),
    "formula of a hybrid": lambda row, draw: (
        f"{_name(row)} {draw.choice('x×X')} {row['genus'][0]}. nothus",
        row["genus"],
    ),
    "qualified": lambda row, draw: (
        f"{row['genus']} {draw.choice(('cf.', 'aff.', 'nr.', 'cf', 'gr.'))} {row['specific_epithet']}",
        row["genus"],
    ),
}


def score_forms(path: Path, checklist: Checklist, n: int) -> pl.DataFrame:
    """Resolve the labels by a checklist; only species that it has by their name are drawn."""
    table = pl.read_csv(path, infer_schema=False).fill_null("")
    resolver = Resolver.of([checklist])
    name = pl.concat_str("genus", pl.lit(" "), "specific_epithet")
    found = resolver.resolve(table.select(name.alias("name"))["name"])
    known = table.filter((found["status"] == "accepted") & (found["scientific_name"] == table.select(name).to_series()))
    return judge(draw_forms(known, n), resolver)


def judge(labels: pl.DataFrame, resolver: Resolver) -> pl.DataFrame:
    """Return the labels with what was found, and whether it is right, wrong (another taxon) or missed."""
    found = resolver.resolve(labels["label"]).select("status", found="scientific_name", note="note")
    table = labels.hstack(found)
    certain = ~pl.col("status").is_in(("ambiguous", "conflict", "unresolved", "rejected"))
    above = (
        certain
        & pl.col("truth").str.starts_with(pl.col("found"))
        & (pl.col("status").is_in(("genus_only", "higher_rank")))
    )
    verdict = (
        pl.when(certain & (pl.col("found") == pl.col("truth")))
        .then(pl.lit("right"))
        .when(certain & ~above & pl.col("status").is_in((*ASSERTED, "genus_only")))
        .then(pl.lit("wrong"))
        .otherwise(pl.lit("missed"))
    )
    return table.with_columns(verdict=verdict)


# Speed.


def score_speed(checklist: Checklist, n: int) -> pl.DataFrame:
    """Resolve ``n`` names as ``resolve_scale.py`` draws them, and print the processor seconds that it took."""
    names = speed_names(checklist.taxa.filter(pl.col("rank") == int(Rank.SPECIES))["name"].to_list(), n)
    resolver = Resolver.of([checklist])
    before = resource.getrusage(resource.RUSAGE_SELF)
    found = resolver.resolve(pl.Series(names))
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{n:,} names: {seconds:.1f} processor seconds, {after.ru_maxrss / 2**20:.1f} GiB")
    return found.select(form="status", verdict=pl.lit("right"))


def speed_names(species: Sequence[str], n: int) -> list[str]:
    """Return names of which 70% are plain, 20% have an author and 10% one or two edits."""
    draw = random.Random(0)
    names = []
    for at in range(n):
        name = draw.choice(species)
        if at % 10 < 2:
            name = f"{name} {draw.choice(AUTHORS)}"
        elif at % 10 == 9:
            where = draw.randrange(2, len(name))
            name = name[:where] + draw.choice("abcdefghilmnorstuv") + name[where + 1 :]
        names.append(name)
    return names


if __name__ == "__main__":
    main()
