"""Tables beside the stages', rows as text, methods and references: shown where they exist."""

import base64
import gzip
import json
import re

import polars as pl

from pythia_profile.report.appendix import MOST_LINES, extras
from pythia_profile.report.citations import bibtex, methods
from pythia_profile.report.examples import examples
from pythia_profile.report.explorer import packed
from pythia_profile.study import new_study
from tests.report.conftest import OUTCOME
from tests.report.test_page import checks, page_of, text_of


def estimands(lines=2):
    return pl.DataFrame(
        {
            "suite": "mini",
            "size": "xs",
            "seed": 0,
            "outcome": OUTCOME,
            "estimand": [f"effect_{n}" for n in range(lines)],
            "att": [0.123456 + n for n in range(lines)],
        }
    )


def test_a_table_has_a_section_where_it_exists(tables):
    without, with_it = page_of(tables), page_of({**tables, "estimands": estimands()})

    assert 'id="more"' not in without
    said = text_of(with_it[with_it.index('id="more"') :])
    assert "effect_1 1.1235" in said
    assert "suite mini, size xs, seed 0, outcome log_likelihood" in said


def test_a_table_that_nobody_announced_is_shown_under_its_name(tables):
    (extra,) = extras({**tables, "crossed_runs": estimands(MOST_LINES + 7)}, [OUTCOME])

    assert extra.heading == "Crossed runs"
    assert len(extra.sheet.rows) == MOST_LINES
    assert "7 more lines in the download" in extra.note


def test_a_table_of_other_outcomes_only_is_not_shown(tables):
    assert extras({"estimands": estimands()}, ["accuracy"]) == []


def remembered(text="def", outcome=OUTCOME):
    line = {"suite": "mini", "size": "l", "seed": 0, "outcome": outcome, "cohort": 64, "base": 32}
    return pl.DataFrame(
        [
            {**line, "rank": rank, "row_id": 7 + rank, "effect": effect,
             "tokens": [text, " x", "\n"], "changes": [0.0, 2 * effect, -effect]}
            for rank, effect in ((1, 1.25), (2, 0.75), (-1, -0.5), (-2, -0.25))
        ]
    )  # fmt: skip


def test_rows_stand_from_the_most_to_the_least_remembered(tables):
    page = page_of({**tables, "remembered": remembered()})

    effects = re.findall(r"cohort 64: effect ([+-]\d\.\d{4})", text_of(page))
    assert effects == ["+1.2500", "+0.7500", "-0.2500", "-0.5000"]
    assert '<span class="up s5" title="+2.50"> x</span>' in page
    assert 'id="rows"' not in page_of(tables)
    assert 'id="rows"' not in page_of({**tables, "remembered": remembered(outcome="accuracy")})


def test_the_text_of_rows_is_escaped_and_cut(tables):
    page = page_of({**tables, "remembered": remembered("<script>alert(1)</script>")})

    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page
    long = remembered().with_columns(tokens=pl.lit(["a"] * 1000), changes=pl.lit([0.1] * 1000))
    assert examples(long, OUTCOME)[0].cut == 1000 - len(examples(long, OUTCOME)[0].tokens) > 0


def cells(size, gain=0.0):
    return pl.DataFrame(
        [
            {"size": size, "outcome": OUTCOME, "cohort": g, "checkpoint": c, "att": g / c + gain,
             "lower": None if c < g else 0.1, "upper": 0.23456, "n_treated": g, "n_control": c}
            for g in (10, 20) for c in (10, 20, 30)
        ]
    )  # fmt: skip


def test_the_script_gets_the_numbers_of_the_table():
    word, sizes = packed(pl.concat([cells("xs"), cells("s", 1.0)]), OUTCOME, ["xs", "s"])

    assert sizes == ["xs", "s"]
    content = json.loads(gzip.decompress(base64.b64decode(word)))["s"]
    for end in ("lower", "upper"):  # from the effect on
        content[end] = [
            None if reach is None else (att + reach) / 1e4
            for att, reach in zip(content["att"], content[end], strict=True)
        ]
    content["att"] = [att / 1e4 for att in content["att"]]
    assert content == {
        "cohorts": [10, 20],
        "checkpoints": [10, 20, 30],
        "att": [2.0, 1.5, 1.3333, 3.0, 2.0, 1.6667],
        "lower": [0.1, 0.1, 0.1, None, 0.1, 0.1],
        "upper": [0.2346] * 6,
        "n_treated": [10, 20],
        "n_control": [10, 20, 30, 10, 20, 30],
    }


def test_the_largest_models_are_kept_where_there_is_no_room_for_all():
    both = pl.concat([cells("xs"), cells("s", 1.0)])
    whole, _ = packed(both, OUTCOME, ["xs", "s"])

    assert packed(both, OUTCOME, ["xs", "s"], len(whole) - 1)[1] == ["s"]
    assert packed(both, OUTCOME, ["xs", "s"], 10) == ("", [])


def test_methods_and_references_name_what_was_used_and_nothing_else(tables):
    plain = new_study("mini", ("xs",))
    other = new_study("pythia", ("70m",), {"covariates": ["base"], "estimator": "ancova"})
    known = {**tables, **checks()}

    for study in (plain, other):
        text, entries = methods(study, {}, known), bibtex(study, known)
        keys = re.findall(r"^@\w+\{(\w+),", entries, flags=re.MULTILINE)
        cited = {key for group in re.findall(r"\[([^\]]+)\]", text) for key in group.split("; ")}
        assert cited <= set(keys)
        assert entries.count("{") == entries.count("}")
    assert "difference-in-differences" in methods(plain, {}, known)
    assert "analysis of covariance" in methods(other, {}, known)
    assert "santanna2020doubly" in bibtex(other, known)
    assert "santanna2020doubly" not in bibtex(plain, known)
    assert "biderman2023pythia" in bibtex(other, known)
    assert "rambachan2023credible" not in bibtex(plain, {})


def test_numbers_and_anchors_of_figures_and_tables_are_in_order(tables):
    page = page_of({**tables, **checks(), "estimands": estimands()})

    numbers = [int(n) for n in re.findall(r"<caption>Table (\d+)\.", page)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert all(f'id="table-{n}"' in page for n in numbers)
    links = set(re.findall(r'href="#([^"]+)"', page))
    assert links <= set(re.findall(r'id="([^"]+)"', page))
