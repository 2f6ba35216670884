"""One grammar for a clade or a taxon: every door finds the same taxon for a spelling, or says the same."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from linnaea.cli import DONE, FAILED, USAGE, _parse, _verdict, main, taxonomy_browse
from linnaea.data.build import BuildConfig, build
from linnaea.data.engine import LocalEngine
from linnaea.data.export import ExportConfig, select_rows
from linnaea.data.shards import DataSet, make_taxa_table
from linnaea.data.sources.table import TableSource
from linnaea.errors import LinnaeaError
from linnaea.model.open import load_model
from linnaea.predict.labels import LabelBank, make_bank
from linnaea.predict.predictor import Predictor
from linnaea.predict.restrict import keep_clades, keep_taxa
from linnaea.serve.app import make_app
from linnaea.taxonomy.checklists.store import load_checklist
from linnaea.taxonomy.find import Finder
from linnaea.taxonomy.ranks import RANK_LABELS
from linnaea.taxonomy.taxon import Taxon

BIRD = ("Animalia", "Chordata", "Aves")
TAXA = [
    Taxon((*BIRD, "Passeriformes", "Corvidae", "Pica", "hudsonia"), common_name="Black-billed Magpie"),
    Taxon((*BIRD, "Passeriformes", "Corvidae", "Pica", "pica"), common_name="Eurasian Magpie"),
    Taxon((*BIRD, "Passeriformes", "Corvidae", "Corvus", "corax"), common_name="Common Raven"),
    Taxon((*BIRD, "Passeriformes", "Muscicapidae", "Oenanthe", "oenanthe"), common_name="Northern Wheatear"),
    Taxon((*BIRD, "Uria", "Alcidae", "Alca", "torda"), common_name="Razorbill"),
    Taxon((*BIRD, "Charadriiformes", "Alcidae", "Uria", "aalge"), common_name="Common Murre"),
    Taxon(("Plantae", "Tracheophyta", "Liliopsida", "Asparagales", "Iridaceae", "Iris", "germanica"),
          common_name="Bearded Iris"),
    Taxon(("Plantae", "Tracheophyta", "Liliopsida", "Asparagales", "Iridaceae", "Moraea", "sisyrinchium"),
          common_name="Iris"),
    Taxon(("Plantae", "Tracheophyta", "Magnoliopsida", "Apiales", "Apiaceae", "Oenanthe", "aquatica")),
]  # fmt: skip
EVERY = {taxon.scientific_name for taxon in TAXA}
BIRDS = {taxon.scientific_name for taxon in TAXA if "Aves" in taxon.lineage}
CORVIDS = {"Pica hudsonia", "Pica pica", "Corvus corax"}

SpeciesOrMessage: TypeAlias = "set[str] | str"
"""The species of a clade, or the message (``{where}`` for what was searched)."""

FOUND: dict[str, set[str]] = {
    "Aves": BIRDS,
    "aves": BIRDS,
    "class:Aves": BIRDS,
    "Class:aves": BIRDS,
    " CLASS : AVES ": BIRDS,
    "family:Corvidae": CORVIDS,
    "corvidae  ": CORVIDS,
    "Kingdom:plantae": EVERY - BIRDS,
    "genus:Pica": {"Pica hudsonia", "Pica pica"},
    "Pica pica": {"Pica pica"},
    "pica_PICA": {"Pica pica"},
    "species:Pica pica": {"Pica pica"},
    "Black-billed Magpie": {"Pica hudsonia"},
    "black billed magpie ": {"Pica hudsonia"},
    "species:eurasian magpie": {"Pica pica"},
    "Iris": {"Iris germanica"},  # the genus, not the common name
    "species:Iris": {"Moraea sisyrinchium"},
    "order:uria": {"Alca torda"},
}
REFUSED: dict[str, str] = {
    "Picca": "'Picca': no taxon of that name in {where}; did you mean Pica, Pica hudsonia or Pica pica?",
    "family:Aves": "'family:Aves': no family of that name in {where}; did you mean class:Aves?",
    "tribe:Corvini": f"'tribe:Corvini': 'tribe' is not a rank; write one of {', '.join(RANK_LABELS)}",
    "genus: ": "'genus: ': no genus is named; write NAME or rank:NAME",
    "xxxxxxxx": "'xxxxxxxx': no taxon of that name in {where}",
}
AMBIGUOUS = "'Uria': taxa of several ranks have this name in {where}; write order:Uria or genus:Uria"


@dataclass(frozen=True)
class World:
    """The same taxa as a bank, a data set, a checklist and a server."""

    bank: LabelBank
    dataset: DataSet
    checklist: str
    server: TestClient
    picture: bytes


@pytest.fixture(scope="module")
def world(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    rows = [f"{','.join(RANK_LABELS)},common_name,file"]
    for number, taxon in enumerate(TAXA):
        Image.new("RGB", (24, 24), (20 * number, 90, 200 - 20 * number)).save(folder / f"{number}.png")
        rows.append(",".join((*taxon.lineage, taxon.common_name, f"{number}.png")))
    table = folder / "taxa.csv"
    table.write_text("\n".join(rows))
    build([TableSource(table=table, root=folder, path_column="file")], folder / "data", BuildConfig(), LocalEngine(1))
    model = load_model(str(trained / "model"), device="cpu")
    bank = make_bank(model, make_taxa_table(TAXA))
    picture = io.BytesIO()
    Image.fromarray(np.full((40, 40, 3), 128, np.uint8)).save(picture, "jpeg")
    with TestClient(make_app(Predictor(model=model, bank=bank, batch_size=1))) as server:
        dataset = DataSet.open(folder / "data")
        yield World(bank, dataset, str(table), server, picture.getvalue())


def species(names: "list[str]") -> set[str]:
    return {name for name in names if name}


def within(world: World, text: str) -> SpeciesOrMessage:
    return species(keep_clades(world.bank, [text]).taxa["scientific_name"].to_list())


def exclude(world: World, text: str) -> SpeciesOrMessage:
    return EVERY - species(keep_clades(world.bank, [], [text]).taxa["scientific_name"].to_list())


def labels_build(world: World, text: str) -> SpeciesOrMessage:
    return species(keep_taxa(make_taxa_table(TAXA), [text])["scientific_name"].to_list())


def data_export(world: World, text: str) -> SpeciesOrMessage:
    rows = select_rows(world.dataset, ExportConfig(form="catalog", within=text))
    return species(rows.join(world.dataset.taxa, on="taxon_id")["scientific_name"].to_list())


def checklist(world: World, text: str) -> SpeciesOrMessage:
    finder = Finder.of_checklist(load_checklist(world.checklist))
    rows = finder.taxa[finder.rows(text)]
    return species(rows.filter(rows["species"] != "")["name"].to_list())


def rest(world: World, text: str) -> SpeciesOrMessage:
    answer = world.server.post(
        "/predict", files={"files": ("a.jpg", world.picture)}, data={"within": text, "top_k": 50}
    )
    if answer.status_code != 200:
        assert answer.status_code == 422
        return str(answer.json()["detail"])
    return {taxon["name"] for taxon in answer.json()["results"][0]["alternatives"]}


DOORS: dict[Callable[[World, str], SpeciesOrMessage], str] = {
    within: "the labels",
    exclude: "the labels",
    labels_build: "the labels",
    rest: "the labels",
    data_export: "{dataset}",
    checklist: "{checklist}",
}


def ask(door: Callable[[World, str], SpeciesOrMessage], world: World, text: str) -> SpeciesOrMessage:
    try:
        return door(world, text)
    except LinnaeaError as error:
        return str(error)


def said_of(message: str, place: str, world: World) -> str:
    opened = load_checklist(world.checklist)
    place = place.format(dataset=world.dataset.directory, checklist=f"checklist {opened.name} {opened.version}")
    return message.format(where=place)


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_every_door_reads_a_clade_alike(world: World, door: Callable[[World, str], SpeciesOrMessage]) -> None:
    wrong = {text: got for text, clade in FOUND.items() if (got := ask(door, world, text)) != clade}
    assert not wrong
    said = {text: ask(door, world, text) for text in (*REFUSED, "Uria")}
    assert said == {t: said_of(m, DOORS[door], world) for t, m in {**REFUSED, "Uria": AMBIGUOUS}.items()}


def browse(world: World, verb: str, text: str, *words: str) -> tuple[int, str]:
    """Exit code and message of a command."""
    options, run = taxonomy_browse.COMMANDS[verb]
    try:
        parsed = _parse(options, f"linnaea taxonomy {verb}", [text, "--checklist", world.checklist, *words])
        return run(parsed), ""
    except LinnaeaError as error:
        return _verdict(error)


def test_the_tree_draws_the_same_clades(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    for text, clade in FOUND.items():
        assert browse(world, "tree", text, "--depth", "9") == (DONE, "")
        lines = [line.strip(" └─├│") for line in capsys.readouterr().out.splitlines()]
        assert {line for line in lines if line in EVERY} == clade, text
    for text, message in {**REFUSED, "Uria": AMBIGUOUS}.items():
        code, said = browse(world, "tree", text)
        assert code == (USAGE if text in ("tribe:Corvini", "genus: ") else FAILED)
        assert said_of(message, "{checklist}", world) in said


def test_lineage_prints_the_same_taxa_and_all_of_a_name(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    whole = {len(clade): text for text, clade in FOUND.items()}
    for text in (*FOUND, *whole.values()):
        assert browse(world, "lineage", text) == (DONE, "")
        assert len(capsys.readouterr().out.split("\n\n")) == 1, text
    for text, message in REFUSED.items():
        assert said_of(message, "{checklist}", world) in browse(world, "lineage", text)[1]
    assert browse(world, "lineage", "Uria") == (DONE, "")
    assert capsys.readouterr().out.count("Uria (") == 2
    assert browse(world, "lineage", "Uria", "--rank", "genus")[0] == DONE
    assert capsys.readouterr().out.count("Uria (") == 1


def test_completion_offers_the_clade_that_its_spelling_means(world: World) -> None:
    def offered(text: str) -> list[str]:
        return [one["clade"] for one in world.server.get("/taxa", params={"q": text, "limit": 100}).json()]

    for text, clade in FOUND.items():
        assert within(world, offered(text)[0]) == clade, text
    assert {"order:Uria", "genus:Uria"} <= set(offered("Uria"))
    assert offered("magp") == ["genus:Pica", "species:Pica hudsonia", "species:Pica pica"]
    assert offered("genus:c") == [
        "genus:Corvus", "genus:Moraea", "genus:Oenanthe", "genus:Pica", "genus:Alca",
    ], "what begins so, English names after scientific ones (cape tulips, chats), then what holds it"  # fmt: skip
    assert offered("order:") == [
        "order:Passeriformes", "order:Asparagales", "order:Apiales", "order:Charadriiformes", "order:Uria",
    ]  # fmt: skip
    assert offered("genus:Picca") == offered("tribe:Corvini") == []


def test_commands_say_it_in_one_line(
    world: World, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world.bank.save(tmp_path / "bank")
    (tmp_path / "a.jpg").write_bytes(world.picture)
    model = ["--model", str(trained / "model")]
    predict = ["predict", str(tmp_path / "a.jpg"), *model, "--labels", str(tmp_path / "bank")]
    labels = ["labels", "build", *model, "--taxa", world.checklist, "--output", str(tmp_path / "b")]
    export = ["data", "export", str(world.dataset.directory), "--format", "catalog", "--output", str(tmp_path / "e")]
    commands = [("the labels", predict), ("the labels", labels), ("{dataset}", export)]
    for place, command in commands:
        assert main([*command, "--within", "family:Aves"]) == USAGE
        assert said_of(REFUSED["family:Aves"], place, world) in capsys.readouterr().err
    assert main([*predict, "--exclude", "family:Aves"]) == USAGE
    assert said_of(REFUSED["family:Aves"], "the labels", world) in capsys.readouterr().err


def test_homonyms_of_one_rank_are_one_clade_and_a_tree_asks_which(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    both = {"Oenanthe oenanthe", "Oenanthe aquatica"}
    assert {door.__name__ for door in DOORS if ask(door, world, "Oenanthe") != both} == set()
    assert "choose with --kingdom" in browse(world, "tree", "Oenanthe")[1]
    assert browse(world, "tree", "Oenanthe", "--kingdom", "plantae")[0] == DONE
    assert "Oenanthe aquatica" in capsys.readouterr().out
    finder = Finder.of_taxa(world.bank.taxa, "the labels")
    assert finder.clade("Oenanthe", kingdom="Plantae").height == 1


def test_a_label_of_ones_own_is_found_by_its_only_name() -> None:
    taxa = make_taxa_table([Taxon.of(common_name="Our red cat"), Taxon.of({"class": "Aves"}, common_name="Bird")])
    bank = LabelBank(taxa, np.eye(2, dtype=np.float32), {})
    assert keep_clades(bank, ["our RED cat"]).taxa["common_name"].to_list() == ["Our red cat"]
    assert keep_clades(bank, ["class:bird"]).taxa["class"].to_list() == ["Aves"]
    completed = Finder.of_taxa(bank.taxa, "the labels").complete("our", 5)
    assert completed.select("rank", "name", "n", "matched").rows() == [("species", "Our red cat", 1, "Our red cat")]
    assert Finder.of_taxa(taxa.drop("scientific_name"), "the table").rows("bird").tolist() == [1]
