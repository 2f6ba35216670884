"""The published tasks: every layout is read, every count is checked, no label is changed."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from linnaea.data.shards import taxa_from_table
from linnaea.errors import LinnaeaError
from linnaea.evaluate.evaluation import make_captions
from linnaea.evaluate.tasks import TASKS, Task, layouts
from linnaea.evaluate.tasks.photographs import name_classes, open_task
from linnaea.taxonomy.taxon import Taxon, TextType

JPEG = b"\xff\xd8 stands for a photograph"


def put(root: Path, *files: str) -> None:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(JPEG + file.encode())


def make_task(read: object, **facts: object) -> Task:
    known = {"name": "t", "title": "T", "note": "", "citation": "", "where": "its page"}
    return Task(**known, read=read, **facts)  # type: ignore[arg-type]


def test_expected_counts_are_those_of_the_label_files(shared: Path) -> None:
    table = pl.read_csv(shared / "taxonomy" / "meta-album-labels.csv")
    codes = {"plankton": "PLK_Mini", "insects": "INS_Mini", "insects2": "INS_2_Mini", "plantnet": "PLT_NET_Mini",
             "fungi": "FNG_Mini", "plantvillage": "PLT_VIL_Mini", "medicinal-leaf": "MED_LF_Mini",
             "plantdoc": "PLT_DOC_Mini", "nabirds": "nabirds"}  # fmt: skip
    for name, code in codes.items():
        rows = table.filter(pl.col("task") == code)
        assert TASKS[name].n_classes == rows.height, name
        assert TASKS[name].n_images == rows["images"].sum(), name
    assert set(table["task"]) == set(codes.values())
    assert TASKS["rare-species"].n_classes == pl.read_csv(shared / "taxonomy" / "rare-species.csv").height


def test_the_ten_tasks_of_the_paper_come_first() -> None:
    names = list(TASKS)
    assert (names[0], names[9]) == ("birds525", "rare-species")
    for task in TASKS.values():
        assert task.citation, task.name
        assert task.where, task.name
        seen = task.protocol == "retrieval"
        assert (task.label_sha256 is not None) == seen, "BioCAP's lists are the only published files that we saw"


def test_every_meta_album_label_survives_reading(shared: Path, tmp_path: Path) -> None:
    """The real labels: underscores, authors, French, misspellings; a class is a label, letter for letter."""
    table = pl.read_csv(shared / "taxonomy" / "meta-album-labels.csv").filter(pl.col("task") != "nabirds")
    for (code,), rows in table.group_by("task"):
        root = tmp_path / str(code)
        labels = rows["raw_label"].to_list()
        files = [f"{i:03}.jpg" for i in range(len(labels))]
        put(root, *(f"images/{file}" for file in files))
        listing = pl.DataFrame({"FILE_NAME": files, "CATEGORY": labels, "SUPER_CATEGORY": "NAN"})
        listing.write_csv(root / "labels.csv")
        images = open_task(make_task(layouts.read_meta_album), root)
        captions = make_captions("asis", images.taxa, images)
        assert Counter(captions) == Counter(labels)
        shown = [images.raw_labels[number] for number in images.index["taxon_id"]]
        assert shown == labels
        assert images.read(0) == JPEG + b"images/000.jpg"


def test_rare_species_keeps_its_lineages(shared: Path, tmp_path: Path) -> None:
    species = pl.read_csv(shared / "taxonomy" / "rare-species.csv", infer_schema=False).fill_null("")
    files = [f"dataset/{i}.jpg" for i in range(species.height)]
    put(tmp_path, *files)
    label = pl.concat_str("genus", "species", separator=" ")
    listing = species.with_columns(filepath=pl.Series(files), cls="class").with_columns(label.alias("class"))
    listing.write_csv(tmp_path / "metadata.csv")
    images = open_task(TASKS["rare-species"], tmp_path, allow_different=True)
    assert images.taxa.height == 400
    row = species.row(7, named=True)
    assert images.taxon(images.index["taxon_id"][7]) == Taxon.of(row, common_name=row["common_name"])
    merged = dict.fromkeys(make_captions(TextType.COM, images.taxa, images))
    assert len(merged) == 398, "two common names are those of two species each"


def test_wrong_counts_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    put(tmp_path, "images/a.jpg", "images/b.jpg")
    (tmp_path / "labels.csv").write_text("FILE_NAME,CATEGORY,SUPER_CATEGORY\na.jpg,A,x\nb.jpg,B,x\nc.jpg,B,x\n")
    with pytest.raises(LinnaeaError, match=r"2 images instead of 1,000, 2 classes instead of 25 .*--allow-different"):
        open_task(TASKS["fungi"], tmp_path)
    images = open_task(TASKS["fungi"], tmp_path, allow_different=True)
    assert (len(images), images.n_missing) == (2, 1)
    with pytest.raises(LinnaeaError, match="1 of 3 listed images is missing"):
        open_task(make_task(layouts.read_meta_album), tmp_path)
    with pytest.raises(LinnaeaError, match="checksum differs"):
        open_task(make_task(layouts.read_meta_album, n_images=2, n_classes=2, label_file="labels.csv",
                            label_sha256="0" * 64), tmp_path)  # fmt: skip


def test_an_empty_folder_and_a_wrong_layout_are_one_line(tmp_path: Path) -> None:
    for task in TASKS.values():
        with pytest.raises(LinnaeaError) as error:
            open_task(task, tmp_path)
        assert "\n" not in str(error.value)
        assert str(tmp_path) in str(error.value)


def test_nabirds_lists(tmp_path: Path) -> None:
    put(tmp_path, "images/0295/a.jpg", "images/0296/b.jpg")
    (tmp_path / "images.txt").write_text("k1 0295/a.jpg\nk2 0296/b.jpg\n")
    (tmp_path / "image_class_labels.txt").write_text("k1 295\nk2 296\n")
    (tmp_path / "classes.txt").write_text("295 Common Eider (Adult male)\n296 Oak Titmouse\n")
    table = layouts.read_nabirds(tmp_path)
    assert table["label"].to_list() == ["Common Eider (Adult male)", "Oak Titmouse"]
    assert table["file"].to_list() == ["images/0295/a.jpg", "images/0296/b.jpg"]
    (tmp_path / "image_class_labels.txt").write_text("k1 295\n")
    with pytest.raises(LinnaeaError, match="no entry 'k2'"):
        layouts.read_nabirds(tmp_path)


def test_birds525_takes_its_test_folders(tmp_path: Path) -> None:
    put(tmp_path, "test/ABBOTTS BABBLER/1.jpg", "train/ABBOTTS BABBLER/2.jpg", "test/BARN OWL/1.jpg")
    table = layouts.read_test_folders(tmp_path)
    assert table["label"].to_list() == ["ABBOTTS BABBLER", "BARN OWL"]
    assert set(table["split"]) == {"test"}


def test_inat21_from_its_list_and_from_its_folders(tmp_path: Path) -> None:
    folder = "00001_Animalia_Chordata_Aves_Passeriformes_Corvidae_Pica_hudsonia"
    put(tmp_path, f"val/{folder}/a.jpg")
    from_folders = layouts.read_inat21(tmp_path)
    category = {
        "id": 1, "name": "Pica hudsonia", "common_name": "Black-billed Magpie", "kingdom": "Animalia",
        "phylum": "Chordata", "class": "Aves", "order": "Passeriformes", "family": "Corvidae", "genus": "Pica",
        "specific_epithet": "hudsonia", "image_dir_name": folder,
    }  # fmt: skip
    content = {"images": [{"id": 5, "file_name": f"val/{folder}/a.jpg"}], "categories": [category],
               "annotations": [{"image_id": 5, "category_id": 1}]}  # fmt: skip
    (tmp_path / "val.json").write_text(json.dumps(content))
    from_list = layouts.read_inat21(tmp_path)
    ranks = ["file", "kingdom", "class", "genus", "species"]
    assert from_list.select(ranks).equals(from_folders.select(ranks))
    assert from_list["common_name"].to_list() == ["Black-billed Magpie"]


def test_camera_traps_have_ranks_in_their_lists(tmp_path: Path) -> None:
    put(tmp_path, "images/ENA24/a.jpg", "images/ENA24/b.jpg")
    (tmp_path / "ENA24-balanced.csv").write_text(
        "uuid,filepath,kingdom,phylum,cls,order,family,genus,species,common_name,class\n"
        "1,a.jpg,Animalia,Chordata,Aves,Galliformes,Phasianidae,Meleagris,gallopavo,wild turkey,turkey\n"
        "2,b.jpg,Animalia,Chordata,Mammalia,Carnivora,Felidae,Lynx,rufus,bobcat,bobcat\n"
    )
    images = open_task(TASKS["camera-trap-ena24"], tmp_path)
    assert images.index["key"].to_list() == ["images/ENA24/a.jpg", "images/ENA24/b.jpg"]
    assert {t.scientific_name for t in taxa_from_table(images.taxa)} == {"Meleagris gallopavo", "Lynx rufus"}
    assert set(images.raw_labels.values()) == {"turkey", "bobcat"}


def test_newt_awa2_fishnet_bring_their_questions(tmp_path: Path) -> None:
    newt = tmp_path / "newt"
    put(newt, "newt2021_images/x1.jpg", "newt2021_images/x2.jpg")
    (newt / "newt2021_labels.csv").write_text(
        "id,task,task_cluster,task_subcluster,label,split\nx1,fgvcx_a,appearance,species,1,train\nx2,fgvcx_a,appearance,,0,test\n"
    )
    images = open_task(TASKS["newt"], newt)
    assert images.extra.to_dicts()[0] == {"task": "fgvcx_a", "cluster": "appearance"}
    assert images.index["split"].to_list() == ["train", "test"]

    awa = tmp_path / "awa2"
    put(awa, "JPEGImages/antelope/1.jpg", "JPEGImages/bat/1.jpg")
    for name, text in {"classes": "     1\tantelope\n     2\tbat\n", "predicates": "1\tblack\n2\tflies\n",
                       "trainclasses": "antelope\n", "testclasses": "bat\n",
                       "predicate-matrix-binary": "0 0\n1 1\n"}.items():  # fmt: skip
        (awa / f"{name}.txt").write_text(text)
    images = open_task(TASKS["awa2"], awa)
    assert images.extra.to_dicts() == [{"trait/black": 0, "trait/flies": 0}, {"trait/black": 1, "trait/flies": 1}]

    fish = tmp_path / "fishnet"
    put(fish, "Image_Library/folder/a.jpg", "Image_Library/folder/b.jpg")
    columns = [f"c{i}" for i in range(14)]
    columns[3], columns[12] = "image", "Folder"
    for split, file in (("train", "a"), ("test", "b")):
        known = [str(i) for i in range(14)]
        known[3], known[12] = f"somewhere/else/{file}.jpg", "folder"
        row = ",".join([*known, "pelagic", "1", "0", "0.0", "0", "0", "0", "1", "0"])
        empty = ",".join([*known, "pelagic", "", "0", "0", "0", "0", "0", "1", "0"])
        head = ",".join([*columns, *layouts.FISHNET_TRAITS])
        (fish / f"{split}.csv").write_text(f"{head}\n{row}\n{empty}\n")
    images = open_task(TASKS["fishnet"], fish)
    assert images.index["key"].to_list() == ["Image_Library/folder/a.jpg", "Image_Library/folder/b.jpg"]
    assert images.extra.row(0) == (1, 1, 0, 0, 0, 0, 0, 1, 0)


def test_no_two_classes_become_one_by_their_names() -> None:
    tomato = Taxon.of(kingdom="Plantae", genus="Solanum", species="lycopersicum", common_name="tomato")
    labels = dict.fromkeys(("Tomato___Late_blight", "Tomato___healthy", "Tomato healthy"))
    named = name_classes(labels, dict.fromkeys(labels, tomato))
    assert len(set(named.values())) == 3
    assert {taxon.scientific_name for taxon in named.values()} == {"Solanum lycopersicum"}
    assert named["Tomato___Late_blight"].common_name == "Tomato Late blight"
    unresolved = name_classes(dict.fromkeys(("a_b", "a b")), {})
    assert [taxon.common_name for taxon in unresolved.values()] == ["a b", "a b (2)"]


def test_labels_are_resolved_where_a_name_is_known(shared: Path, tmp_path: Path) -> None:
    from linnaea.taxonomy.resolve import Resolver

    files = [f"{i}.jpg" for i in range(3)]
    put(tmp_path, *(f"images/{file}" for file in files))
    labels = ["Amanita muscaria (L.) Lam.", "Agaricus campestris L.", "no such name at all"]
    pl.DataFrame({"FILE_NAME": files, "CATEGORY": labels}).write_csv(tmp_path / "labels.csv")
    resolver = Resolver.of(("inat",), context={"kingdom": "Fungi"})
    images = open_task(make_task(layouts.read_meta_album), tmp_path, resolver=resolver)
    taxa = {images.raw_labels[number]: images.taxon(number) for number in range(3)}
    assert taxa[labels[0]].scientific_name == "Amanita muscaria"
    assert taxa[labels[0]].lineage[0] == "Fungi"
    assert taxa[labels[2]].rank is None
    assert images.n_resolved == 2
    assert np.unique(images.index["taxon_id"]).size == 3


def test_terra_incognita_has_numbered_folders_and_two_lists(tmp_path: Path) -> None:
    put(tmp_path, "Known/1/a.jpg", "Known/1/b.png", "Known/02/c.jpg", "Known/7/unlisted.jpg", "Novel/3/d.jpg")
    (tmp_path / "metadata_known.csv").write_text(
        "Folder,Order,Family,Genus,Species\n1,Lepidoptera,Sphingidae,Xylophanes,Xylophanes tersa\n"
        "2,Coleoptera,Cerambycidae,Unknown,\n"
    )
    (tmp_path / "metadata_novel.csv").write_text("Folder,Order,Family,Genus,Species\n3,Diptera,,,\n")
    known = open_task(TASKS["terra-incognita-known"], tmp_path, allow_different=True)
    taxa = {file: known.taxon(number) for file, number in known.index.select("key", "taxon_id").iter_rows()}
    assert taxa["Known/1/a.jpg"] == taxa["Known/1/b.png"]
    assert taxa["Known/1/a.jpg"].lineage == (
        "Animalia", "Arthropoda", "Insecta", "Lepidoptera", "Sphingidae", "Xylophanes", "tersa"
    )  # fmt: skip
    assert taxa["Known/02/c.jpg"].scientific_name == "Cerambycidae"
    assert len(taxa) == 3, "a folder that the list lacks is left out"
    novel = open_task(TASKS["terra-incognita-novel"], tmp_path, allow_different=True)
    assert novel.taxon(0).scientific_name == "Diptera"


def test_cryptic_species_are_fetched_by_address_first(tmp_path: Path) -> None:
    rows = pl.DataFrame({
        "scientificName": ["Danaus plexippus", "Danaus plexippus", "Limenitis archippus"],
        "kingdom": "Animalia", "phylum": "Arthropoda", "class": "Insecta", "order": "Lepidoptera",
        "family": "Nymphalidae", "genus": ["Danaus", "Danaus", "Limenitis"],
        "url": [f"https://example.org/{n}.jpg" for n in range(3)], "decimalLatitude": "1.5", "month": "7",
    })  # fmt: skip
    (tmp_path / "CrypticBio-Benchmark").mkdir()
    rows.write_csv(tmp_path / "CrypticBio-Benchmark/CrypticBio-Endagered.csv")
    task = TASKS["cryptic-endangered"]
    with pytest.raises(LinnaeaError, match=r"fetch the pictures first: linnaea data download .*Endagered\.csv"):
        open_task(task, tmp_path)
    put(tmp_path, "files/0.jpg", "files/2.jpg")
    fetched = rows[[0, 2]].with_columns(path=pl.Series(["files/0.jpg", "files/2.jpg"]))
    fetched.write_parquet(tmp_path / "images.parquet")
    images = open_task(task, tmp_path, allow_different=True)
    assert (len(images), images.n_missing, images.taxa.height) == (2, 1, 2)
    assert make_captions(TextType.SCI, images.taxa, images) == ["Danaus plexippus", "Limenitis archippus"]
    assert images.taxon(0).lineage[:2] == ("Animalia", "Arthropoda")
