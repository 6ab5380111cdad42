"""The report: one file that asks for nothing, with every number where the tables have it."""

import base64
import io
import re
from html.parser import HTMLParser

import polars as pl
import pytest

from pythia_profile.errors import MissingTableError
from pythia_profile.report import words
from pythia_profile.report.page import render, write_report
from pythia_profile.study import new_study

OUTCOME = "log_likelihood"


def profiles(**effects):
    lines = [
        {"size": size, "kind": kind, "at": None, "att": att, "se": 0.01, "lower": att, "upper": att}
        for size, values in effects.items()
        for kind, att in zip(("instantaneous", "persistent", "residual"), values, strict=True)
    ]
    cohorts = [
        {**lines[0], "at": at, "att": at / 100, "learning_rate": 1.0 / at} for at in (10, 20, 30)
    ]
    return pl.DataFrame([*lines, *cohorts], infer_schema_length=None).with_columns(
        outcome=pl.lit(OUTCOME), suite=pl.lit("mini"), seed=pl.lit(0)
    )


@pytest.fixture
def tables():
    return {
        "att": pl.DataFrame({"cohort": [10], "att": [0.123456]}),
        "profiles": profiles(xs=(0.2, 0.15, 0.1), s=(0.4, 0.2, 0.1)),
        "placebo": pl.DataFrame(
            {
                "size": ["xs", "xs", "xs"],
                "outcome": [OUTCOME] * 3,
                "over": ["joint", "cohort", "cohort"],
                "cohort": [None, 20, 30],
                "statistic": [2.5, 2.5, 1.0],
                "p_value": [0.3, 0.03, 0.9],
            }
        ),
        "agreement": pl.DataFrame(
            {
                "size_a": ["xs"],
                "size_b": ["s"],
                "outcome": [OUTCOME],
                "kind": ["post"],
                "cells": [6],
                "pearson": [0.81],
                "lower": [0.7],
                "upper": [0.9],
                "reliability_a": [0.5],
                "reliability_b": [0.6],
                "disattenuated": [None],
            },
            schema_overrides={"disattenuated": pl.Float64},
        ),
    }


def page_of(tables, **lock):
    study = new_study("mini", ("xs", "s"))
    grid = pl.DataFrame({"size": ["xs"], "checkpoints": [17]})
    return render(study, tables, {}, grid, {"versions": {"torch": "2.13.0"}, **lock})


class Addresses(HTMLParser):
    """Everything a browser would fetch when it opens the page."""

    def __init__(self):
        super().__init__()
        self.found = []
        self.open = []

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        self.found += [named[key] for key in ("src", "srcset", "data", "poster") if key in named]
        if tag in ("link", "use", "image"):
            self.found.append(named.get("href") or named.get("xlink:href"))
        if tag not in ("meta", "br", "img", "link", "path", "use"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                pass


def test_the_page_asks_for_nothing(tables):
    parser = Addresses()
    page = page_of(tables)
    parser.feed(page)

    assert [address for address in parser.found if not str(address).startswith("#")] == []
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)


def test_words_carry_the_numbers_of_the_tables(tables):
    first, second = words.headline(tables, OUTCOME)
    assert first.startswith(
        "xs: training on a row raised its log-likelihood (nats per token) by 0.200"
    )
    assert "0.100 ± 0.010 at the last checkpoint, 50% of what it was at once." in first
    assert "25% of what it was" in second
    (placebo,) = words.placebo_sentences(tables, OUTCOME)
    assert placebo == (
        "xs: no sign of effects before treatment (largest |z| 2.50, p = 0.300; 1 of 2 cohorts "
        "reject at 5 % after Holm's correction)."
    )
    (rate,) = words.rate_sentences(tables, OUTCOME)
    assert "Spearman correlation -1.00 over 3 cohorts" in rate
    (pair,) = words.agreement_sentences(tables, OUTCOME)
    assert (
        "xs and s: r = 0.81 [0.70, 0.90] over 6 cells, split-half reliability 0.50 and 0.60."
        in pair
    )


def test_a_sign_of_early_effects_is_called_one(tables):
    failed = tables["placebo"].with_columns(p_value=pl.lit(0.004))

    assert (
        "xs: a sign of effects before treatment"
        in words.placebo_sentences({"placebo": failed}, OUTCOME)[0]
    )


def test_small_tables_are_downloads_inside_the_page_and_large_ones_named(tables):
    large = pl.DataFrame({"cohort": range(100_000)})

    page = page_of({**tables, "att": large, "extra": tables["att"]})

    address = re.search(r'download="extra.csv" href="data:text/csv;base64,([^"]+)"', page)
    csv = pl.read_csv(io.BytesIO(base64.b64decode(address[1])))
    assert csv["att"].to_list() == [0.123456]
    assert "<code>att.parquet</code> beside this file" in page


def test_text_from_outside_is_escaped(tables):
    page = page_of(tables, command={"line": "pythia-profile <script>alert(1)</script>"})

    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_report_without_figures_names_the_verb_that_draws_them(tables, tmp_path):
    with pytest.raises(MissingTableError, match="run `pythia-profile plot"):
        write_report(tmp_path, new_study("mini", ("xs",)), tables)


def luminance(color: str) -> float:
    """Relative luminance of #rrggbb by the WCAG's definition."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_stands_out_from_its_ground(tables):
    colors = dict(re.findall(r"--(\w+): (#\w{6})", page_of(tables)))

    for ink in ("ink", "soft", "accent"):
        for ground in (colors["wash"], "#ffffff"):
            contrast = (luminance(ground) + 0.05) / (luminance(colors[ink]) + 0.05)
            assert contrast >= 4.5, (ink, ground)
