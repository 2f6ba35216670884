"""However a source writes a licence it is one identifier, and nothing unclear passes for open."""

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linnaea.cli import DONE, SOME_FAILED, USAGE, main
from linnaea.data.licences import (
    LicenceRule,
    attribution,
    describe_licences,
    licence_link,
    licence_of,
    licence_reason,
    normalise_licence,
    permission,
)

WRITTEN = {
    "http://creativecommons.org/licenses/by-nc/4.0/": "CC-BY-NC-4.0",
    "https://creativecommons.org/licenses/by/4.0/legalcode": "CC-BY-4.0",
    "http://creativecommons.org/licenses/by-nc-sa/3.0/us/": "CC-BY-NC-SA-3.0",
    "creativecommons.org/licenses/by-nd-nc/1.0": "CC-BY-NC-ND-1.0",
    "http://creativecommons.org/publicdomain/zero/1.0/legalcode": "CC0-1.0",
    "http://creativecommons.org/publicdomain/mark/1.0/": "public-domain",
    "http://creativecommons.org/licenses/publicdomain/": "public-domain",
    "cc-by-nc": "CC-BY-NC",
    "cc-by-nc-sa-3.0": "CC-BY-NC-SA-3.0",
    "cc-by-2.5": "CC-BY-2.5",
    "CC BY 4.0": "CC-BY-4.0",
    "CC_BY_NC_4_0": "CC-BY-NC-4.0",
    "CC-BY-SA 2.0": "CC-BY-SA-2.0",
    "CC BY-SA 4.0 International": "CC-BY-SA-4.0",
    "CCBYNC4.0": "CC-BY-NC-4.0",
    "by-nc-sa": "CC-BY-NC-SA",
    "CC0_1_0": "CC0-1.0",
    "CC0": "CC0-1.0",
    "cc-0": "CC0-1.0",
    "CC-Zero": "CC0-1.0",
    "no rights reserved": "CC0-1.0",
    "Attribution-NonCommercial-ShareAlike 4.0 International": "CC-BY-NC-SA-4.0",
    "Creative Commons Attribution Non-Commercial No Derivatives 4.0": "CC-BY-NC-ND-4.0",
    "CreativeCommons-Attribution Non-Commercial Share-Alike": "CC-BY-NC-SA",
    "Creative Commons – Attribution Non-Commercial (by-nc)": "CC-BY-NC",
    "(c) Jane Doe, some rights reserved (CC BY-NC)": "CC-BY-NC",
    "(c) Jane Doe 2019, some rights reserved (CC BY)": "CC-BY",
    "(c) Jane Doe, all rights reserved": "all-rights-reserved",
    "© All rights reserved": "all-rights-reserved",
    "All Rights Reserved.": "all-rights-reserved",
    "Copyright 2012 Jane Doe": "all-rights-reserved",
    "http://rightsstatements.org/vocab/InC/1.0/": "all-rights-reserved",
    "http://rightsstatements.org/vocab/NoC-US/1.0/": "no-known-restrictions",
    "No known copyright restrictions": "no-known-restrictions",
    "no known copyright restrictions.": "no-known-restrictions",
    "cc-publicdomain": "public-domain",
    "Public Domain": "public-domain",
    "pd": "public-domain",
    "Public domain mark 1.0": "public-domain",
    "GFDL": "GFDL",
    "CC BY-SA 3.0 or GFDL": "CC-BY-SA-3.0",
    "Apache-2.0": "Apache-2.0",
    "MIT": "MIT",
    "Usage Conditions Apply": "unclear",
    "some rights reserved": "unclear",
    "CC": "unclear",
    "see web page": "unclear",
    "not for commercial use": "unclear",
    "photographed by Jane Doe": "unclear",
    "By Jane Doe": "unclear",
    "Not public domain": "unclear",
    "copyright free": "unclear",
    "attribution": "unclear",
    "CC BY-NC-ND4.0": "CC-BY-NC-ND-4.0",
    "Attribution 3.0 Unported": "CC-BY-3.0",
    "": "none-stated",
    "  ": "none-stated",
    "not provided": "none-stated",
    "No license": "none-stated",
}


@pytest.mark.parametrize("text", WRITTEN)
def test_a_licence_is_one_identifier_however_it_is_written(text: str) -> None:
    assert normalise_licence(text) == WRITTEN[text]
    assert normalise_licence(f" {text.upper()} ") == WRITTEN[text]


@pytest.mark.parametrize("licence", sorted(set(WRITTEN.values())))
def test_an_identifier_is_read_as_itself(licence: str) -> None:
    assert normalise_licence(licence) == licence


@given(st.text())
def test_any_text_gives_some_identifier(text: str) -> None:
    assert permission(normalise_licence(text)) in ("open", "non-commercial", "closed")


@given(
    st.sampled_from(["BY", "BY-NC", "BY-SA", "BY-ND", "BY-NC-SA", "BY-NC-ND"]),
    st.sampled_from(["1.0", "2.0", "2.5", "3.0", "4.0"]),
)
def test_the_address_of_a_licence_leads_back_to_it(elements: str, version: str) -> None:
    licence = f"CC-{elements}-{version}"
    assert licence_link(licence).startswith("https://")
    assert normalise_licence(licence_link(licence)) == licence


