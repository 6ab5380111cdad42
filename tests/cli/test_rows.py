"""The verb `rows`: documents and a seed, or index maps, give the rows in the order of the run."""

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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seed", "1", "--maps", "m"], "give one of --seed and --maps"),
        ([], "give one of --seed and --maps"),
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
