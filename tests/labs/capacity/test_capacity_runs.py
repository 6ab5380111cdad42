"""Models of uniform tokens: what they hold, resumed as if never stopped, whoever computes it."""

import json

import numpy as np
import polars as pl
import pytest
import torch

from pythia_profile.cli import app
from pythia_profile.cli.app import run
from pythia_profile.execute.worker import Worker
from pythia_profile.labs.capacity import capacity_training
from pythia_profile.labs.capacity.capacity_page import run_capacity
from pythia_profile.labs.capacity.capacity_runs import (
    CapacityUnit,
    different_rows,
    train_unit,
)
from pythia_profile.labs.capacity.capacity_settings import CapacitySettings
from pythia_profile.labs.capacity.capacity_summary import capacities
from pythia_profile.training import units
from pythia_profile.training.shapes import ModelShape

pytestmark = pytest.mark.slow

TINY = {
    "sizes": [{"width": 8, "heads": 1}],
    "vocabulary": 16,
    "tokens": 12,
    "rows": [8, 64],
    "steps": 250,
    "batch_size": 16,
    "test_rows": 50,
}
CONFIG = """
sizes = [{width = 8, heads = 1}]
vocabulary = 16
tokens = 12
rows = [8, 64]
steps = 250
batch_size = 16
test_rows = 50
"""


class Killed(BaseException):
    """The process is gone."""


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """The tiny experiment, run once from the command line, with two workers."""
    folder = tmp_path_factory.mktemp("capacity")
    (folder / "tiny.toml").write_text(CONFIG)
    words = ["lab", "capacity", "run", str(folder / "tiny.toml"), "--out", str(folder / "out")]
    assert run(app, [*words, "--workers", "2", "--quiet"]) == 0
    return folder / "out"


def test_few_rows_are_known_by_heart_and_none_beyond_the_bound(out):
    runs = pl.read_parquet(out / "capacity.parquet")
    few, many = runs.sort("rows").iter_rows(named=True)

    assert few["strict"] >= 0.9 * few["bound"]  # as reported well below capacity
    assert few["extracted_train"] > few["extracted_test"]
    assert (runs["strict"] <= runs["bound"]).all()
    assert many["train_bits"] > few["train_bits"]
    assert few["parameters"] == ModelShape(width=8, heads=1).parameters(16)
    assert few["data"] == 8 * 12 * 4


def test_rows_add_up_to_their_run(out):
    samples = pl.read_parquet(out / "samples.parquet")
    runs = pl.read_parquet(out / "capacity.parquet").sort("rows")
    summed = samples.group_by("rows").agg(pl.col("bits").sum(), pl.len(), pl.col("nats").sum())
    summed = summed.sort("rows")

    np.testing.assert_allclose(summed["bits"], runs["max"])
    assert summed["len"].to_list() == [8, 64]
    np.testing.assert_allclose(summed["nats"] / np.log(2) / summed["len"] / 11, runs["train_bits"])


def test_the_page_says_what_has_not_converged(out, tmp_path):
    page = (out / "report.html").read_text()
    runs = pl.read_parquet(out / "capacity.parquet")

    assert not capacities(runs)["converged"].all()  # 250 steps are few for 64 rows
    assert "Not converged." in page
    assert page.count("<figure>") == 5
    assert all((out / "figures" / f"{name}.svg").exists() for name in ("memorized", "descent"))


def test_the_same_command_reads_what_is_there(out, monkeypatch, capsys):
    monkeypatch.setattr(units, "map_units", None)  # nothing is left to be trained
    before = (out / "capacity.parquet").read_bytes()
    words = ["lab", "capacity", "run", str(out / "capacity.toml"), "--out", str(out), "--json"]

    assert run(app, words) == 0
    assert json.loads(capsys.readouterr().out)["capacities"][0]["size"] == "8x1"
    assert (out / "capacity.parquet").read_bytes() == before


def test_a_killed_run_goes_on_and_gives_the_same_numbers(out, tmp_path):
    settings = CapacitySettings(**TINY)
    unit = CapacityUnit(tmp_path, settings, settings.sizes[0], 64, "float32", 0)
    steps = []

    def killing(amount):
        steps.append(amount)
        if len(steps) == 77:
            raise Killed

    with pytest.raises(Killed):
        train_unit(unit, Worker("cpu", 1, killing))
    assert [path.name for path in unit.folder.glob("step*")] == ["step75"]
    train_unit(unit, Worker("cpu", 1, lambda _: None))

    again = json.loads((unit.folder / "result.json").read_text())
    whole = pl.read_parquet(out / "capacity.parquet").filter(pl.col("rows") == 64)
    assert {name: whole[name][0] for name in again} == again  # bit for bit, one worker or two
    assert not list(unit.folder.glob("step*"))


