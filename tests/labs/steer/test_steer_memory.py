"""The memory steer: planted rows are found and forgotten, permuted labels say nothing."""

import json

import numpy as np
import polars as pl
import pytest
import torch

from pythia_profile.cli import app
from pythia_profile.cli.app import run
from pythia_profile.execute.worker import Worker
from pythia_profile.labs.steer.steer_demo import DemoSettings, run_demo
from pythia_profile.labs.steer.steer_language import TwoStyles
from pythia_profile.labs.steer.steer_map import Steer, steered
from pythia_profile.labs.steer.steer_memory import (
    MemorySettings,
    MemoryTask,
    MemoryUnit,
    attack_unit,
    halves,
    memory_attacks,
    memory_summary,
    random_steer,
    write_task,
)
from pythia_profile.labs.steer.steer_settings import SteerError, SteerSettings
from pythia_profile.labs.steer.steer_study import memorized_rows, read_rows, row_gains
from pythia_profile.labs.steer.steer_suppress import suppression
from pythia_profile.scoring.run import score
from pythia_profile.scoring.settings import RunOptions
from pythia_profile.store import read_json, write_table
from pythia_profile.study import Sampling, Study, create_study
from pythia_profile.tables import ROWS
from pythia_profile.training.hooks import LowRank
from tests.labs.steer.conftest import build

QUICK = MemorySettings(steer=SteerSettings(steps=60, batch_size=16, scale=1.0), permutations=2)


def frame(inside, outside, tokens=8, vocabulary=40):
    rng = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "row_id": range(inside + outside),
            "tokens": rng.integers(vocabulary, size=(inside + outside, tokens)).tolist(),
            "inside": [True] * inside + [False] * outside,
        }
    )


def test_halves_are_of_equal_labels_and_apart_and_permutations_have_the_same_rows():
    rows = frame(21, 40)
    found = [halves(rows, MemorySettings(), permutation) for permutation in range(4)]

    for one in found:
        assert not {*one.train} & {*one.test}
        assert len(one.train) == len(one.test) == 20
        assert one.inside[one.train].sum() == one.inside[one.test].sum() == 10
        assert sorted(map(tuple, one.texts)) == sorted(map(tuple, found[0].texts))
    label = {tuple(row): inside for row, inside in zip(rows["tokens"], rows["inside"], strict=True)}
    truth = [[label[tuple(text)] for text in one.texts] for one in found]
    assert (np.array(truth[0]) == found[0].inside).all()
    # of 40 rows, half keep their label under a permutation, with a standard deviation of 3
    assert all(
        8 < (np.array(t) == one.inside).sum() < 32
        for t, one in zip(truth[1:], found[1:], strict=True)
    )
    with pytest.raises(SteerError, match="3 inside and 40 outside, expected four"):
        halves(frame(3, 40), MemorySettings())


def test_gains_are_changes_since_before_the_reading_less_those_of_never_read_rows():
    """By hand: row 0 is read by step 15, after checkpoint 10; row 1 by step 5; 2 and 3 never."""
    rows = pl.DataFrame(
        {"row_id": [0, 1, 2, 3, 4], "treatment_step": [15, 5, None, None, 40], "tokens": [[1]] * 5}
    )
    values = {0: (-5, -4, -2), 1: (-6, -3, -1), 2: (-4, -3, -3), 3: (-4, -4, -2), 4: (-1, -1, -1)}
    scores = pl.DataFrame(
        [
            (row, step, float(y))
            for row, ys in values.items()
            for step, y in zip((0, 10, 20), ys, strict=True)
        ],
        ["row_id", "checkpoint", "log_likelihood"],
        orient="row",
    )

    found = row_gains(rows, scores)
    # row 0: (-2 - -4) - mean(0, 2); row 1: (-1 - -6) - mean(1, 2); row 4 is read after the last
    assert found.rows() == [(0, 1.0), (1, 3.5)]
    assert read_rows(rows, 20)["inside"].to_list() == [True, True, False, False]
    assert read_rows(rows, 20)["row_id"].to_list() == [0, 1, 2, 3]


def test_memorized_are_the_thirds_that_gained_most_and_least():
    rows = pl.DataFrame(
        {
            "row_id": range(12),
            "treatment_step": [*[5] * 9, None, None, None],
            "tokens": [[row] for row in range(12)],
        }
    )
    ends = [4.0, 1, 8, 0, 2, 7, 3, 5, 6, 0, 0, 0]
    scores = pl.DataFrame(
        {
            "row_id": [*range(12)] * 2,
            "checkpoint": [0] * 12 + [10] * 12,
            "log_likelihood": [0.0] * 12 + ends,
        }
    )

    found = memorized_rows(rows, scores)
    assert found.filter("inside")["row_id"].to_list() == [2, 5, 8]
    assert found.filter(~pl.col("inside"))["row_id"].to_list() == [1, 3, 4]
    assert found["tokens"].to_list() == [[1], [2], [3], [4], [5], [8]]


def test_a_random_steer_has_the_same_singular_values_and_other_directions():
    drawn = LowRank(16, 3, seed=1, sd=0.5)
    steer = Steer(drawn.down.detach(), drawn.up.detach(), torch.ones(16))
    other = random_steer(steer, seed=0)

    values = torch.linalg.svdvals(steer.matrix)
    torch.testing.assert_close(torch.linalg.svdvals(other.matrix), values, atol=1e-5, rtol=0)
    cosine = (other.matrix * steer.matrix).sum() / (values**2).sum()
    assert abs(cosine) < 0.5


