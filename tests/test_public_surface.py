"""The public surface is written down here; a change of it is a change of this file and of the changelog."""

import linnaea

SURFACE = {
    "__version__",
    "Checklist",
    "CustomLabelsBinningClassifier",
    "CustomLabelsClassifier",
    "DataSet",
    "LabelBank",
    "LinnaeaError",
    "Predictor",
    "Rank",
    "Taxon",
    "TaxonModel",
    "TaxonTree",
    "TextType",
    "TreeOfLifeClassifier",
    "UsageError",
    "load_checklist",
    "load_model",
    "parse_label",
    "resolve",
    "save_model",
}


def test_the_public_surface_is_pinned() -> None:
    assert set(linnaea.__all__) == set(dir(linnaea)) == SURFACE


def test_every_public_name_exists_and_is_documented() -> None:
    for name in SURFACE - {"__version__"}:
        assert getattr(linnaea, name).__doc__, name


def test_other_names_are_attribute_errors() -> None:
    assert not hasattr(linnaea, "no_such_name")
