"""The lab from the command line: a study scored and looked at from all sides, and the demo."""

import json

import numpy as np
import polars as pl
import pytest

from pythia_profile.cli import app
from pythia_profile.cli.app import run
from pythia_profile.labs.recall.recall_page import run_recall
from pythia_profile.labs.recall.recall_settings import Lengths, RecallSettings
from pythia_profile.store import write_table
from pythia_profile.study import Sampling, Study, create_study
from pythia_profile.tables import ROWS
from pythia_profile.training.planted import PlantedSettings
from pythia_profile.training.shapes import ModelShape

pytestmark = pytest.mark.slow

LENGTHS = ["--prompt", "8", "--continuation", "1"]


@pytest.fixture(scope="module")
def study(tmp_path_factory, tiny_suite, tiny_rows):
    folder = tmp_path_factory.mktemp("study")
    settings = Study(
        suite=str(tiny_suite.root), sizes=("xs", "s"), sample=Sampling(never_treated=96)
    )
    create_study(folder, settings)
    write_table(tiny_rows, folder / "rows.parquet", ROWS)
    assert run(app, ["lab", "recall", "score", str(folder), *LENGTHS, "--workers", "1"]) == 0
    return folder


def said(capsys, *words):
    """What a verb prints as JSON."""
    capsys.readouterr()
    assert run(app, ["lab", "recall", *map(str, words), "--json", "--quiet"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_scored_study_is_read_and_its_whole_matches_are_greedy_ones(study, capsys):
    table = pl.read_parquet(study / "recall" / "8_1.parquet")
    # a continuation of one token is given back whole, or not at all
    assert table["full"].cast(pl.Float64).equals(table["share"], check_names=False)
    assert table["leading"].cast(pl.Boolean).equals(table["full"], check_names=False)

    lines = said(capsys, "score", study, *LENGTHS)["lines"]

    last = table.filter(pl.col("checkpoint") == 64, pl.col("size") == "s")
    assert [line["size"] for line in lines] == ["xs", "s"]
    assert lines[1]["memorized"] == last["full"].sum() > 0
    assert not [*(study / "recall").glob(".*")]  # nothing unfinished is left


def test_whole_matches_alone_are_the_same_and_take_nothing_from_what_was_decoded(study, capsys):
    decoded = pl.read_parquet(study / "recall" / "8_1.parquet")

    lines = said(capsys, "score", study, *LENGTHS, "--exact-only", "--workers", "1")["lines"]

    table = pl.read_parquet(study / "recall" / "8_1.parquet")
    assert table["full"].equals(decoded["full"])
    assert table["share"].null_count() == len(table)
    assert lines[0]["mean_share"] is None
    said(capsys, "score", study, *LENGTHS)  # read, not scored again
    assert pl.read_parquet(study / "recall" / "8_1.parquet").equals(decoded)


def test_transitions_overlap_and_rates_agree_with_the_table(study, capsys):
    table = pl.read_parquet(study / "recall" / "8_1.parquet")
    at = {
        (size, step): part.sort("row_id")["full"].to_numpy()
        for (size, step), part in table.group_by("size", "checkpoint")
    }

    found = said(capsys, "transitions", study, *LENGTHS)
    shared = said(capsys, "overlap", study, *LENGTHS)["lines"][0]

    line = next(one for one in found["checkpoints"] if (one["size"], one["after"]) == ("xs", 32))
    assert line["learned"] == (~at["xs", 16] & at["xs", 32]).sum()
    assert line["forgotten"] == (at["xs", 16] & ~at["xs", 32]).sum()
    assert found["sizes"][0]["kept"] == shared["shared"] == (at["xs", 64] & at["s", 64]).sum()
    assert shared["one"] == "xs"


def test_readings_are_counted_until_the_checkpoint(study, capsys, tiny_suite, tiny_rows):
    from data_order import TokenRows

    table = pl.read_parquet(study / "recall" / "8_1.parquet")
    rows = np.asarray(TokenRows.open(tiny_suite.root / "document", row_tokens=17)[:512])
    tokens = dict(tiny_rows.select("row_id", "tokens").iter_rows())
    counts = {
        (row, step): int((rows[: step * 8] == tokens[row][8]).sum())
        for row in tokens
        for step in table["checkpoint"].unique().to_list()
    }

    lines = said(capsys, "counts", study, *LENGTHS)["lines"]

    expected = table.filter(pl.col("size") == "s").with_columns(
        read=pl.Series(
            [
                counts[key]
                for key in table.filter(pl.col("size") == "s").select("row_id", "checkpoint").rows()
            ]
        )
    )
    by_count = expected.group_by("read").agg(pl.col("full").mean(), pl.len()).sort("read")
    own = [line for line in lines if line["size"] == "s"]
    assert [line["frequency"] for line in own] == by_count["read"].to_list()
    assert [line["sequences"] for line in own] == by_count["len"].to_list()
    assert [line["rate"] for line in own] == pytest.approx(by_count["full"].to_list())


def test_kinds_and_domains_add_up_to_the_memorized_rows(study, capsys):
    found = said(capsys, "kinds", study, *LENGTHS)
    lines = said(capsys, "score", study, *LENGTHS, "--exact-only")["lines"]

    for what in ("kinds", "domains"):
        own = [line for line in found[what] if line["size"] == "s"]
        assert sum(line["memorized"] for line in own) == lines[1]["memorized"]
        assert sum(line["sequences"] for line in own) == lines[1]["rows"]


def test_every_memorized_row_has_a_shortest_suffix(study, capsys):
    found = said(capsys, "compress", study, "--size", "s", *LENGTHS)["lines"]
    lines = said(capsys, "score", study, *LENGTHS, "--exact-only")["lines"]

    assert len(found) == lines[1]["memorized"]
    assert all(1 <= line["suffix"] <= 8 for line in found)


def test_models_of_two_folders_are_scored_and_compared_on_the_same_rows(
    study, tmp_path, capsys, tiny_suite
):
    for size in ("xs", "s"):
        words = [tiny_suite.folder_of(size, 64), "--rows", study / "rows.parquet", *LENGTHS]
        said(capsys, "model", *words, "--out", tmp_path / f"{size}.parquet")

    line = said(capsys, "overlap", tmp_path / "xs.parquet", tmp_path / "s.parquet")["lines"][0]

    of_study = said(capsys, "overlap", study, *LENGTHS)["lines"][0]
    names = ("of_one", "of_other", "shared", "jaccard", "p")
    assert [line[name] for name in names] == [of_study[name] for name in names]


def test_published_counts_need_no_model(capsys):
    assert run(app, ["lab", "recall", "published", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "0.587 percentage points a decade" in out
    assert "0.448 percentage points a decade" in out
    assert "1.37 %" in out
    found = said(capsys, "published")
    assert found["pythia"][0]["r2"] == pytest.approx(0.984, abs=5e-4)


def test_families_are_listed(capsys):
    lines = said(capsys, "families")["lines"]
    assert {line["class"] for line in lines} >= {"gpt_neox", "gpt_bigcode", "llama", "olmo3"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["score", "{study}", "--prompt", "12", "--continuation", "9"], "needs rows of 21 tokens"),
        (["transitions", "{study}", "--prompt", "3"], "lab recall score"),
        (["compress", "{study}", *LENGTHS, "--size", "m"], "size 'm' was not scored"),
        (["fit", "{study}/nothing.csv"], "no table of models at"),
        (["fit", "{study}", *LENGTHS], "2 models of 2 sizes"),
        (["published", "--until", "1e12"], "until: got 1e+12 parameters, expected fewer"),
        (["transitions", "{study}/empty"], "lab recall score"),
        (["score", "{study}/empty"], "no study in"),
    ],
)
def test_bad_input_is_one_line(study, capsys, words, message):
    named = [word.format(study=study) for word in words]

    assert run(app, ["lab", "recall", *named]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_a_table_of_models_is_fitted_and_a_wrong_one_refused(tmp_path, capsys):
    table = tmp_path / "models.csv"
    table.write_text("parameters,memorized,rows\n1e6,1,100\n1e7,2,100\n1e8,4,100\n1e9,8,100\n")
    assert said(capsys, "fit", table)["forms"][1]["slope"] == pytest.approx(np.log10(2))
    for line, message in (
        ("1e9,800,100", "0 to `rows`"),
        ("1e9,a,100", "is missing or no number"),
        ("inf,1,100", "expected finite parameters"),
        ("1e9,inf,inf", "expected finite parameters"),
        ("1e9,NaN,NaN", "expected finite parameters"),
        ("1e9,0,0", "rows above 0"),
    ):
        table.write_text(f"parameters,memorized,rows\n1e6,1,100\n{line}\n")
        assert run(app, ["lab", "recall", "fit", str(table)]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_small_demo_writes_tables_figures_and_a_page_and_goes_on(tmp_path):
    settings = RecallSettings(
        corpus=PlantedSettings(
            vocabulary=16, tokens=12, frequencies=(1, 40), sequences=3, background=10, held_out=6
        ),
        sizes=(ModelShape(width=8), ModelShape(width=32, layers=1)),
        steps=400,
        checkpoints=2,
        lengths=Lengths(prompt=6, continuation=4),
    )

    tables, page = run_recall(settings, tmp_path, workers=2)

    assert tables.counted == 6
    assert tables.recall.height == 2 * 3 * (6 + 6)
    small, large = tables.sizes.iter_rows(named=True)
    assert large["threshold"] in (1, 40)  # 40 copies of a sequence, read a hundred times each
    assert (small["threshold"] or 80) >= large["threshold"]
    assert small["memorized"] <= large["memorized"]
    assert tables.sizes["held_out"].to_list() == [0, 0]
    assert page.read_text().count("<figure>") == 5
    again, _ = run_recall(settings, tmp_path, workers=1)
    assert again.recall.equals(tables.recall)
