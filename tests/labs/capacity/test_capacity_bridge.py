"""The bridge from profiles to bits, on a study whose every number is planted."""

import json
from html import unescape

import numpy as np
import polars as pl
import pytest

from pythia_profile.cli import app
from pythia_profile.cli.app import run
from pythia_profile.labs.capacity.capacity_bridge import bridge, bridge_facts

TOKENS, LN2 = 16, np.log(2)
CHECKPOINTS = [10, 20, 30]
COHORTS = {10: [10, 20, 30], 20: [20, 30]}  # audited, and the checkpoints of each
TREATED = {10: range(40), 20: range(40, 80)}
NEVER_READ = range(1000, 1030)


def scores(values, size, checkpoint):
    """One file of scores: row -> log-likelihood."""
    return pl.DataFrame(
        {
            "suite": "mini",
            "size": size,
            "seed": 0,
            "checkpoint": checkpoint,
            "row_id": list(values),
            "log_likelihood": list(values.values()),
            **dict.fromkeys(("accuracy", "mean_rank", "entropy"), 0.5),
        }
    )


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """Truths, outcomes with and without the cohorts, and the folder that holds them."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(5)
    study = tmp_path / "study"
    everybody = [*TREATED[10], *TREATED[20], *NEVER_READ]
    own = {c: {row: -3 + rng.normal(0, 0.3) for row in everybody} for c in CHECKPOINTS}
    for at in CHECKPOINTS:
        for size, shift in (("xs", 0.0), ("s", 0.1), ("l", 0.5)):  # l knows all rows better
            path = study / "scores" / "mini" / size / "seed0" / f"step{at}" / "scores.parquet"
            path.parent.mkdir(parents=True)
            scores({row: y + shift for row, y in own[at].items()}, size, at).write_parquet(path)
    pl.DataFrame(
        {
            "row_id": everybody,
            "treatment_step": [5] * 40 + [15] * 40 + [None] * 30,
            "batch": [4] * 40 + [14] * 40 + [None] * 30,
            "tokens": [[1] * (TOKENS + 1)] * len(everybody),
            "earlier_exposure": 0.0,
        }
    ).write_parquet(study / "rows.parquet")
    lines, effects = [], {}
    for cohort, later in COHORTS.items():
        parts = []
        for number, at in enumerate(later):
            effect = {row: rng.normal(0.2 / (1 + number), 0.05) for row in TREATED[cohort]}
            effects[cohort, at] = effect
            without = {row: own[at][row] - effect.get(row, 0.0) - 0.03 for row in everybody}
            kept = [row for row in everybody if row in effect or row in NEVER_READ]
            part = scores({row: without[row] for row in kept}, "xs", at)
            parts.append(part.drop("suite", "size", "seed"))
            truth = float(np.mean(list(effect.values())))
            # off by one and a half standard errors, in the last cell by three
            off = (3 if (cohort, at) == (20, 30) else 1.5) * 0.01
            lines.append((cohort, at, truth + off, 0.01, truth, off, 0.012))
        folder = study / "retrained" / "xs" / f"cohort{cohort}"
        folder.mkdir(parents=True)
        pl.concat(parts).write_parquet(folder / "b.parquet")
        # of an earlier sample: other numbers, another file
        other = pl.concat(parts).with_columns(pl.col("log_likelihood") * 1.1)
        other.write_parquet(folder / "a.parquet")
    names = ["cohort", "checkpoint", "att", "se", "truth", "error", "error_se"]
    table = pl.DataFrame(lines, schema=names, orient="row").select(
        pl.lit("mini").alias("suite"),
        pl.lit("xs").alias("size"),
        pl.lit(0, pl.Int64).alias("seed"),
        pl.lit("log_likelihood").alias("outcome"),
        "cohort",
        "checkpoint",
        (pl.col("checkpoint") - pl.col("cohort")).alias("event_time"),
        "att",
        "se",
        (pl.col("att") - 0.02).alias("lower"),
        (pl.col("att") + 0.02).alias("upper"),
        "truth",
        "error",
        "error_se",
        pl.lit(True).alias("covered"),
        pl.lit(None, pl.Float64).alias("interference"),
        pl.lit(None, pl.Float64).alias("interference_se"),
    )
    table.write_parquet(study / "counterfactual.parquet")
    return study, own, effects


def test_bits_of_every_cell_are_those_planted(planted):
    study, _, effects = planted
    found = bridge(study)
    cells = {(line["cohort"], line["checkpoint"]): line for line in found.cells.to_dicts()}

    assert (found.size, found.larger) == ("xs", "l")
    assert cells.keys() == effects.keys()
    for cell, effect in effects.items():
        values = np.array(list(effect.values())) * TOKENS / LN2
        line = cells[cell]
        assert line["rows"] == 40
        assert line["true_bits"] == pytest.approx(values.mean())
        off = 3 if cell == (20, 30) else 1.5
        assert line["bits"] - line["true_bits"] == pytest.approx(off * 0.01 * TOKENS / LN2)
        assert line["se"] == pytest.approx(0.01 * TOKENS / LN2)
        # the retrained model is worse by the effect and by what the replacement did to all rows
        held = np.maximum(0, values + 0.03 * TOKENS / LN2)
        assert line["mem_retrained"] == pytest.approx(held.mean())
        assert line["mem_larger"] == 0.0


def test_agreement_is_counted_and_correlated(planted):
    study, _, effects = planted
    facts = bridge_facts(bridge(study, "s"))
    truths = [np.mean(list(effect.values())) for effect in effects.values()]
    profile = np.array(truths) + np.array([0.015, 0.015, 0.015, 0.015, 0.03])

    assert (facts["cells"], facts["within"], facts["within_error"]) == (5, 4, 4)
    assert facts["profile_true_bits"] == pytest.approx(np.corrcoef(profile, truths)[0, 1])
    assert facts["rows_mem_retrained"] > 0.99  # a cut at 0 of the same numbers, shifted
    assert facts["profile_mem_larger"] is None  # nothing is held beyond it


def test_the_verb_writes_tables_figures_and_sentences(planted, capsys):
    study, _, _ = planted

    assert run(app, ["lab", "capacity", "bridge", str(study), "--out", "bits", "--quiet"]) == 0
    said = capsys.readouterr().out
    page = (study.parent / "bits" / "report.html").read_text()
    assert "within two standard errors of the truth in 4 of 5 cells" in said
    assert said.splitlines()[0].partition(" (")[0] in unescape(page)
    assert page.count("<figure>") == 2
    assert len(pl.read_parquet("bits/bridge_rows.parquet")) == 5 * 40

    assert run(app, ["lab", "capacity", "bridge", str(study), "--out", "bits", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["within"] == 4


@pytest.mark.parametrize(
    ("spoil", "words", "message"),
    [
        (lambda study: (study / "counterfactual.parquet").unlink(), (), "run `pythia-profile coun"),
        (
            lambda study: (study / "retrained" / "xs" / "cohort20" / "b.parquet").unlink(),
            (),
            "cohort20': no scores whose mean effect is the truth",
        ),
        (lambda _: None, ("--reference", "xxl"), "no other size with scores 'xxl'"),
        (
            lambda study: (
                pl.read_parquet(study / "rows.parquet")
                .with_columns(
                    tokens=pl.when(pl.col("row_id") == 3)
                    .then(pl.col("tokens").list.head(4))
                    .otherwise("tokens")
                )
                .write_parquet(study / "rows.parquet")
            ),
            (),
            "rows have from 4 to 17 tokens",
        ),
        (
            lambda study: (
                pl.read_parquet(study / "counterfactual.parquet")
                .with_columns(outcome=pl.lit("accuracy"))
                .write_parquet(study / "counterfactual.parquet")
            ),
            (),
            "no effects on log_likelihood",
        ),
    ],
)
def test_what_is_missing_is_one_line(planted, spoil, words, message, capsys):
    study, _, _ = planted
    spoil(study)

    assert run(app, ["lab", "capacity", "bridge", str(study), *words]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
