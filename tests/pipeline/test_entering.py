"""Published panels, effects and losses: exact units, the whole chain, differences counted."""

import json

import numpy as np
import polars as pl
import pytest

from pythia_profile.cli.app import app, run
from pythia_profile.did import NEVER, att_gt
from pythia_profile.errors import NotFoundError, StudyError, TableError
from pythia_profile.pipeline.entering import Given, export_tables, import_tables
from pythia_profile.pipeline.imports import known_faults
from pythia_profile.pipeline.running import run_all, run_stage
from pythia_profile.suites.registry import suite_facts_of

SAME = 1e-8  # effects of another implementation on the same numbers
CHECKPOINTS, BATCH, STEPS = np.arange(0, 50, 10), 8, 40
OF = {"suite": "of another lab", "batch_size": BATCH, "steps": STEPS}


def panel(seed=0, faulty=False):
    """A panel in the published schema: every row of 40 steps of 8, and 60 validation rows."""
    rng = np.random.default_rng(seed)
    place = np.append(np.arange(BATCH * STEPS), -100 - np.arange(60))
    read = np.where(place < 0, 10**6, place // BATCH + 1)
    level, walk = rng.normal(3, 0.4, len(place)), rng.normal(0, 0.1, (len(place), 5)).cumsum(1)
    gain = 0.5 * (read[:, None] <= CHECKPOINTS)
    loss = level[:, None] + walk - gain
    if faulty:
        loss[:, 3] = loss[:, 4]  # the branch of step 30 serves the weights of step 40
    return pl.DataFrame(
        {
            "seq_idx": pl.Series(place.repeat(5), dtype=pl.Int32),
            "step": np.tile(CHECKPOINTS, len(place)),
            "sup_seq": loss.ravel(),
            "entr_seq": rng.uniform(2, 4, loss.size),
            "acc_seq": rng.uniform(0, 1, loss.size),
            "avg_rank": rng.uniform(0, 900, loss.size),
        }
    )


def effects_of(table, step_of):
    """Effects in the published schema, by means of groups, under an assignment of rows."""
    wide = table.sort("seq_idx", "step")["sup_seq"].to_numpy().reshape(-1, 5)
    place = np.sort(table["seq_idx"].unique().to_numpy())
    step = np.where(place < 0, 0, step_of(place))
    lines = []
    for g in CHECKPOINTS[1:]:
        mine, never = (step > g - 10) & (step <= g), step == 0
        base = np.searchsorted(CHECKPOINTS, g) - 1
        for k, c in enumerate(CHECKPOINTS):
            change = wide[:, k] - wide[:, base]
            se = np.sqrt(change[mine].var() / mine.sum() + change[never].var() / never.sum())
            att = change[mine].mean() - change[never].mean()
            lines.append((g, g - 10, c, att, se, att - 3 * se, att + 3 * se))
    names = ("cohort", "base_period", "time", "ATT", "std_error", "lower", "upper")
    frame = pl.DataFrame(lines, schema=names, orient="row")
    outside = (pl.col("lower") > 0) | (pl.col("upper") < 0)
    return frame.with_columns(
        zero_not_in_cband=outside, model_size=pl.lit("pythia-70m"), stat=pl.lit("sup_seq")
    )


@pytest.fixture
def files(tmp_path):
    table = panel()
    table.write_parquet(tmp_path / "panel.parquet")
    theirs = effects_of(table, lambda place: -(-place // BATCH))
    theirs.write_parquet(tmp_path / "effects.parquet")
    return tmp_path


@pytest.fixture
def study(files):
    given = Given(**OF, panels={"70m": files / "panel.parquet"}, effects=files / "effects.parquet")
    return files / "study", import_tables(files / "study", given)


def test_a_panel_in_the_published_schema_goes_in_and_comes_out_unchanged(study, files):
    (out,) = export_tables(study[0], panels=files / "back")

    key = ["seq_idx", "step"]
    assert pl.read_parquet(out).sort(key).equals(pl.read_parquet(files / "panel.parquet").sort(key))


def test_units_are_those_of_the_order_and_rows_at_the_border_are_counted(study):
    folder, notes = study
    rows = pl.read_parquet(folder / "rows.parquet").sort("row_id")

    treated = rows.filter(pl.col("treatment_step").is_not_null())
    assert treated["row_id"].to_list() == list(range(320))
    assert treated["treatment_step"].to_list() == [row // 8 + 1 for row in range(320)]
    assert rows["treatment_step"].null_count() == 60
    # the published ceil(r/8) moves the first row of each of 40 batches; of these, rows 80, 160 and
    # 240 change cohort, and row 0 is taken for a control
    (said,) = [note for note in notes if "another cohort" in note]
    assert "320 treated rows" in said
    assert "puts 40 into another batch, 3 into another cohort (rows 80, 160, 240)" in said
    assert "takes 1 for controls" in said


def test_given_effects_are_those_of_our_own_estimate_of_the_panel(study):
    _, notes = study

    theirs, exact = (note for note in notes if "given cells" in note)
    assert "as the published code has them: 20 of 20 given cells" in theirs
    far = [float(text.split()[0]) for text in theirs.partition("difference ")[2].split(", ")]
    assert max(far) < SAME
    assert float(exact.partition("largest difference ")[2].split()[0]) > 1e-4


def test_our_effects_of_an_imported_panel_are_those_of_the_arrays(study, files):
    folder, _ = study
    run_stage(folder, "att")

    found = pl.read_parquet(folder / "att.parquet").sort("cohort", "checkpoint")
    table = pl.read_parquet(files / "panel.parquet").sort("seq_idx", "step")
    place = table["seq_idx"].to_numpy().reshape(-1, 5)[:, 0].astype(np.int64)
    step = np.where(place < 0, NEVER, 10 * (place // BATCH // 10 + 1))
    att = att_gt(-table["sup_seq"].to_numpy().reshape(-1, 5), step, CHECKPOINTS)
    assert np.abs(found["att"].to_numpy() - att.att.ravel()).max() < SAME


def test_the_whole_chain_runs_on_a_panel_and_its_report_says_what_differs(study):
    folder, _ = study
    file = folder / "study.toml"
    file.write_text(file.read_text().replace("draws = 1000", "draws = 20"))

    run_all(folder, 1)

    page = (folder / "report.html").read_text()
    assert "3 into another cohort" in page
    for name in ("att", "profiles", "sensitivity", "findings"):
        assert (folder / f"{name}.parquet").exists(), name


def test_effects_alone_turn_their_sign_and_their_ends_and_come_out_unchanged(files):
    folder = files / "alone"
    import_tables(folder, Given(suite="pythia", effects=files / "effects.parquet"))
    run_stage(folder, "plot")

    found = pl.read_parquet(folder / "att.parquet")
    given = pl.read_parquet(files / "effects.parquet")
    assert found["size"].unique().to_list() == ["70m"]
    assert found["outcome"].unique().to_list() == ["log_likelihood"]
    np.testing.assert_array_equal(found["att"], -given["ATT"].to_numpy())
    np.testing.assert_array_equal(found["lower"], -given["upper"].to_numpy())
    export_tables(folder, effects=files / "back.parquet")
    back = pl.read_parquet(files / "back.parquet")
    named = given.with_columns(model_size=pl.lit("70m"))
    assert back.equals(named.select(back.columns).cast(dict(back.schema)))


def test_bands_whose_ends_were_not_swapped_and_foreign_bases_are_counted(files):
    given = pl.read_parquet(files / "effects.parquet")
    odd = given.with_columns(lower=pl.col("upper"), upper=pl.col("lower"), base_period=0)
    odd.write_parquet(files / "odd.parquet")

    notes = import_tables(files / "odd", Given(suite="pythia", effects=files / "odd.parquet"))

    assert "in 16 of 20 cells the lower end lies above" in notes[0]  # at 4 bases both are 0
    assert "15 of 20 cells have a base that is not the last checkpoint before" in notes[1]
    att = pl.read_parquet(files / "odd" / "att.parquet")
    assert (att["lower"] <= att["upper"]).all()


def test_faulty_sizes_are_flagged_by_what_was_reported_and_by_their_scores(files):
    panel(faulty=True).write_parquet(files / "faulty.parquet")
    notes = import_tables(files / "study", Given(**OF, panels={"70m": files / "faulty.parquet"}))

    assert any("70m: checkpoints 30, 40 (2) have the same scores of every row" in n for n in notes)
    reported = known_faults(suite_facts_of("pythia").faults, {"2.8b": [1000, 2000], "70m": [1000]})
    assert reported
    assert any(note.startswith("2.8b: reported: ") for note in reported)
    assert not any(note.startswith("12b: ") for note in reported)


def losses(folder):
    """Losses without a model: a file for each checkpoint, named by its step."""
    table = panel()
    folder.mkdir()
    for (step,), part in table.group_by("step"):
        place = pl.col("seq_idx").cast(pl.Int64)
        index = pl.when(place < 0).then(BATCH * STEPS - 100 - place).otherwise(place)
        named = part.select(index=index, loss="sup_seq")
        named.write_parquet(folder / f"step{step}.parquet")
    return folder


def test_losses_of_ordered_rows_give_the_effects_of_the_panel(study, files, capsys):
    folder = files / "losses-study"
    options = ["--suite", "of another lab", "--batch-size", "8", "--steps", "40"]
    path = losses(files / "losses")
    assert run(app, ["import", str(folder), *options, "--losses", f"70m={path}", "--json"]) == 0

    assert "320 treated and 60 never-treated" in json.loads(capsys.readouterr().out)["notes"][0]
    for one in (folder, study[0]):
        run_stage(one, "att")
    ours, theirs = (
        pl.read_parquet(one / "att.parquet").sort("cohort", "checkpoint")["att"]
        for one in (folder, study[0])
    )
    assert (ours - theirs).abs().max() < SAME


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop("sup_seq"), "table 'panel': 'sup_seq' is missing"),
        (lambda t: t.with_columns(seq_idx=-pl.col("seq_idx").abs() % 50 - 50), "share a key"),
        (lambda t: t.with_columns(seq_idx=pl.col("seq_idx") - 1), "'seq_idx' holds -1, expected 0"),
        (lambda t: t.with_columns(acc_seq=pl.lit("high")), "'acc_seq' is String, expected Float64"),
        (lambda t: t[:0], r"bad\.parquet': got no lines, expected scores of rows"),
        (lambda t: t.filter(step=20), "got scores at 1 checkpoint, expected two or more"),
        (lambda t: t.with_columns(acc_seq=np.inf), "1900 values of outcome 'accuracy' are inf"),
    ],
)
def test_what_is_wrong_with_a_panel_is_named(files, change, message):
    change(panel()).write_parquet(files / "bad.parquet")
    with pytest.raises(TableError, match=message):
        import_tables(files / "bad", Given(**OF, panels={"70m": files / "bad.parquet"}))
    assert not (files / "bad").exists()


def test_effects_of_sizes_without_a_panel_are_left_out_with_a_note(files, tmp_path):
    """The published file holds all sizes; who has the panel of one compares that one."""
    scored = panel().with_columns(step=pl.col("step") * 100)  # checkpoints that Pythia has
    scored.write_parquet(tmp_path / "scored.parquet")
    steps = [pl.col(name) * 100 for name in ("cohort", "base_period", "time")]
    one = pl.read_parquet(files / "effects.parquet").with_columns(steps)
    one.write_parquet(tmp_path / "one.parquet")
    both = pl.concat([one, one.with_columns(model_size=pl.lit("pythia-1b"))])
    both.write_parquet(tmp_path / "all.parquet")
    panels = {"70m": tmp_path / "scored.parquet"}

    given = Given(suite="pythia", panels=panels, effects=tmp_path / "all.parquet")
    alone = Given(suite="pythia", panels=panels, effects=tmp_path / "one.parquet")

    notes = import_tables(tmp_path / "both", given)
    expected = import_tables(tmp_path / "alone", alone)

    left = "effects: those of 1b are left out: no panel or losses were given"
    assert left in notes
    assert notes[-2:] == expected[-2:]  # how far the given effects are from our own
    kept = pl.read_parquet(tmp_path / "both" / "published.parquet")
    assert kept.equals(pl.read_parquet(tmp_path / "alone" / "published.parquet"))


def test_no_lines_of_effects_are_refused(files, tmp_path):
    none = pl.read_parquet(files / "effects.parquet")[:0]
    none.write_parquet(tmp_path / "none.parquet")
    with pytest.raises(TableError, match=r"none\.parquet': table 'effects': got no lines"):
        import_tables(tmp_path / "x", Given(suite="pythia", effects=tmp_path / "none.parquet"))
    assert not (tmp_path / "x").exists()


def test_a_size_that_a_known_suite_lacks_is_one_line(files, capsys):
    given = ("--suite", "pythia", "--panel", f"3b={files / 'panel.parquet'}")
    assert run(app, ["import", str(files / "x"), *given]) == 2
    assert capsys.readouterr().err.startswith("error: no size in suite 'pythia': '3b'; known: 14m")
    assert not (files / "x").exists()


def test_export_writes_over_none_of_the_study_s_tables(study, tmp_path):
    run_stage(study[0], "att")
    before = (study[0] / "att.parquet").read_bytes()
    for name in ("att.parquet", "scores/70m.parquet"):
        with pytest.raises(StudyError, match="is a file of the study; write under another name"):
            export_tables(study[0], effects=study[0] / name)
    with pytest.raises(StudyError, match="is a file of the study"):
        export_tables(study[0], panels=study[0] / "scores")
    assert (study[0] / "att.parquet").read_bytes() == before
    for _ in range(2):  # other files there are exports, which the next export replaces
        export_tables(study[0], effects=study[0] / "mine.parquet")


def test_a_table_that_does_not_conform_is_named_with_its_file(study):
    run_stage(study[0], "att")
    path = study[0] / "att.parquet"
    pl.read_parquet(path).drop("se").write_parquet(path)
    with pytest.raises(TableError, match=r"att\.parquet': table 'att': 'se' is missing; delete it"):
        export_tables(study[0], effects=study[0] / "mine.parquet")


def test_what_cannot_be_imported_is_one_line(study, files, capsys):
    with pytest.raises(StudyError, match=r"rows\.parquet' is there already; import into another"):
        import_tables(study[0], Given(**OF, panels={"70m": files / "panel.parquet"}))
    with pytest.raises(StudyError, match="nothing to import: give a panel, losses, or effects"):
        import_tables(files / "x", Given(**OF))
    both = {"70m": files / "panel.parquet"}
    with pytest.raises(StudyError, match="'70m' was given a panel and losses"):
        import_tables(files / "x", Given(**OF, panels=both, losses=both))
    with pytest.raises(TableError, match=r"^'[^']*' cannot be read as parquet .*; name another"):
        import_tables(files / "x", Given(**OF, panels={"70m": files / "none.parquet"}))
    with pytest.raises(NotFoundError, match="no suite 'of another lab'"):
        import_tables(files / "x", Given(suite="of another lab", effects=files / "effects.parquet"))
    good = pl.read_parquet(files / "effects.parquet")
    for column, value, message in (
        ("stat", "loss", "no statistic 'loss'"),
        ("model_size", "pythia-3b", "no size 'pythia-3b'"),
    ):
        good.with_columns(pl.lit(value).alias(column)).write_parquet(files / "bad.parquet")
        with pytest.raises(NotFoundError, match=message):
            import_tables(files / "x", Given(suite="pythia", effects=files / "bad.parquet"))
    (files / "unnamed").mkdir()
    pl.DataFrame({"index": [0], "loss": [1.0]}).write_parquet(files / "unnamed" / "a.parquet")
    with pytest.raises(TableError, match="is not named by its step"):
        import_tables(files / "x", Given(**OF, losses={"70m": files / "unnamed"}))
    assert run(app, ["import", str(files / "x"), "--panel", "70m"]) == 2
    assert "expected SIZE=FILE" in capsys.readouterr().err
    assert run(app, ["export", str(study[0])]) == 2
    assert "nothing to export" in capsys.readouterr().err
