"""The public surface is written down here; a change of it is a change of this file and of the changelog."""

import ast
import importlib
import inspect
import subprocess
import sys
from enum import EnumType
from pathlib import Path
from typing import Any

import pytest

import linnaea

SURFACE = {
    "diff_checklists",
    "import_checklist",
    "lineage",
    "list_checklists",
    "migrate",
    "search_names",
    "__version__",
    "BuiltDataSet",
    "Answer",
    "Answers",
    "Checklist",
    "CustomLabelsBinningClassifier",
    "CustomLabelsClassifier",
    "DataSet",
    "LabelBank",
    "LinnaeaError",
    "Model",
    "Predictor",
    "Rank",
    "Taxon",
    "TaxonModel",
    "TaxonTree",
    "TextType",
    "TreeOfLifeClassifier",
    "UsageError",
    "adapt",
    "adapt_reviewed",
    "calibrate_reviewed",
    "append_labels",
    "build",
    "build_labels",
    "index",
    "search",
    "update_labels",
    "calibrate",
    "check_data",
    "compare",
    "describe_data",
    "download",
    "draw_no_organism",
    "evaluate",
    "export",
    "export_data",
    "repair_data",
    "synthesize",
    "Vectors",
    "load_checklist",
    "load_model",
    "open",
    "pack",
    "parse_label",
    "resolve",
    "save_model",
    "train",
}


def test_the_public_surface_is_pinned() -> None:
    assert set(linnaea.__all__) == set(dir(linnaea)) == SURFACE


def test_every_public_name_exists_and_is_documented() -> None:
    for name in SURFACE - {"__version__"}:
        assert getattr(linnaea, name).__doc__, name


def test_other_names_are_attribute_errors() -> None:
    assert not hasattr(linnaea, "no_such_name")


PARAMETERS = {
    "diff_checklists": "old new",
    "import_checklist": "path name",
    "lineage": "name * checklist= rank= kingdom=",
    "list_checklists": "",
    "migrate": "source * old new output= column=",
    "search_names": "text * checklist= top_k= rank=",
    "BuiltDataSet": "* directory summary notes= warnings=",
    "Answer": "* input guesses= status= abstention= reason= prior= evidence= vector= note=",
    "Answers": "answers",
    "Answers.save": "self path",
    "Checklist": "* name version taxa synonyms vernaculars report=",
    "CustomLabelsBinningClassifier": "cls_to_bin **kwargs",
    "CustomLabelsClassifier": "cls_ary templates= **kwargs",
    "CustomLabelsClassifier.predict": "self images k= batch_size= callback=",
    "DataSet": "directory index taxa",
    "LabelBank": "taxa vectors facts heads=",
    "Model": "* encoder name labels= text_type= calibrated= naming=",
    "Model.embed": "self photographs * batch_size=",
    "Model.iter_predict": "self photographs * rank= confidence= top_k= within= exclude= species_list= prior= lat= lon= "
    "date= batch_size=",
    "Model.predict": "self photographs * rank= confidence= top_k= within= exclude= species_list= prior= lat= lon= "
    "date= batch_size=",
    "Predictor": "* model bank asked= weights_of= batch_size= n_workers= fast= calibrated= around= own=",
    "Rank": "KINGDOM PHYLUM CLASS ORDER FAMILY GENUS SPECIES",
    "Taxon": "lineage common_name= authorship=",
    "TaxonModel": "* name clip tokenizer preprocess device model_cfg facts= bpe= precision= known_as= makers=",
    "TaxonTree": "* name parent rank depth first_leaf last_leaf lineage",
    "TextType": "COM SCI TAXON SCI_COM TAXON_COM TAXON_TAG TAXON_TAG_COM TAXON_SHUFFLED TAXON_COM_SHUFFLED",
    "TreeOfLifeClassifier": "labels= **kwargs",
    "TreeOfLifeClassifier.__base__": "model_str= pretrained_str= device=",
    "TreeOfLifeClassifier.apply_filter": "self keep_labels_ary",
    "TreeOfLifeClassifier.create_image_features": "self images normalize=",
    "TreeOfLifeClassifier.create_image_features_for_image": "self image normalize=",
    "TreeOfLifeClassifier.create_probabilities": "self img_features txt_features",
    "TreeOfLifeClassifier.ensure_rgb_image": "image",
    "TreeOfLifeClassifier.create_taxa_filter": "self rank user_values",
    "TreeOfLifeClassifier.create_taxa_filter_from_csv": "self csv_path",
    "TreeOfLifeClassifier.get_current_txt_names": "self",
    "TreeOfLifeClassifier.get_label_data": "self",
    "TreeOfLifeClassifier.get_txt_embeddings": "self",
    "TreeOfLifeClassifier.predict": "self images rank= min_prob= k= batch_size= callback=",
    "adapt": "folder * model= output= class_level= resolve= checklist= merge_by= text_type= preprocess= device="
    " batch_size= workers=",
    "adapt_reviewed": "*decisions model= labels= output= root= preprocess= device= batch_size= workers=",
    "calibrate_reviewed": "*decisions model labels= root= text_type= preprocess= device= workers=",
    "append_labels": "bank taxa * model= output= device= resolve= merge_by=",
    "build": "source output * class_level= root= path_column= label_column= split_column= split_table= group_column="
    " val= test= unseen= unseen_rank= seed= resolve= checklist= merge_by= duplicates= bursts= benchmark="
    " benchmark_species= draw_benchmark= short_side= resize= licences= shard_size= captions= workers= engine="
    " ray_address= overwrite= on_note=",
    "build_labels": "taxa= * checklist= within= exclude= output= model= text_type= vectors= pretrained= device="
    " resolve= merge_by=",
    "index": "images output * model= device= precision= preprocess= batch_size= workers=",
    "search": "index * text= taxon= image= model= checklist= text_type= top_k= exact= device=",
    "update_labels": "bank * taxa= old= new= model= output= device=",
    "calibrate": "model * data split= sources= labels= no_organism= organisms= strangers= rehearsals= text_type="
    " preprocess= pretrained= device= workers=",
    "check_data": "data * decode= on_problem=",
    "describe_data": "data",
    "download": "table output * url_column= contact= connections= per_host= timeout= max_megabytes= attempts="
    " retry_failed= part= ignore_robots= allow_private=",
    "draw_no_organism": "directory * images= size= seed= cutouts= kinds=",
    "export_data": "data output * format split= within= workers=",
    "repair_data": "data",
    "synthesize": "directory * species= images= size= seed= workers=",
    "compare": "runs output= * structure=",
    "evaluate": "model * data= split= sources= species_only= task= root= class_level= checklist= allow_different="
    " output= text_type= templates= candidates= labels= shots= probe= seen= structure= by_rank= no_organism="
    " domain= preprocess= pretrained= device= workers=",
    "Vectors": "* array names failed",
    "load_checklist": "name_or_path",
    "load_model": "name * pretrained= device= precision=",
    "open": "name= * labels= device= precision= preprocess= calibrated= text_type= pretrained= resolve= merge_by="
    " int8_photographs=",
    "export": "model output * int8= pretrained=",
    "pack": "run output * labels= heads= within= image_only= int8= group_rank= species_only= image_size= text_type="
    " resolve= merge_by= licence= push= int8_photographs=",
    "parse_label": "label",
    "resolve": "names checklists= * context= given= processes= on_progress=",
    "save_model": "model directory * dtype= repo=",
    "train": "recipe= * data= output resume= evaluate= device= workers= spread= wandb= on_notice= **overrides",
}
"""Of functions and constructors; ``=`` has a default, what follows ``*`` is given by name. Of an enum its members."""


