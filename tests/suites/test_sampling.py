"""Which rows a study draws: short cohorts, the published draw, held-out rows, exposure."""

import hashlib
import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from data_order import (
    HELD_OUT,
    Layout,
    MegatronStore,
    NeoxOrder,
    NeoxRows,
    OrderError,
    TokenRows,
    TrainingOrder,
    exposures,
    pack_text,
)
from data_order.errors import StoreNotFoundError
from data_order.neox.layout import samples_asked
from pythia_profile.cli import app
from pythia_profile.cli.app import run
from pythia_profile.errors import SettingsError, StudyError
from pythia_profile.suites import sampling
from pythia_profile.suites.registry import open_suite
from pythia_profile.suites.sampling import Sampling, sample_rows


@pytest.mark.parametrize("batches", [3, 0])
def test_log_spaced_checkpoints_draw_what_there_is(tiny_suite, caplog, batches):
    caplog.set_level(logging.WARNING, "pythia_profile")
    settings = Sampling(rows_per_cohort=24, batches_per_cohort=batches, never_treated=96)

    rows = sample_rows(tiny_suite, settings, checkpoints=[0, 1, 2, 4, 8, 32, 64])

    steps = rows["treatment_step"].drop_nulls()
    counts = [len(steps.filter(steps.is_between(a + 1, b))) for a, b in [(0, 1), (1, 2), (2, 4)]]
    assert counts == [8, 8, 16]  # a batch is 8 rows
    assert len(steps) == 32 + 3 * 24
    assert "3 cohorts have fewer than 24 rows: 1 (8), 2 (8), 4 (16)" in caplog.text


def test_cohorts_that_are_long_enough_are_drawn_as_before(tiny_suite, caplog):
    settings = Sampling(rows_per_cohort=24, batches_per_cohort=3, never_treated=96)

    whole = sample_rows(tiny_suite, settings, checkpoints=[0, 32, 64])
    mixed = sample_rows(tiny_suite, settings, checkpoints=[0, 1, 32, 64])

    late = pl.col("treatment_step") > 32
    assert mixed.filter(late).equals(whole.filter(late))
    assert len(caplog.records) == 1


class NumberedRows:
    """As many rows as are wanted; row i holds i, i + 1 and i + 2, of 15 bits."""

    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, key):
        return (np.asarray(key)[..., None] + np.arange(3)) & 0x7FFF


def sha256_of(ids):
    return hashlib.sha256(",".join(map(str, ids.to_list())).encode()).hexdigest()


@pytest.fixture
def pythia(monkeypatch):
    """Pythia with as many rows as it has, of three tokens."""
    monkeypatch.setattr(sampling, "open_rows", lambda *_, **__: NumberedRows(146_432_000))
    return replace(open_suite("pythia"), row_tokens=3)


def test_the_published_studys_rows_and_controls_have_its_ids(pythia, tmp_path):
    np.save(tmp_path / "pile-val.npy", NumberedRows(12_345)[np.arange(12_345)].astype(np.uint16))
    settings = Sampling(published=True, held_out="pile-val.npy", seed=5)

    rows = sample_rows(pythia, settings, checkpoints=range(0, 143_001, 1000), near=tmp_path)

    never = rows.filter(pl.col("treatment_step").is_null())
    treated = rows.filter(pl.col("treatment_step").is_not_null())
    golden = Path(__file__).parents[1] / "data_order" / "golden" / "published_draw.json"
    expected = json.loads(golden.read_text())
    assert sha256_of(treated["published_row_id"]) == expected["treated"]["sha256"]
    places = -100 - never["published_row_id"]
    assert sha256_of(places.sort()) == expected["never of 12345"]["sha256"]
    assert never["tokens"].to_list()[:3] == [[i, i + 1, i + 2] for i in places[:3]]
    assert (rows["earlier_exposure"] == 0).all()  # Pythia passes over its text once


def test_the_published_draw_is_refused_for_other_runs(tiny_suite):
    settings = Sampling(published=True, never_treated=0)

    with pytest.raises(OrderError, match="'published': is of 143,000 steps of 1024 rows, got 64"):
        sample_rows(tiny_suite, settings, checkpoints=[0, 32, 64])


def test_held_out_controls_leave_the_whole_run_to_cohorts(tiny_suite):
    spare = TokenRows.open(tiny_suite.root / "spare", tiny_suite.row_tokens)
    usual = Sampling(rows_per_cohort=24, batches_per_cohort=3, never_treated=96)
    settings = usual.replace(held_out="spare", never_treated=len(spare))

    rows = sample_rows(tiny_suite, settings, checkpoints=[0, 32, 64], near=tiny_suite.root)

    never = rows.filter(pl.col("treatment_step").is_null())
    assert never["row_id"].to_list() == [HELD_OUT + i for i in range(len(spare))]
    assert np.array_equal(np.array(never["tokens"].to_list()), spare[:])
    treated = pl.col("treatment_step").is_not_null()
    plain = sample_rows(tiny_suite, usual, checkpoints=[0, 32, 64])
    assert rows.filter(treated).equals(plain.filter(treated))


