"""`audit --memory`: a study with two checkpoints exchanged, which no hash can tell."""

import json
from dataclasses import replace

import polars as pl
import pytest
from typer.testing import CliRunner

from pythia_profile.cli import app
from pythia_profile.mini.build import describe
from pythia_profile.mini.config import MiniConfig
from pythia_profile.mini.train import initial_model
from pythia_profile.study import create_study, new_study
from pythia_profile.suites.folder import write_suite
from pythia_profile.tables import MEMORY_DATES
from tests.did.test_memory_dates import remembering, swapped

NEVER_STEP = 2**63 - 1


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """A suite of 17 checkpoints, each whole and unlike the others: listings find nothing."""
    folder, config = tmp_path_factory.mktemp("suite"), MiniConfig(vocabulary=300, row_tokens=17)
    for step in config.checkpoints:
        model = initial_model("xs", replace(config, seed=step))
        model.save_pretrained(folder / "xs" / f"step{step}")
    facts = describe(None, config)
    suite = replace(facts, root=folder, store=None, tokenizer=None)
    write_suite(replace(suite, sizes={"xs": facts.sizes["xs"]}), folder)
    return folder


@pytest.fixture
def planted_study(untrained, tmp_path):
    """Make a study of that suite from a planted panel."""

    def make(laid):
        folder = tmp_path / "study"
        create_study(folder, new_study(str(untrained), ("xs",)))
        step = pl.Series(laid.step)
        rows = pl.DataFrame(
            {
                "row_id": laid.row_id,
                "treatment_step": step.set(step == NEVER_STEP, None),
                "batch": step.set(step == NEVER_STEP, None) - 1,
                "tokens": pl.Series([[1, 2, 3]] * len(laid), dtype=pl.List(pl.UInt16)),
                "earlier_exposure": 0.0,
            }
        )
        rows.write_parquet(folder / "rows.parquet")
        columns = {str(c): laid.y[:, at] - 5.7 for at, c in enumerate(laid.checkpoints)}
        scores = pl.DataFrame({"row_id": laid.row_id, **columns}).unpivot(
            index="row_id", variable_name="checkpoint", value_name="log_likelihood"
        )
        (folder / "scores").mkdir()
        scores.with_columns(
            pl.col("checkpoint").cast(pl.Int64),
            **{name: pl.lit(0.5) for name in ("accuracy", "mean_rank", "entropy")},
            suite=pl.lit("mini"),
            size=pl.lit("xs"),
            seed=pl.lit(0),
        ).write_parquet(folder / "scores" / "all.parquet")
        return folder

    return make


LAID = remembering(per_step=2, never=300)


def test_exchanged_checkpoints_are_found_and_end_with_code_4(planted_study):
    folder = planted_study(swapped(LAID, 5, 12))

    found = CliRunner().invoke(app, ["audit", str(folder), "--memory"])

    assert found.exit_code == 4, found.output
    assert "checkpoint 160 seems to hold weights after 38" in found.output
    assert "checkpoint 384 seems to hold weights after 16" in found.output
    table = pl.read_parquet(folder / "memory_dates.parquet")
    assert table.schema == MEMORY_DATES.columns
    assert table.filter("far")["checkpoint"].to_list() == [160, 384]


def test_a_sound_study_passes_and_prints_json(planted_study):
    found = CliRunner().invoke(app, ["audit", str(planted_study(LAID)), "--memory", "--json"])

    assert found.exit_code == 0, found.output
    assert not any(line["far"] for line in json.loads(found.stdout)["memory"])


def test_a_suite_has_no_rows_to_date_by(untrained):
    found = CliRunner().invoke(app, ["audit", str(untrained), "--memory"])

    assert found.exit_code == 2
    assert "is no study" in found.output
