"""The verb `rows`: documents and a seed, or index maps, give the rows in the order of the run."""

import json

import numpy as np
import pytest

from data_order.neox.documents import NeoxRows
from data_order.neox.layout import Layout
from data_order.neox.neox_order import NeoxOrder
from data_order.order import TrainingOrder
from data_order.store.megatron import MegatronStore
from pythia_profile.cli import app
from pythia_profile.cli.app import run

LAYOUT = Layout(seed=7, samples=25, sequence_length=8)
RUN = ["--batch-size", "4", "--steps", "6", "--row-tokens", "9"]


@pytest.fixture
def documents(tmp_path):
    rng = np.random.default_rng(0)
    sequences = [rng.integers(1, 500, size) for size in rng.integers(3, 40, 30)]
    return MegatronStore.write(tmp_path / "documents", sequences)


def test_rows_are_those_of_the_rebuilt_order_and_controls_follow(documents, tmp_path, capsys):
    words = ["--documents", str(tmp_path / "documents"), "--seed", "7", "--never", "5"]

    assert run(app, ["rows", str(tmp_path / "made/rows"), *words, *RUN]) == 0

    order = NeoxOrder.from_sizes(documents.sizes, LAYOUT, TrainingOrder(4, 6))
    written = MegatronStore(tmp_path / "made/rows")
    assert len(written) == 29
    expected = NeoxRows(order, documents)[:29]
    assert np.array_equal(np.stack([*written]), expected)
    assert "24 rows in training order, 5 never-treated rows behind them" in capsys.readouterr().out
    assert run(app, ["rows", str(tmp_path / "again/rows"), *words, *RUN, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    file = str(tmp_path / "again/rows.bin")
    assert facts == {"file": file, "rows": 24, "never_treated": 5}


def test_the_maps_of_a_run_give_the_same_rows(documents, tmp_path):
    order = NeoxOrder.from_sizes(documents.sizes, LAYOUT, TrainingOrder(4, 6))
    maps = tmp_path / "maps"
    maps.mkdir()
    np.save(maps / "doc_idx.npy", order.document_index)
    np.save(maps / "shuffle_idx.npy", order.shuffle_index)
    np.save(maps / "sample_idx.npy", order.sample_index)
    place = ["--documents", str(tmp_path / "documents")]

    assert run(app, ["rows", str(tmp_path / "a"), *place, "--maps", str(maps), *RUN]) == 0
    assert run(app, ["rows", str(tmp_path / "b"), *place, "--seed", "7", *RUN]) == 0

    assert (tmp_path / "a.bin").read_bytes() == (tmp_path / "b.bin").read_bytes()


def test_the_maps_of_a_run_are_compared_with_those_of_a_seed(documents, tmp_path, capsys):
    place = ["--documents", str(tmp_path / "documents")]
    made = ["rows", str(tmp_path / "a"), *place, "--seed", "7", "--save-maps", *RUN]
    again = ["rows", str(tmp_path / "b"), *place, "--maps", str(tmp_path / "a"), *RUN]
    order = NeoxOrder.from_sizes(documents.sizes, LAYOUT, TrainingOrder(4, 6))
    assert run(app, made) == 0
    assert np.array_equal(np.load(tmp_path / "a_shuffle_idx.npy"), order.shuffle_index)
    assert run(app, [*again, "--seed", "7"]) == 0
    assert (tmp_path / "a.bin").read_bytes() == (tmp_path / "b.bin").read_bytes()
    (tmp_path / "b.bin").unlink()
    capsys.readouterr()

    assert run(app, [*again, "--seed", "8"]) == 1

    error = capsys.readouterr().err
    assert "doc_idx is not the one that seed 8 makes: " in error
    assert "entries differ, the first is " in error
    assert not (tmp_path / "b.bin").exists()


def test_data_sets_by_weight_give_the_rows_that_a_loop_chooses(tmp_path, capsys):
    rng = np.random.default_rng(2)
    sets = [rng.integers(0, 500, (40, 9)), rng.integers(0, 500, (20, 9))]
    for name, rows in zip("ab", sets, strict=True):
        MegatronStore.write(tmp_path / name, rows)
    words = [f"--blend={tmp_path / 'a'}=3", f"--blend={tmp_path / 'b'}=1", "--never", "4"]

    assert run(app, ["rows", str(tmp_path / "out"), *words, *RUN]) == 0

    taken, expected = [0, 0], []
    for row in range(28):  # GPT-NeoX: the set that lags furthest behind its share
        behind = [share * max(row, 1) - taken[i] for i, share in enumerate((0.75, 0.25))]
        chosen = int(np.argmax(behind))
        expected.append(sets[chosen][taken[chosen]])
        taken[chosen] += 1
    assert np.array_equal(np.stack([*MegatronStore(tmp_path / "out")]), np.stack(expected))
    capsys.readouterr()
    for wrong in (["--blend=x"], ["--blend=x=y"], [*words[:2], "--steps", "60"], ["--blend==1"]):
        assert run(app, ["rows", str(tmp_path / "no"), *RUN, *wrong]) in (1, 2), wrong
        assert capsys.readouterr().err.count("rror: ") == 1
    assert not (tmp_path / "no.bin").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seed", "1", "--maps", "m"], "m: holds no doc_idx.npy"),
        ([], "give --seed, --maps or both"),
        (["--blend", "a=1"], "give one of --documents and --blend"),
        (["--seed", "1", "--samples", "1", "--steps", "60"], "240 rows are read, but the docu"),
        (["--seed", "1", "--steps", "9" * 5000], "exceeded maximum size"),
        (["--maps", "nowhere"], "error: "),
    ],
)
def test_what_cannot_be_written_is_one_line(documents, tmp_path, capsys, words, message):
    place = ["--documents", str(tmp_path / "documents")]

    code = run(app, ["rows", str(tmp_path / "out"), *place, *RUN, *words])

    error = capsys.readouterr().err
    assert code in (1, 2)
    assert message in " ".join(error.split())
    assert "Traceback" not in error
    assert not (tmp_path / "out.bin").exists()