def test_held_out_documents_are_packed_with_the_suites_tokenizer(tiny_suite, tmp_path):
    texts = [f"document {i} about nothing that was read" for i in range(60)]
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (tmp_path / "other.jsonl").write_text(lines)
    settings = Sampling(
        rows_per_cohort=8, batches_per_cohort=0, never_treated=20, held_out="other.jsonl"
    )

    rows = sample_rows(tiny_suite, settings, checkpoints=[0, 64], near=tmp_path)

    width, tokenizer = tiny_suite.row_tokens, tiny_suite.root / "tokenizer.json"
    packed = pack_text(tmp_path / "other.jsonl", tokenizer, width)
    never = rows.filter(pl.col("treatment_step").is_null())
    places = (never["row_id"] - HELD_OUT).to_numpy()
    assert len(places) == 20
    assert np.array_equal(np.array(never["tokens"].to_list()), packed[places])
    bare = replace(tiny_suite, tokenizer=None)
    with pytest.raises(StudyError, match=r"brings no tokenizer; .* sample.held_out_tokenizer"):
        sample_rows(bare, settings, checkpoints=[0, 64], near=tmp_path)
    named = settings.replace(held_out_tokenizer=str(tokenizer))
    assert sample_rows(bare, named, checkpoints=[0, 64], near=tmp_path).equals(rows)
    with pytest.raises(StudyError, match=r"holds token \d+, suite 'mini' has 40; the tokenizer"):
        sample_rows(
            replace(tiny_suite, vocabulary=40), settings, checkpoints=[0, 64], near=tmp_path
        )


@pytest.mark.parametrize(
    ("held_out", "error", "message"),
    [
        ("document", StudyError, "held_out: 'document' is the store that the run read"),
        ("document.bin", StudyError, "is the store that the run read"),
        ("lost", StoreNotFoundError, "lost"),
        ("spare", OrderError, "held-out: rows: 500 were asked for, but there are 128"),
    ],
)
def test_held_out_rows_that_cannot_be_drawn_are_one_line(tiny_suite, held_out, error, message):
    settings = Sampling(never_treated=500, held_out=held_out)

    with pytest.raises(error, match=message) as caught:
        sample_rows(tiny_suite, settings, checkpoints=[0, 32, 64], near=tiny_suite.root)
    assert "\n" not in str(caught.value)


@pytest.fixture
def twice(tmp_path):
    """A run of 30 steps of 8 rows over documents that it reads twice in part; its index maps."""
    rng = np.random.default_rng(4)
    sizes = rng.integers(1, 40, 48)
    documents = [rng.integers(0, 50, size) for size in sizes]
    MegatronStore.write(tmp_path / "corpus", documents)
    training = TrainingOrder(8, 30)
    layout = Layout(seed=3, samples=samples_asked(training), sequence_length=5)
    maps = NeoxOrder.from_sizes(sizes, layout, training)
    assert maps.epochs == 2
    ordered = NeoxRows(maps, MegatronStore(tmp_path / "corpus"))[:]
    MegatronStore.write(tmp_path / "rows", ordered)
    suite = replace(
        open_suite("pythia"),
        **{"name": "mine", "published": "", "study_defaults": {}, "sizes": {}},
        **{"batch_size": 8, "steps": 30, "row_tokens": 6, "vocabulary": 50, "warmup_steps": 0},
        **{"root": tmp_path, "store": "rows", "data_seed": 3, "single_pass": False},
    )
    return suite, maps


ONCE = Sampling(rows_per_cohort=4, batches_per_cohort=0, never_treated=0, documents="corpus.idx")


def test_documents_and_seed_say_what_had_been_read_before(twice, tmp_path):
    suite, maps = twice

    rows = sample_rows(
        suite, ONCE.replace(rows_per_cohort=60), checkpoints=[0, 15, 30], near=tmp_path
    )

    exposed = exposures(maps, rows["row_id"].to_numpy()).share
    assert np.array_equal(rows["earlier_exposure"].to_numpy(), exposed)
    assert exposed.max() == 1
    for row, own, second in rows.select("row_id", "treatment_step", "second_step").iter_rows():
        assert second == half_read_again(maps, row, own)
    assert 0 < rows["second_step"].null_count() < len(rows)
    unknown = sample_rows(suite, ONCE.replace(documents=""), checkpoints=[0, 15, 30])
    assert unknown["earlier_exposure"].null_count() == len(unknown)