WRITES = ["save_state", "write_json", "remove_checkpoints"]
"""What `train_by_heart` does to its folder."""


def train_until(unit, last, monkeypatch):
    """Train until before or after some write or step; say whether it came to its end."""
    seen = []

    def counted(act):
        def acting(*words, **options):
            for moment in ("before", "after"):
                seen.append(moment)
                if len(seen) == last:
                    raise Killed
                if moment == "before":
                    act(*words, **options)

        return acting

    with monkeypatch.context() as patch:
        for name in WRITES:
            patch.setattr(capacity_training, name, counted(getattr(capacity_training, name)))
        try:
            train_unit(unit, Worker("cpu", 1, counted(lambda _: None)))
        except Killed:
            return False
    return True


def test_killed_anywhere_and_again_it_comes_to_the_same_numbers(tmp_path, monkeypatch):
    torch.set_num_threads(1)
    settings = CapacitySettings(**{**TINY, "steps": 20})
    whole, broken = (
        CapacityUnit(tmp_path / name, settings, settings.sizes[0], 64, "float32", 0)
        for name in ("whole", "broken")
    )
    for unit in (whole, broken):
        unit.folder.mkdir(parents=True)
    train_unit(whole, Worker("cpu", 1, lambda _: None))

    # 20 steps, 10 checkpoints: some hundred moments; each time it may go a little further
    tries = 0
    while not train_until(broken, 13 + tries % 8, monkeypatch):
        assert not (broken.folder / "result.json").exists()
        tries += 1

    assert tries > 5
    for name in ("result.json", "samples.parquet"):
        assert (broken.folder / name).read_bytes() == (whole.folder / name).read_bytes()


def test_rows_differ_and_fewer_are_the_first_of_more():
    many = different_rows(200, 4, 4, seed=1)

    assert len(np.unique(many, axis=0)) == 200
    np.testing.assert_array_equal(different_rows(50, 4, 4, seed=1), many[:50])


def test_precisions_and_seeds_are_set_side_by_side(tmp_path):
    settings = CapacitySettings(
        **{**TINY, "rows": [8], "steps": 60, "dtypes": ["float32", "bfloat16"], "seeds": [0, 1]}
    )
    found, page = run_capacity(settings, tmp_path, workers=1)
    runs = pl.read_parquet(tmp_path / "capacity.parquet")

    assert found["dtype"].to_list() == ["bfloat16", "float32"]
    for line in found.iter_rows(named=True):
        one, other = runs.filter(dtype=line["dtype"]).sort("seed")["strict"]
        # of two numbers the standard error of the mean is half their distance, and Student's
        # quantile with one degree of freedom is tan(.475 π)
        half = np.tan(0.475 * np.pi) * abs(one - other) / 2
        assert line["capacity"] == pytest.approx((one + other) / 2)
        assert line["upper"] - line["capacity"] == pytest.approx(half)
    single, half_precision = (
        runs.filter(dtype=dtype)["strict"].to_list() for dtype in ("float32", "bfloat16")
    )
    assert single != half_precision
    assert "Bits by precision of the weights" in page.read_text()
    assert (tmp_path / "figures" / "precision.svg").exists()
    assert "(95 %, 2 seeds)" in page.read_text()
    assert page.read_text().count("<figure>") == 6


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("vocabulary = 1", 2, "vocabulary: got 1, expected: greater than or equal to 2"),
        ("rows = [100_000_000_000]\nvocabulary = 4096", 4, "GB; take fewer rows"),
        ("rows = [0]", 2, "rows: got (0,), expected numbers above 0"),
        ("rows = [300]\ntokens = 4\nvocabulary = 4", 2, "of the 256 different rows of 4 tokens"),
        ("sizes = [{width = 10, heads = 4}]", 2, "width: got 10 with 4 heads"),
        ("seeds = [-1]", 2, "seeds: got (-1,), expected whole numbers from 0 on"),
        ('dtypes = ["float8"]', 2, "dtypes.0: got 'float8', expected: 'float32' or 'bfloat16'"),
        ("peak_lr = inf", 2, "peak_lr: got inf, expected: a finite number"),
        ("bits_per_parameter = [nan]", 2, "bits_per_parameter.0: got nan, expected: a finite"),
        ("stepps = 10", 2, "unknown setting 'stepps'"),
    ],
)
def test_wrong_settings_are_one_line(tmp_path, line, code, message, capsys):
    config = tmp_path / "wrong.toml"
    config.write_text(line)

    assert run(app, ["lab", "capacity", "run", str(config), "--out", str(tmp_path / "out")]) == code
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
