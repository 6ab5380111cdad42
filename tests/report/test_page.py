"""The report: one file that asks for nothing, with every number where the tables have it."""

import base64
import html
import io
import json
import re
from html.parser import HTMLParser
from importlib.resources import files

import polars as pl
import pytest

from pythia_profile.errors import MissingTableError
from pythia_profile.profiles.sentences import check_groups
from pythia_profile.report import words
from pythia_profile.report.page import render, write_report
from pythia_profile.report.quality import quality
from pythia_profile.study import new_study
from tests.report.conftest import OUTCOME, profiles


def page_of(tables, study=None, stale=(), **lock):
    study = study or new_study("mini", ("xs", "s"))
    grid = pl.DataFrame({"size": ["xs"], "checkpoints": [17]})
    lock = {"versions": {"torch": "2.13.0"}, **lock}
    return render(study, tables, {}, grid, lock, stale=stale, name="my-study")


def text_of(page):
    """What a reader sees, in one line."""
    body = re.sub(r"<(style|script)[^>]*>.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


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
    assert "0.100 ± 0.010 at the last checkpoint (residual), 50% of the instantaneous" in first
    assert "25% of the instantaneous" in second
    (placebo,) = words.placebo_sentences(tables, OUTCOME)
    assert placebo == (
        "xs: no evidence of effects before treatment (largest |z| 2.50, p = 0.300; 1 of 2 cohorts "
        "reject at 5 % after Holm's correction)."
    )
    (rate,) = words.rate_sentences(tables, OUTCOME)
    assert "Spearman correlation -1.00 over 3 cohorts" in rate
    (pair,) = words.agreement_sentences(tables, OUTCOME)
    assert (
        "xs and s: r = 0.81 over 6 cells, reliability 0.50 and 0.60; without noise 0.80 "
        "[0.70, 0.90]." in pair
    )


def test_evidence_of_early_effects_is_called_that(tables):
    failed = tables["placebo"].with_columns(p_value=pl.lit(0.004))

    assert (
        "xs: evidence of effects before treatment"
        in words.placebo_sentences({"placebo": failed}, OUTCOME)[0]
    )


def test_small_tables_are_downloads_inside_the_page_and_large_ones_named(tables):
    large = pl.DataFrame({"cohort": range(300_000)})

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


def checks():
    """Tables of the checks of one size; its three means are 0.11, 0.0316 and 0.0566."""
    run = {"suite": "mini", "size": "xs", "seed": 0, "outcome": OUTCOME}
    sensitivity = [
        {**run, "effect": effect, "cohort": cohort, "restriction": restriction, "att": att,
         "se": 0.01, "breakdown_m_bar": breakdown, "breakdown_m": breakdown}
        for effect, cohort, att, breakdown in (
            ("first", None, 0.11, float("inf")), ("average", None, 0.0316, 0.5),
            ("average", 20, 0.02, 0.25),
        )
        for restriction in ("relative_magnitudes", "smoothness")
    ]  # fmt: skip
    witness = {
        **run,
        "estimator": "twfe",
        "checkpoints_since": None,
        "estimate": 0.08,
        "se": 0.01,
        "att": 0.0566,
    }
    naive = {
        **witness,
        "estimator": "naive_double_demeaned",
        "checkpoints_since": 0,
        "estimate": 0.03,
    }
    contrast = {"suite": "mini", "seed": 0, "outcome": OUTCOME, "group_a": "s", "group_b": "xs"}
    effect = {"kind": "persistent", "att": 0.02, "lower": 0.01, "upper": 0.03}
    influence = {**run, "checkpoint": 10, "change": 0.001, "change_in_se": 0.1, "suspect": False}
    gap = {
        **run,
        "covariate": "base_outcome",
        "cohort": 20,
        "difference": 0.1,
        "standardized": 0.2,
        "p_value": 0.5,
    }
    return {
        "sensitivity": pl.DataFrame(sensitivity, infer_schema_length=None),
        "leave_one_out": pl.DataFrame([influence]),
        "balance": pl.DataFrame([gap]),
        "contrasts": pl.DataFrame([{**contrast, "between": "sizes", **effect}]),
        "alternatives": pl.DataFrame([witness, {**naive, "att": 0.11}], infer_schema_length=None),
    }


def test_every_mean_of_the_checks_says_what_it_averages(tables):
    said = text_of(page_of({**tables, **checks()}))

    assert (
        "mean over cohorts, weighted by rows) 0.1100 ± 0.0100, excludes 0 under slopes of" in said
    )
    assert (
        "then every event time counts once) 0.0316 ± 0.0100, excludes 0 under slopes up to 0.5"
        in said
    )
    assert "(ours 0.0566: mean over all cells from the cohort on, each weighted by its" in said
    assert "naive double-demeaned (minus the mean over all checkpoints, those after" in said
    assert "of 1 cohorts' own event studies (each one's mean effect over its checkpoints" in said
    assert "The breakdown value is the smallest violation" in said


def test_the_checks_stand_by_question_and_empty_questions_are_left_out(tables):
    found = check_groups(checks())

    assert [group.heading for group in found] == [
        "If trends were not parallel",
        "The estimate without single checkpoints",
        "Treated rows and controls before treatment",
        "Other estimators, for contrast",
        "Sizes against each other, on the same rows",
    ]
    page = page_of({**tables, **checks()})
    folded = page[page.index("The checks in words") :]
    assert re.findall("<h3>(.*?)</h3>", folded)[: len(found)] == [one.heading for one in found]
    assert "The checks in words" not in page_of(tables)


def test_a_page_of_old_tables_says_so_at_its_top(tables):
    fresh, stale = (page_of(tables, stale=names) for names in ((), ("att", "profile")))

    assert 'class="warning"' not in fresh
    said = text_of(stale)
    assert "older than the settings: att, profile." in said
    assert "run pythia-profile run my-study ." in said
    assert said.index("older than the settings") < said.index("training on a row raised")


def test_the_warning_reaches_the_file(tables, tmp_path):
    (tmp_path / "figures").mkdir()
    svg = '<?xml version="1.0"?><svg width="460.8pt" height="273.6pt" viewBox="0 0 460 273"></svg>'
    for name in ("heatmap", "heatmap_accuracy"):
        (tmp_path / "figures" / f"{name}.svg").write_text(svg)
    study = new_study("mini", ("xs", "s"), {"outcomes": (OUTCOME, "accuracy")})

    page = write_report(tmp_path, study, tables, stale=["plot"]).read_text()

    assert "older than the settings: plot." in text_of(page)
    assert page.count("<svg") == 2
    assert "min-width: 507px" in page  # 1.1 px for each of 460.8 points


def test_every_outcome_is_summarized_and_the_first_one_first(tables):
    both = dict(tables)
    for name in ("profiles", "placebo", "agreement"):
        other = tables[name].with_columns(outcome=pl.lit("accuracy"))
        if name == "profiles":
            other = other.with_columns(pl.col("att") / 100)
        both[name] = pl.concat([tables[name], other])
    for outcomes, expected in (
        ((OUTCOME, "accuracy"), ["by 0.200", "by 0.002"]),
        (("accuracy", OUTCOME), ["by 0.002", "by 0.200"]),
    ):
        said = text_of(page_of(both, new_study("mini", ("xs", "s"), {"outcomes": outcomes})))

        found = re.findall(r"xs: training on a row raised its [^±]*?(by [\d.]+) ±", said)
        assert found == expected


def test_a_small_effect_keeps_two_digits(tables):
    small = tables["profiles"].with_columns(pl.col("att") / 100, se=pl.lit(0.00123))

    assert "by 0.0020 ± 0.0012 at the next" in words.headline({"profiles": small}, OUTCOME)[0]


def test_an_effect_that_is_not_told_from_zero_has_no_share_left(tables):
    means = {"xs": (0.0, 0.0, 0.0), "s": (-0.2, -0.1, -0.1)}

    first, second = words.headline({"profiles": profiles(**means)}, OUTCOME)

    assert "nan" not in first
    assert first.endswith("0.000 ± 0.010 at the last checkpoint (residual).")
    assert "s: training on a row changed its" in second
    assert second.endswith("50% of the instantaneous effect.")


def test_the_truth_is_told_with_its_error_in_standard_errors():
    line = {
        "size": "xs", "outcome": OUTCOME, "by": "all", "cells": 24, "bias": -0.004,
        "bias_se": 0.01, "correlation": 0.99, "coverage": 0.875,
    }  # fmt: skip
    summary = pl.DataFrame([line, {**line, "by": "cohort"}, {**line, "by": "cohort"}])

    told, meaning = words.counterfactual_sentences(summary, 0.9)

    assert "without each of 2 cohorts" in told
    assert "-0.0040 ± 0.0100 on average over these cells, 0.4 standard errors from 0" in told
    assert "Its pointwise 90 % intervals cover the truth in 88% of the cells" in told
    assert "± is one standard error" in meaning
    exact = summary.with_columns(bias_se=0.0, correlation=pl.lit(None, pl.Float64))
    assert "nan" not in words.counterfactual_sentences(exact)[0]
    assert "inf" not in words.counterfactual_sentences(exact)[0]
    measured = summary.with_columns(interference=-0.011, interference_se=0.012)
    last = words.counterfactual_sentences(measured)[-1]
    assert "moved its scored rows by -0.0110 ± 0.0120 more than never-treated rows" in last


def test_the_true_effect_is_said_to_be_a_difference_of_two_differences():
    page = (files("pythia_profile.report") / "templates" / "page.html").read_text()

    assert "less the same difference on never-treated rows" in page
    assert "The difference between the runs is the true effect" not in page


def test_scores_of_another_training_seed_are_not_counted(tmp_path):
    record = {
        "key": "k",
        "sha256": "s",
        "rows_sha256": "r",
        "weights": {"model.safetensors": "a"},
        "rows": 40,
        "finite": {OUTCOME: 38},
        "settings": {"dtype": "float32"},
    }
    for seed in (0, 1):
        unit = tmp_path / "scores" / "mini" / "xs" / f"seed{seed}" / "step32"
        unit.mkdir(parents=True)
        (unit / "done.json").write_text(json.dumps(record))

    line = quality(tmp_path, new_study("mini", ("xs",), {"training_seed": 1})).row(0, named=True)

    assert (line["checkpoints"], line["equal weights"], line["scores not finite"]) == (1, 0, 2)


def test_what_is_wide_scrolls_in_its_own_box(tables):
    page = page_of(tables)

    boxes = re.findall(r'<div class="scroll"[^>]*><table', page)
    assert page.count("<table") == len(boxes) > 0
    assert re.search(r"\.scroll \{[^}]*overflow-x: auto", page)


def luminance(color: str) -> float:
    """Relative luminance of #rrggbb by the WCAG's definition."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_stands_out_from_its_ground(tables):
    schemes = re.findall(r":root \{(.*?)\}", page_of(tables), flags=re.DOTALL)[:2]

    for scheme in schemes:  # light and dark
        colors = dict(re.findall(r"--(\w+): (#\w{6})", scheme))
        for ink in ("ink", "soft", "accent", "warn", "good"):
            for ground in ("ground", "wash", "warm"):
                shades = sorted(luminance(colors[name]) for name in (ink, ground))
                assert (shades[1] + 0.05) / (shades[0] + 0.05) >= 4.5, (scheme, ink, ground)
