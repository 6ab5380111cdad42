"""The title says what the numbers say, and every average says what it averages."""

import polars as pl
import pytest

from pythia_profile.report.headline import averages, title
from tests.report.conftest import OUTCOME, profiles
from tests.report.test_page import checks, page_of, text_of


def means(se=0.01, **effects):
    """Means over cohorts with pointwise intervals of two standard errors."""
    table = profiles(**effects)
    return {
        "profiles": table.with_columns(
            se=pl.lit(se), lower=pl.col("att") - 2 * se, upper=pl.col("att") + 2 * se
        )
    }


@pytest.mark.parametrize(
    ("effects", "said"),
    [
        (
            {"xs": (0.2, 0.15, 0.1), "s": (0.4, 0.2, 0.1)},
            "Reading a row raised its log-likelihood by 0.200 (xs) to 0.400 (s) nats per token; "
            "25% to 50% of it was left at the end",
        ),
        (
            {"xs": (0.2, None, 0.2)},  # two checkpoints: there is no later one
            "Reading a row raised its log-likelihood by 0.200 nats per token",
        ),
        (
            {"xs": (0.01, 0.0, 0.0), "s": (-0.01, 0.0, 0.0)},
            "No effect of reading a row on its log-likelihood can be told from 0",
        ),
        (
            {"xs": (0.01, 0.0, 0.0), "s": (-0.4, -0.2, 0.0)},
            "Reading a row lowered its log-likelihood by 0.400 nats per token in 1 of 2 sizes; "
            "what was left at the end cannot be told from 0",
        ),
        (
            {"xs": (0.3, 0.2, 0.1), "s": (-0.3, -0.2, -0.1)},
            "Reading a row changed its log-likelihood by 0.300 (xs) to 0.300 (s) nats per token; "
            "33% of it was left at the end",
        ),
        ({"xs": (None, None, None)}, "Effects of reading a row on its log-likelihood"),
    ],
)
def test_the_title_says_the_finding(effects, said):
    assert title(means(**effects), OUTCOME, list(effects)) == said


def test_the_title_stands_in_the_page_beside_the_name_of_the_study(tables):
    page = page_of(tables)

    assert page.count("<h1>") == 1
    found = page.split("<title>")[1].split("</title>")[0]
    assert found.endswith("· my-study")
    assert found.split(" · ")[0] in text_of(page[page.index("<h1>") :])


def test_every_average_has_its_number_and_its_weights(tables):
    found = averages({**tables, **checks()}, OUTCOME)

    lines = {(line["size"], line["average"]): line for line in found.to_dicts()}
    assert lines["xs", "later"]["att"] == 0.15
    assert lines["xs", "over event times"]["att"] == 0.0316
    assert lines["xs", "over all cells"]["att"] == 0.0566
    assert found.filter(pl.col("how averaged").str.contains("headline"))["average"].to_list() == [
        "later",
        "later",
    ]
    assert found["how averaged"].null_count() == 0


def test_models_stand_by_their_parameters(tables):
    sizes = {
        name: {"parameters": count, "checkpoints": [], "non_embedding": 0, "peak_lr": 0.0}
        for name, count in (("xs", 9), ("s", 5))
    }
    more = {"name": "", "layers": 1, "width": 1, "heads": 1, "min_lr": 0.0}
    suite = {
        name: {**more, **facts, "precision": "", "weights": ""} for name, facts in sizes.items()
    }
    from tests.report.test_provenance import SUITE

    said = text_of(page_of(tables, suite={**SUITE, "sizes": suite}))

    assert "sizes s, xs ·" in said
    assert said.index("s 0.400 ± 0.010") < said.index("xs 0.200 ± 0.010")
