"""How a study was estimated and where its numbers come from, in words and of this study only."""

import re

import polars as pl
import pytest

from pythia_profile.did.settings import Estimation
from pythia_profile.report.provenance import estimation_facts
from pythia_profile.report.sheets import sheet
from pythia_profile.study import new_study
from pythia_profile.suites.folder import read_suite, template
from tests.report.test_page import page_of, text_of

SUITE = {
    "name": "mini",
    "title": "tiny models",
    "steps": 512,
    "batch_size": 16,
    "row_tokens": 65,
    "single_pass": True,
    "schedule": "neox_v1",
    "warmup_steps": 5,
    "decay_steps": 0,
    "seed": 1,
    "seeds": [],
    "store": "document",
    "label_steps": 1,
    "revision": "step{label}",
    "tokenizer": None,
    "vocabulary": 1024,
    "notes": [],
    "faults": [
        {"size": "l", "steps": [1], "what": "is broken", "threads": ["a/b#1"]},
        {"size": "xs", "steps": list(range(90)), "what": "is odd", "threads": ["a/b#2"]},
    ],
    "sizes": {
        name: {
            "name": name, "parameters": 91008, "non_embedding": 0, "layers": 2, "width": 32,
            "heads": 2, "peak_lr": 6e-3, "min_lr": 6e-4, "precision": "float32",
            "checkpoints": [0, 32, 512], "weights": f"folder-{name}",
        }
        for name in ("xs", "s", "l")
    },
}  # fmt: skip


def test_provenance_is_words_and_only_of_the_sizes_of_the_study(tables):
    stages = {
        "report": {"seconds": 0.1, "outputs": {"report.html": "f" * 64}},
        "score": {"seconds": 61.84, "outputs": {"scores": "0123456789abcdef" * 4}},
        "sample": {"seconds": 67.8, "outputs": {"rows.parquet": "b" * 64}},
    }

    page = page_of(tables, suite=SUITE, stages=stages)

    said = text_of(page[page.index('id="provenance"') :])
    assert not re.search(r"[{\[]'", said)
    assert "512 steps of 16 rows of 65 tokens; no text is read twice" in said
    assert "folder-xs" in said
    assert "folder-l" not in said
    assert "3, 0 to 512" in said
    assert "without embeddings" not in said
    assert said.count("seeds") == 1
    assert "trained the models" in said
    assert said.index("67.8") < said.index("61.8 scores 0123456789ab") < said.index("Made with")
    assert "report.html" not in said
    assert "xs, steps 0, 1, 2, 3, 4, 5 …: is odd (a/b#2)" in said
    assert "is broken" not in said


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"batches_per_cohort": 0}, "by row (clusters = 'auto': rows are drawn over all rows"),
        ({"batches_per_cohort": 4}, "by batch (clusters = 'auto': rows are drawn from 4 batches"),
        ({"batches_per_cohort": 4, "clusters": "row"}, "by row (clusters = 'row')"),
        ({"estimator": "ancova"}, "analysis of covariance"),
        ({"estimator": "diff"}, "Equal levels : had it not been read"),
        ({"missing": "available"}, "each cell uses the rows that have the scores it needs"),
        ({"anticipation": 2}, "up to 2 checkpoints before the cohort's (anticipation = 2)"),
        ({"anticipation": 2}, "the last checkpoint before the 2 checkpoints of anticipation"),
        ({"anticipation": 2}, "apart from the 2 checkpoints before its cohort"),
        ({"covariates": ["base"]}, "base, held equal by regression of the changes among the"),
        ({"family": "all"}, "simultaneous over all cells (family = 'all')"),
        ({"control": "not_yet"}, "rows of cohorts that are read after the checkpoint"),
        ({"base": "varying"}, "for earlier cells, the checkpoint before each"),
        (
            {"level": 0.9, "draws": 250},
            "90 % (level = 0.9), simultaneous over all cells from the cohort on",
        ),
        (
            {"draws": 2500, "estimate.seed": 11},
            "2,500 draws (draws = 2500) with seed 11 (seed = 11)",
        ),
        ({}, "anticipation none"),
    ],
)
def test_the_page_says_how_it_was_estimated(tables, settings, said):
    page = page_of(tables, new_study("mini", ("xs", "s"), settings))

    assert said in text_of(page)


@pytest.mark.parametrize(
    ("facts", "stated"),
    [
        ({"published": "pythia"}, "shuffled with data seed 1234; row store: document"),
        ({}, "order of rows row store: document"),
        ({"single_pass": None}, "65 tokens; whether text is read twice is not stated"),
        ({"single_pass": None}, "within the run; nothing is known of this for the suite"),
        ({"single_pass": False}, "65 tokens; some text is read more than once"),
        ({"single_pass": False}, "not true of this suite, some of whose text is read more than"),
        ({"single_pass": True}, "within the run; true of this suite by construction"),
    ],
)
def test_the_facts_of_the_order_are_those_of_the_suite(tables, facts, stated):
    text = text_of(page_of(tables, suite={**SUITE, **facts}))

    assert stated in text
    assert "seed 1;" not in text


def test_an_own_run_says_nothing_of_repeated_text(tmp_path):
    text = template().replace("single_pass = true", "")
    (tmp_path / "suite.toml").write_text(text)

    assert read_suite(tmp_path).single_pass is None


def test_every_setting_of_the_estimate_is_stated_with_its_value():
    settings = {"anticipation": 2, "estimator": "ancova", "missing": "available", "seed": 5}
    chosen = Estimation(**settings, clusters="row", base="varying", control="both", family="all")
    study = new_study("mini", ("xs",), {f"estimate.{k}": v for k, v in dict(chosen).items()})

    stated = " ".join(text for _, text in estimation_facts(study))

    for name, value in dict(chosen).items():
        assert f"{name} = {value!r}" in stated, name


@pytest.mark.parametrize(
    ("settings", "stated"),
    [
        (
            {"published": True, "held_out": "val.jsonl"},
            "of each cohort by the published study's own",
        ),
        (
            {"single_exposure": True},
            "none of whose text another row holds (single_exposure = true)",
        ),
        ({"held_out": "../other"}, "requested from the held-out text '../other' (control ="),
    ],
)
def test_the_page_says_which_rows_were_drawn_from_where(settings, stated):
    given = {f"sample.{name}": value for name, value in settings.items()}

    facts = estimation_facts(new_study("pythia", ("70m",), given))

    assert stated in " ".join(text for _, text in facts)


def test_what_auto_came_to_is_what_the_notes_of_the_estimation_say(tables):
    notes = {"att": ["xs, log_likelihood: clusters='auto': by batch, 96 rows are of 4 batches"]}

    assert "clustered by batch (clusters = 'auto'" in text_of(page_of(tables, notes=notes))


def test_tables_from_elsewhere_are_said_to_be(tables):
    stages = {
        "sample": {"source": "imported", "outputs": {"rows.parquet": "ab" * 32}},
        "att": {"seconds": 1.0, "outputs": {"att.parquet": "cd" * 32}},
    }

    text = text_of(page_of(tables, stages=stages))

    assert "imported, not made by this study (sample) rows.parquet abababababab" in text
    assert "not made by this study (att)" not in text


def test_a_column_has_one_format():
    frame = pl.DataFrame(
        {"kind": ["a", "b", None], "att": [0.18, 0.1719, None], "rows": [5, 12345, None]}
    )

    made = sheet(frame, {"att": 3})

    assert made.columns == (("kind", False), ("att", True), ("rows", True))
    assert made.rows == (("a", "0.180", "5"), ("b", "0.172", "12,345"), ("–", "–", "–"))