def parameters_of(value: Any) -> str:
    """Return the parameters of a function or a class, without types and values."""
    if isinstance(value, EnumType):
        return " ".join(value.__members__)
    shown: list[str] = []
    for parameter in inspect.signature(value).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not any(word.startswith("*") for word in shown):
            shown.append("*")
        stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        if not parameter.name.startswith("_"):
            shown.append(f"{stars}{parameter.name}{'=' if parameter.default is not parameter.empty else ''}")
    return " ".join(shown)


def test_every_public_name_has_its_parameters_pinned() -> None:
    errors = {
        name for name in SURFACE if isinstance(value := getattr(linnaea, name), type) and issubclass(value, Exception)
    }
    assert {name.partition(".")[0] for name in PARAMETERS} == SURFACE - errors - {"__version__"}


@pytest.mark.parametrize("name", list(PARAMETERS))
def test_parameters_are_pinned(name: str) -> None:
    first, *rest = name.split(".")
    value = getattr(linnaea, first)
    for part in rest:
        value = getattr(value, part)
    assert parameters_of(value) == PARAMETERS[name]


def test_a_renamed_parameter_or_a_lost_default_is_seen() -> None:
    def before(image: str, *more: str, rank: str = "species") -> None: ...
    def after(image: str, *more: str, rank: str) -> None: ...

    assert parameters_of(before) == "image *more rank="
    assert parameters_of(after) == "image *more rank"


def test_type_checkers_and_editors_see_the_same_names() -> None:
    (block,) = (node for node in ast.parse(Path(linnaea.__file__).read_text()).body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    assert {alias.asname: node.module for node in imports for alias in node.names} == linnaea._HOMES


VERB_PACKAGES = ["evaluate", "train"]
"""Sub-packages that are called as verbs."""


@pytest.mark.parametrize("verb", VERB_PACKAGES)
def test_a_verb_that_is_a_package_too_stays_both_after_any_import(verb: str) -> None:
    function = getattr(importlib.import_module(f"linnaea.{verb}.run"), verb)
    both = getattr(linnaea, verb)
    assert both is sys.modules[f"linnaea.{verb}"]
    assert inspect.signature(both) == inspect.signature(function)
    assert both.run.__dict__[verb] is function
    with pytest.raises(TypeError, match="missing"):
        both()


def test_importing_a_part_of_a_verb_after_its_use_leaves_the_verb(tmp_path: Path) -> None:
    verbs = [verb for verb in VERB_PACKAGES if verb in linnaea._HOMES]
    code = f"""
import linnaea
for verb in {verbs}:
    first = getattr(linnaea, verb)
    __import__(f"linnaea.{{verb}}.run")
    assert callable(first) and getattr(linnaea, verb) is first, verb
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