@pytest.mark.parametrize(
    ("facts", "licence"),
    [
        ({"license_name": "cc-by", "license_link": "http://creativecommons.org/licenses/by/3.0/"}, "CC-BY-3.0"),
        ({"license": "cc-by-4.0", "license_link": "https://creativecommons.org/licenses/by-nc/4.0/"}, "CC-BY-NC-4.0"),
        ({"licence": "CC0", "license_name": "all rights reserved"}, "all-rights-reserved"),
        ({"license": "as on the web page", "license_name": ""}, "unclear"),
        ({"owner": "Jane Doe"}, "none-stated"),
    ],
)
def test_where_facts_differ_the_strictest_counts(facts: dict[str, str], licence: str) -> None:
    assert licence_of(facts) == licence


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [
        ("any", {"CC0", "CC-BY-4.0", "CC-BY-NC-4.0", "CC-BY-ND-4.0", "all rights reserved", "?", ""}),
        ("open", {"CC0", "CC-BY-4.0"}),
        ("non-commercial", {"CC0", "CC-BY-4.0", "CC-BY-NC-4.0"}),
        ("CC0-1.0,CC-BY", {"CC0", "CC-BY-4.0"}),
        ("cc-by-nc-4.0", {"CC-BY-NC-4.0"}),
        ("CC-BY-3.0", set()),
        ("open, none-stated", {"CC0", "CC-BY-4.0", ""}),
    ],
)
def test_a_rule_lets_through_what_it_names_and_gives_a_reason_for_the_rest(rule: str, allowed: set[str]) -> None:
    every = {"CC0", "CC-BY-4.0", "CC-BY-NC-4.0", "CC-BY-ND-4.0", "all rights reserved", "?", ""}
    reasons = {text: licence_reason({"license": text}, LicenceRule(allow=rule)) for text in every}
    assert {text for text, reason in reasons.items() if not reason} == allowed
    assert all("allowed" in reason for reason in reasons.values() if reason)


@pytest.mark.parametrize("rule", ["", " , ", "opne", "CC0-1.0,whatever"])
def test_a_rule_that_names_no_licence_is_refused(rule: str) -> None:
    with pytest.raises(ValueError, match="licence"):
        LicenceRule(allow=rule)


def test_attribution_names_title_author_source_and_licence() -> None:
    facts = {
        "title": "Pica hudsonia",
        "creator": "Jane Doe",
        "references": "https://example.org/1",
        "license": "http://creativecommons.org/licenses/by/4.0/",
    }
    assert attribution(facts) == (
        '"Pica hudsonia" by Jane Doe, https://example.org/1, CC-BY-4.0 (https://creativecommons.org/licenses/by/4.0/)'
    )
    assert attribution({"copyright_owner": "not provided"}) == (
        "Photograph by an author who is not named, no licence stated"
    )


def test_a_table_of_licences_gets_both_columns_and_only_once() -> None:
    table = pl.DataFrame({"key": ["a", "b"], "source": ["s", "s"], "license": ["cc-by", ""], "owner": ["Jane", ""]})
    described = describe_licences(table)
    assert described["licence_id"].to_list() == ["CC-BY", "none-stated"]
    assert described["attribution"][0] == "Photograph by Jane, CC-BY"
    assert describe_licences(described).equals(described)
    assert describe_licences(table.select("key", "source"))["licence_id"].to_list() == ["none-stated"] * 2


def test_a_build_rejects_what_the_rule_does_not_allow(photographs: Path, tmp_path: Path) -> None:
    table = pl.read_csv(photographs / "metadata.csv", infer_schema=False).head(12)
    stated = ["CC0", "cc-by-nc", "", "http://creativecommons.org/licenses/by/4.0/"] * 3
    path = tmp_path / "table.csv"
    table.with_columns(license=pl.Series(stated)).write_csv(path)
    words = ["data", "build", "--table", str(path), "--root", str(photographs), "--workers", "1"]
    assert main([*words, "--output", str(tmp_path / "open"), "--licences", "open"]) == SOME_FAILED
    kept = pl.read_parquet(tmp_path / "open" / "licences.parquet")
    assert sorted(set(kept["licence_id"])) == ["CC-BY-4.0", "CC0-1.0"]
    assert kept.height == 6
    reasons = pl.read_parquet(tmp_path / "open" / "rejects.parquet")["reason"].value_counts()
    assert dict(reasons.iter_rows()) == {
        "licence CC-BY-NC is not allowed (allowed: open)": 3,
        "no licence stated (allowed: open)": 3,
    }
    assert main([*words, "--output", str(tmp_path / "any"), "--resize", "squash-224"]) == DONE
    sizes = pl.read_parquet(tmp_path / "any" / "index.parquet").select("width", "height").unique().rows()
    assert sizes == [(224, 224)]
    assert main([*words, "--output", str(tmp_path / "wrong"), "--licences", "opne"]) == USAGE