def test_suppression_counts_greedy_continuations(model):
    """Against a loop without cache and processor."""
    drawn = LowRank(16, 3, seed=1, sd=0.3)
    steer = Steer(drawn.down.detach(), drawn.up.detach(), torch.ones(16))
    split = halves(frame(12, 12), MemorySettings())
    settings = MemorySettings(strengths=(-2.0, 0.0))
    found = suppression(model, steer, split, settings)

    rows = torch.tensor(np.stack(split.tested(inside=True)))
    for value in (-2.0, 0.0):
        ids = rows[:, :4]
        with steered(model, steer, value), torch.no_grad():
            for _ in range(4):
                following = model(input_ids=ids).logits[:, -1].argmax(-1, keepdim=True)
                ids = torch.cat([ids, following], dim=1)
        line = found.filter(
            (pl.col("steer") == "memory")
            & (pl.col("value") == value)
            & (pl.col("quantity") == "matched")
        )
        assert line["estimate"][0] == pytest.approx(float((ids == rows)[:, 4:].float().mean()))
    at_0 = found.filter(pl.col("value") == 0).drop("steer")
    assert at_0.head(4).equals(at_0.tail(4))


def test_permuted_labels_say_nothing_and_a_planted_difference_is_found(tmp_path):
    """Rows of two sets of four tokens: a steer tells them; of permuted labels it is chance."""
    rng = np.random.default_rng(0)
    tokens = np.concatenate([rng.integers(4, size=(60, 8)), rng.integers(20, 24, size=(60, 8))])
    rows = frame(60, 60).with_columns(tokens=pl.Series(tokens.tolist()))
    build("gpt_neox").save_pretrained(tmp_path / "model")
    path = write_task(tmp_path / "rows.parquet", rows)
    task = MemoryTask("tiny", tmp_path / "model", "planted", path)
    lines, said = [], []
    settings = QUICK.replace(permutations=3)
    for permutation in range(4):
        unit = MemoryUnit(tmp_path / "units", task, permutation, settings, ("a", "b"))
        unit.folder.mkdir(parents=True)
        attack_unit(unit, Worker("cpu", 1, said.append))
        lines.append(read_json(unit.folder / "result.json"))
    (found,) = memory_summary(pl.DataFrame(lines)).to_dicts()

    assert found["auc"] > 0.95
    assert found["null_lower"] < 0.5 < found["null_upper"]
    assert found["auc"] > found["null_upper"]
    assert found["p_value"] == pytest.approx(1 / 4)
    assert len(said) == 4 * unit.steps


SMALL = DemoSettings(
    language=TwoStyles(rows=4096, planted=32, steps=300),
    planted_permutations=3,
    sizes=(),
)


@pytest.mark.slow
def test_the_demo_finds_what_the_language_is_and_forgets_what_was_planted(tmp_path):
    """The language alone, with fewer rows and steps; then again, from what is there."""
    style, memory, page = run_demo(SMALL, tmp_path, workers=1)

    facts = style.facts
    assert facts["monotone"]
    assert facts["right_hits"] == [8, 8]
    assert max(facts["left_hits"]) < 6
    assert all(lower > 0.8 for _, lower, _ in facts["keyword_auc"])
    assert facts["kept"] >= 0.6
    for line in memory.summary.iter_rows(named=True):
        assert line["loss_auc"] > 0.9
        assert line["null_lower"] < 0.5 < line["null_upper"]
    given = memory.curves.filter((pl.col("quantity") == "matched") & (pl.col("steer") == "memory"))
    for _, part in given.group_by("size"):
        at = dict(part.select("value", "estimate").iter_rows())
        assert at[0.0] > 0.7
        assert at[-2.0] < 0.7 * at[0.0]
    text = page.read_text()
    assert "Exploratory" in text
    assert text.count("<figure>") == 3
    assert "<script" not in text
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")}
    memory_attacks(
        tmp_path / "units",
        [
            MemoryTask(
                "32x2",
                next(tmp_path.glob("speakers/*32x2*/model")),
                "planted",
                tmp_path / "rows" / "planted.parquet",
                3,
            )
        ],
        SMALL.memory,
    )
    assert stamps == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")}


@pytest.mark.slow
def test_a_scored_study_is_asked_both_questions(tiny_suite, tiny_rows, tmp_path, capsys):
    study = Study(
        suite=str(tiny_suite.root),
        sizes=("xs", "s"),
        sample=Sampling(rows_per_cohort=24, batches_per_cohort=0, never_treated=96),
    )
    folder = tmp_path / "study"
    create_study(folder, study)
    write_table(tiny_rows, folder / "rows.parquet", ROWS)
    score(
        *(tiny_suite, tiny_rows),
        folder=folder / "scores",
        settings=study.score,
        options=RunOptions(workers=1),
    )
    words = ["lab", "steer", "memory", str(folder), "--out", str(tmp_path / "found"), "--json"]
    words += ["--workers", "1"]
    sets = ("permutations=0", "steer.steps=10", "strengths=[-1.0, 0.0]")
    assert run(app, [*words, *(word for one in sets for word in ("--set", one))]) == 0

    found = json.loads(capsys.readouterr().out)
    asked = [(line["size"], line["label"], line["rows"]) for line in found["memory"]]
    assert asked == [
        ("xs", "read", 96),
        ("s", "read", 96),
        ("xs", "memorized", 32),
        ("s", "memorized", 32),
    ]
    assert {(line["source"], line["target"]) for line in found["transfers"]} == {
        ("xs", "s"),
        ("s", "xs"),
    }
    assert (tmp_path / "found" / "report.html").exists()
    assert run(app, ["lab", "steer", "memory", str(tmp_path)]) == 2
    assert "no study in" in capsys.readouterr().err
