"""Groups, tables and pages: on a tiny model, on the tiny suite, and from the command line."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from pythia_profile.checkpoints.load import CheckpointLoader
from pythia_profile.cli import app
from pythia_profile.cli.app import run
from pythia_profile.errors import EstimationError
from pythia_profile.execute.worker import Worker
from pythia_profile.labs.internals import internals_run
from pythia_profile.labs.internals.internals_material import planted_material
from pythia_profile.labs.internals.internals_measures import head_drops, lens, recalled
from pythia_profile.labs.internals.internals_selection import chosen_groups, rows_for_heads
from pythia_profile.labs.internals.internals_settings import Measuring
from pythia_profile.labs.internals.internals_tables import head_tables
from pythia_profile.labs.internals.internals_units import InternalsUnit, measure_unit
from pythia_profile.store import read_json
from pythia_profile.study import Study, create_study
from pythia_profile.training.planted import PlantedSettings, planted_corpus
from pythia_profile.training.shapes import ModelShape, tiny_model

SETTINGS = Measuring(
    prompt=5,
    continuation=5,
    most_rows=16,
    candidates=40,
    noise_draws=1,
    tuned_steps=3,
    relabelings=19,
    strengths=(0.2, 0.5),
)
CORPUS = planted_corpus(
    PlantedSettings(
        vocabulary=12, tokens=10, frequencies=(1, 8), sequences=6, background=60, held_out=30
    )
)
CONFIG = """
steps = 400
sizes = [{width = 32, layers = 2, heads = 4}]
[planted]
vocabulary = 32
tokens = 12
frequencies = [1, 64]
sequences = 16
background = 300
held_out = 60
[measure]
prompt = 6
continuation = 6
most_rows = 32
tuned_steps = 20
relabelings = 19
"""


@pytest.fixture(scope="module")
def unit(tmp_path_factory):
    """A model that has learned nothing, measured on a planted corpus in this process."""
    folder = tmp_path_factory.mktemp("internals")
    tiny_model(ModelShape(width=16, layers=2, heads=2), 12, 10, seed=0).save_pretrained(
        folder / "model"
    )
    planted_material(CORPUS, SETTINGS).write_parquet(folder / "rows.parquet")
    made = InternalsUnit(
        home=folder / "units", material=folder / "rows.parquet", checkpoint=folder / "model",
        identity="a tiny model", size="16x2", step=0, layers=2, heads=2, settings=SETTINGS,
    )  # fmt: skip
    made.folder.mkdir(parents=True)
    done = []
    measure_unit(made, Worker("cpu", 1, done.append))
    assert sum(done) == made.steps
    return made


def test_the_material_says_how_often_each_row_was_read():
    material = planted_material(CORPUS, SETTINGS)

    assert material["copies"].value_counts().sort("copies").rows() == [(0, 30), (1, 46), (8, 6)]
    assert (material["exposure"] == "never").to_list() == (material["copies"] == 0).to_list()
    assert material["tokens"].to_list()[:12] == CORPUS.planted.tolist()


def test_groups_hold_the_rows_that_they_say():
    material = planted_material(CORPUS, SETTINGS)
    rng = np.random.default_rng(0)
    match = rng.choice([0.0, 0.4, 0.8, 1.0], len(material))
    traits = rng.normal(size=(len(material), 3))

    groups, comparisons, balanced = chosen_groups(material, match, traits, SETTINGS)

    of = {name: (match[at], material[at]) for name, at in groups.items()}
    read = {name: set(rows["exposure"]) for name, (_, rows) in of.items()}
    assert (of["memorized"][0] == 1).all()
    assert (of["unmemorized"][0] <= 0.5).all()
    assert read["memorized"] == read["unmemorized"] == {"read"}
    assert read["never_read"] == read["never"] == {"never"}
    assert set(of["read 8×"][1]["copies"]) == {8}
    sizes = [len(groups[name]) for name in ("memorized", "unmemorized", "never_read")]
    assert sizes[0] == sizes[1] == sizes[2] >= 4
    assert len({*groups["unmemorized"]}) == sizes[0]
    assert comparisons == [
        ("memorized", "unmemorized", True),
        ("memorized", "never_read", True),
        ("read 1×", "never", False),
        ("read 8×", "never", False),
    ]
    assert balanced["group"].to_list() == ["unmemorized"] * 3 + ["never_read"] * 3
    asked = rows_for_heads(material, match, SETTINGS)
    assert (match[asked] == 1).all()
    assert set(material[asked]["exposure"]) == {"read"}


def test_nothing_memorized_leaves_what_chance_has_assigned():
    material = planted_material(CORPUS, SETTINGS)

    groups, comparisons, balanced = chosen_groups(
        material, np.zeros(len(material)), np.zeros((len(material), 3)), SETTINGS
    )

    assert list(groups) == ["never", "read 1×", "read 8×"]
    assert [one[:2] for one in comparisons] == [("read 1×", "never"), ("read 8×", "never")]
    assert balanced.is_empty()


def test_after_the_last_step_rows_never_read_are_the_control_and_too_few_are_one_line():
    material = planted_material(CORPUS, SETTINGS).with_columns(
        copies=pl.lit(None, pl.Int64), recent=pl.int_range(pl.len()) < 6
    )
    match, traits = np.full(len(material), 0.7), np.zeros((len(material), 3))

    groups, comparisons, _ = chosen_groups(material, match, traits, SETTINGS)

    assert comparisons == [("read", "never", False), ("just read", "never", False)]
    assert groups["just read"].tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(EstimationError, match="3 read, 0 not yet read, 0 never, expected 4 of two"):
        chosen_groups(material[:3], match[:3], traits[:3], SETTINGS)


def test_means_and_differences_are_those_of_the_rows(unit):
    measures, differences, groups = (
        pl.read_parquet(unit.folder / f"{name}.parquet")
        for name in ("measures", "differences", "groups")
    )
    rows = np.array(pl.read_parquet(unit.material)["tokens"].to_list())
    by_row = lens(CheckpointLoader().load(unit.checkpoint), rows, SETTINGS.prompt)

    members = dict(groups.group_by("group").agg("row_id").iter_rows())
    for group, places in members.items():
        found = measures.filter((pl.col("group") == group) & (pl.col("measure") == "lens"))
        np.testing.assert_allclose(found.sort("layer")["value"], by_row[places].mean(axis=0))
        assert set(found["rows"]) == {len(places)}
    difference = differences.filter(
        (pl.col("group") == "read 8×") & (pl.col("measure") == "lens") & (pl.col("layer") == 1)
    )
    by_hand = by_row[members["read 8×"], 1].mean() - by_row[members["never"], 1].mean()
    assert difference["value"].to_list() == pytest.approx([by_hand])
    recovered = measures.filter(pl.col("measure") == "recovery")
    assert set(recovered["strength"]) == {0.2, 0.5}
    assert set(recovered["layer"]) == {0, 1, 2}


def test_a_unit_counts_what_is_given_back_whole(unit):
    line = read_json(unit.folder / "result.json")
    material = pl.read_parquet(unit.material)
    model = CheckpointLoader().load(unit.checkpoint)
    whole = recalled(model, np.array(material["tokens"].to_list()), SETTINGS.prompt).all(axis=1)

    assert line["memorized"] == whole[(material["copies"] > 0).to_numpy()].sum()
    assert line["read"] == 52
    assert line["never_read"] == 30
    assert replace(unit, identity="another model").folder != unit.folder


def test_the_top_heads_are_those_whose_loss_lowers_recall_most_and_ties_are_broken_by_nats():
    match = np.zeros((20, 2, 5))
    nats = np.zeros((20, 2, 5))
    match[:, 1, 3] = 0.25
    nats[:, 0, 2] = 0.5
    domain = np.array(["code", "prose"] * 10)

    heads, overlap = head_tables(match, nats, domain, SETTINGS)

    top = heads.filter(pl.col("top") & (pl.col("domain") == "code"))
    assert top.select("layer", "head").rows() == [(0, 2), (1, 3)]
    assert top.sort("layer")["drop"].to_list() == [0.0, 0.25]
    (line,) = overlap.to_dicts()
    assert (line["domain"], line["other"], line["heads"], line["top"]) == ("code", "prose", 10, 2)
    assert line["jaccard"] == line["within"] == line["between"] == 1
    assert line["universal"] == 0.2
    assert line["universal_by_chance"] == pytest.approx(0.04)


def two_tongues():
    """GPT-2 in which heads 0 to 4 read tokens of one language alone, heads 5 to 9 of the other."""
    torch.manual_seed(0)
    shape = {"vocab_size": 40, "n_embd": 40, "n_layer": 1, "n_head": 10, "n_positions": 16}
    model = GPT2LMHeadModel(GPT2Config(**shape, bos_token_id=0, eos_token_id=0)).train(False)
    at = dict(model.named_parameters())
    with torch.no_grad():
        reads = at["transformer.h.0.attn.c_attn.weight"].normal_()
        reads[:, :80] *= 0.3
        for weight in (
            at["transformer.wte.weight"].normal_(),
            reads[:, 80:],
            at["transformer.h.0.attn.c_proj.weight"].normal_(),
        ):
            weight[:20, 20:] = weight[20:, :20] = 0
        for name in ("wpe.weight", "h.0.mlp.c_fc.weight", "h.0.mlp.c_proj.weight"):
            at[f"transformer.{name}"].zero_()
    return model


def test_halves_of_a_language_agree_more_than_two_languages_that_have_heads_of_their_own():
    model, parts = two_tongues(), []
    for first, last in ((0, 20), (20, 40)):
        ids = torch.from_numpy(np.random.default_rng(first).integers(first, last, (30, 6)))
        for _ in range(6):  # what the model itself says, in this language
            with torch.no_grad():
                logits = model(input_ids=ids).logits[:, -1, first:last]
            ids = torch.cat([ids, first + logits.argmax(-1, keepdim=True)], dim=1)
        parts.append(ids.numpy())

    drops = head_drops(model, np.concatenate(parts), 6)
    heads, overlap = head_tables(
        *drops, np.repeat(["first", "second"], 30), SETTINGS.replace(top_share=0.5)
    )

    tops = {
        name: part["head"].to_list()
        for (name,), part in heads.filter(pl.col("top")).group_by("domain")
    }
    assert tops["first"] == [0, 1, 2, 3, 4]
    assert tops["second"] == [5, 6, 7, 8, 9]
    (line,) = overlap.to_dicts()
    assert line["between"] == line["jaccard"] == line["universal"] == 0
    assert line["within"] > 0.9
    assert line["lower"] > 0.5
    assert line["p_value"] == 0.05  # one of twenty labelings


@pytest.fixture
def study(tmp_path, tiny_suite, tiny_rows, monkeypatch):
    """A study of the tiny suite, measured in this process."""

    def in_process(units, work, **_):
        for one in units:
            one.folder.mkdir(parents=True, exist_ok=True)
            work(one, Worker("cpu", 1, lambda _: None))
        return [read_json(one.folder / "result.json") for one in units]

    monkeypatch.setattr(internals_run, "run_units", in_process)
    folder = tmp_path / "study"
    create_study(folder, Study(suite=str(tiny_suite.root), sizes=("xs", "s")))
    tiny_rows.write_parquet(folder / "rows.parquet")
    return folder


def test_a_checkpoint_of_a_study_compares_rows_read_with_rows_not_yet_read(
    study, tiny_rows, capsys
):
    options = ["--size", "xs,s", "--checkpoint", "32", "--set", "prompt=8", "--json"]
    options += ["--set", "continuation=8", "--set", "tuned_steps=0", "--set", "relabelings=19"]
    options += ["--set", "noise_draws=1", "--set", "candidates=48", "--set", "most_rows=24"]

    assert run(app, ["lab", "internals", "run", str(study), *options, "--quiet"]) == 0

    said = json.loads(capsys.readouterr().out)
    groups, differences = (
        pl.read_parquet(study / "internals" / f"{name}.parquet")
        for name in ("groups", "differences")
    )
    steps = dict(tiny_rows.select("row_id", "treatment_step").iter_rows())
    of = {
        name: [steps[row] for row in ids]
        for name, ids in groups.group_by("group").agg("row_id").iter_rows()
    }
    assert [(one["size"], one["checkpoint"]) for one in said["runs"]] == [("xs", 32), ("s", 32)]
    assert set(differences["size"]) == {"xs", "s"}
    assert max(of["read"]) <= 32 < min(of["not yet read"])
    assert 16 < min(of["just read"]) <= max(of["just read"]) <= 32
    assert set(differences["control"]) >= {"not yet read"}
    assert set(groups["domain"]) == {"structural", "prose"}
    page = (study / "internals" / "report.html").read_text()
    assert "a difference is an effect of reading" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "No size memorizes enough rows" in page


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--size", "xxl"], "no size 'xxl'; known: xs, s"),
        (["--checkpoint", "33"], "33"),
        ([], "rows of 17 tokens, expected 64 or more; choose --set prompt="),
        (["--set", "strengths=[0]"], "strengths: got (0.0,), expected numbers above 0"),
        (["--set", "strengths=[nan]"], "strengths.0: got nan, expected: a finite number"),
        (["--size", ""], "--size: got '', expected names separated by commas"),
        (["--set", "loudness=1"], "--set: unknown setting 'loudness'"),
    ],
)
def test_what_cannot_be_measured_is_one_line(study, options, said, capsys):
    assert run(app, ["lab", "internals", "run", str(study), *options, "--quiet"]) == 2

    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("sizes = [{width = 16, layers = 2, heads = 1}]", "16x2 has one head in a layer"),
        ("[measure]\nprompt = 30\ncontinuation = 30", "got 32, expected 60 or more"),
        ("loudness = 1", "unknown setting 'loudness'"),
    ],
)
def test_settings_that_cannot_be_are_one_line(line, said, tmp_path, capsys):
    (tmp_path / "wrong.toml").write_text(line)

    words = ["lab", "internals", "demo", "--config", str(tmp_path / "wrong.toml")]
    assert run(app, [*words, "--out", str(tmp_path / "out"), "--quiet"]) == 2

    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_lab_from_the_command_line_and_what_memorized_rows_look_like(tmp_path, capsys):
    """Planted: of 64 copies most rows are memorized, and are probable before the last layer."""
    (tmp_path / "tiny.toml").write_text(CONFIG)
    words = ["lab", "internals", "demo", "--config", str(tmp_path / "tiny.toml"), "--quiet"]
    words += ["--out", str(tmp_path / "out")]
    assert run(app, words) == 0
    assert "report: " in capsys.readouterr().out

    groups, measures = (
        pl.read_parquet(tmp_path / "out" / f"{name}.parquet") for name in ("groups", "measures")
    )
    memorized = groups.filter(pl.col("group") == "memorized")
    assert (memorized["copies"] == 64).mean() > 0.9
    lenses = measures.filter(pl.col("measure") == "lens").sort("layer")
    by_group = {group: part["value"].to_list() for (group,), part in lenses.group_by("group")}
    assert by_group["memorized"] == sorted(by_group["memorized"])
    assert by_group["memorized"][-1] > 0.8 > 0.6 > by_group["unmemorized"][-1]
    assert by_group["read 64×"][-1] > by_group["read 1×"][-1] > by_group["never"][-1]
    kept = measures.filter((pl.col("measure") == "match") & (pl.col("group") == "memorized"))
    assert kept.sort("strength")["value"].to_list() == sorted(kept["value"], reverse=True)
    pages = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out" / "units").glob("*")}
    assert run(app, words) == 0  # nothing is measured again
    assert pages == {
        path.name: path.stat().st_mtime_ns for path in (tmp_path / "out" / "units").glob("*")
    }