def half_read_again(maps, row, own):
    """Step by which 3 of a row's 6 tokens had been read again in other copies of documents."""
    pieces = maps.pieces(slice(0, 240))
    owner, mine, steps = pieces.owner(), maps.pieces([row]), []
    for document, offset, length, entry in zip(
        mine.document, mine.offset, mine.length, mine.entry, strict=True
    ):
        for token in range(offset, offset + length):
            holds = (pieces.document == document) & (pieces.entry != entry)
            holds &= (pieces.offset <= token) & (token < pieces.offset + pieces.length)
            reads = pieces.rows[owner[holds]] // 8 + 1
            steps.append(min((int(s) for s in reads if s > own), default=None))
    known = sorted(step for step in steps if step is not None)
    return known[2] if len(known) > 2 else None


def test_single_exposure_rows_are_read_in_no_other_row(twice, tmp_path):
    suite, maps = twice
    settings = ONCE.replace(rows_per_cohort=2, single_exposure=True)

    for seed in range(5):
        chosen = settings.replace(seed=seed)
        rows = sample_rows(suite, chosen, checkpoints=[0, 15, 30], near=tmp_path)
        again = exposures(maps, rows["row_id"].to_numpy(), before=31).repeated
        assert len(rows) == 4
        assert not again.any()


def test_index_maps_of_another_order_are_refused(twice, tmp_path, caplog):
    suite, _ = twice
    steps = [0, 15, 30]

    with pytest.raises(StudyError, match=r"row \d+ of the suite is not the one that .*corpus.idx"):
        sample_rows(replace(suite, data_seed=4), ONCE, checkpoints=steps, near=tmp_path)
    with pytest.raises(StudyError, match="the data seed of suite 'mine' is not known"):
        sample_rows(replace(suite, data_seed=None), ONCE, checkpoints=steps, near=tmp_path)
    alone = ONCE.replace(documents="", single_exposure=True)
    with pytest.raises(StudyError, match="which text suite 'mine' read twice is not known"):
        sample_rows(suite, alone, checkpoints=steps, near=tmp_path)
    with pytest.raises(StoreNotFoundError, match="lost"):
        sample_rows(suite, ONCE.replace(documents="lost"), checkpoints=steps, near=tmp_path)
    (tmp_path / "corpus.bin").unlink()
    sample_rows(suite, ONCE, checkpoints=steps, near=tmp_path)
    assert "no .bin beside it" in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"published": True}, "held_out: missing, expected the text"),
        ({"published": True, "never_treated": 0, "batches_per_cohort": 5}, "leave them at 100 and"),
        ({"published": True, "never_treated": 0, "single_exposure": True}, "the published draw is"),
        ({"held_out": "a", "never_treated": 0}, "held_out: got text, but never_treated = 0"),
        (
            {"held_out": "a", "held_out_tokenizer": "t.json"},
            "held_out_tokenizer: got 't.json', but",
        ),
        ({"document_split": "969,30,1"}, "document_split: got '969,30,1', but no documents"),
    ],
)
def test_settings_that_make_no_sense_together_are_one_line(settings, message):
    with pytest.raises(SettingsError, match=message) as caught:
        Sampling(**settings)
    assert "\n" not in str(caught.value)


def test_a_study_that_uses_none_of_it_keeps_its_key():
    plain = {"rows_per_cohort", "batches_per_cohort", "never_treated", "seed"}

    assert set(Sampling().model_dump(mode="json")) == plain
    assert set(Sampling(held_out="a").model_dump(mode="json")) == plain | {"held_out"}


def test_a_study_takes_them_from_init_relative_to_its_folder(tiny_suite, tmp_path, capsys):
    shutil.copytree(tiny_suite.root, tmp_path / "suite")
    folder, chosen = tmp_path / "study", "sample.held_out=../suite/spare"
    asked = [
        "--suite",
        str(tmp_path / "suite"),
        "--sizes",
        "xs",
        "--set",
        "sample.never_treated=50",
    ]

    assert run(app, ["init", str(folder), *asked, "--set", chosen]) == 0
    assert run(app, ["sample", str(folder)]) == 0

    rows = pl.read_parquet(folder / "rows.parquet")
    assert (rows.filter(pl.col("treatment_step").is_null())["row_id"] >= HELD_OUT).all()
    assert rows["treatment_step"].null_count() == 50
    words = [*asked, "--set", "sample.published=true"]
    assert run(app, ["init", str(tmp_path / "other"), *words]) == 2
    assert "sample.published: its draw is 100 rows" in " ".join(capsys.readouterr().err.split())
