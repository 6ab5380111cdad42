"""Hubble's insertion rows, against the draw as its script makes it."""

import numpy as np
import pytest

from data_order.errors import OrderError
from data_order.insertions import insertion_rows, insertion_starts


def as_the_script_does(lengths, pieces, *, steps, batch, seed, window, width):
    """Rows and starts by the calls that the original makes, one after the other."""
    a, b = window
    rng = np.random.default_rng(seed)
    every = np.arange(int(np.floor(steps * a)) * batch, int(np.ceil(steps * b)) * batch)
    rows = rng.choice(every, len(lengths), replace=False)
    starts = []
    for row, length in zip(rows, lengths, strict=True):
        own = pieces[row]
        p = rng.choice(np.arange(len(own)), 1)[0]
        start, w = sum(own[:p]), 0
        if p > 0:
            w = rng.choice(length, 1)[0]
            w = max(min(w, start), start + length - width)
        starts.append(start - w)
    return rows, starts


@pytest.mark.parametrize("seed", [123, 4321, 202507])
@pytest.mark.parametrize("window", [(0, 1), (0.5, 1), (0.25, 0.5), (0.1, 0.33)])
def test_rows_steps_and_starts_are_those_of_the_script(seed, window):
    steps, batch, width = 37, 64, 33
    rng = np.random.default_rng(1)
    cuts = [
        np.sort(rng.choice(np.arange(1, width), rng.integers(0, 5), False)) for _ in range(2368)
    ]
    pieces = [np.diff([0, *cut, width]).tolist() for cut in cuts]
    stores = {"testset": rng.integers(1, 30, 40), "copyright": rng.integers(1, 30, 25)}
    lengths = [*stores["copyright"], *stores["testset"]]

    found = insertion_rows(stores, steps=steps, seed=seed, window=window, batch_size=batch)
    starts = insertion_starts(found, [pieces[row] for row in found.row], row_tokens=width)

    rows, expected = as_the_script_does(
        lengths, pieces, steps=steps, batch=batch, seed=seed, window=window, width=width
    )
    assert np.array_equal(found.row, rows)
    assert np.array_equal(found.step, rows // batch + 1)
    assert starts.tolist() == expected
    assert found.store.tolist() == ["copyright"] * 25 + ["testset"] * 40
    assert found.length.tolist() == lengths
    assert ((starts >= 0) & (starts + found.length <= width)).all()


def test_hubble_itself_takes_no_memory_for_rows_that_are_not_drawn():
    lengths = np.full(1000, 100)

    found = insertion_rows({"privacy": lengths}, steps=238_500, seed=4321)

    assert len(set(found.row.tolist())) == 1000
    assert 0 <= found.row.min() <= found.row.max() < 244_224_000
    # numpy's choice of places, as the documented algorithm has it
    places = np.random.default_rng(4321).choice(244_224_000, 1000, replace=False)
    assert np.array_equal(found.row, places)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": (0.5, 0.5)}, "two shares of the run"),
        ({"window": (0, 0.01)}, "50 documents to plant in 8 rows"),
        ({"steps": 0}, "steps: got 0"),
    ],
)
def test_what_cannot_be_planted_is_named(change, message):
    with pytest.raises(OrderError, match=message):
        insertion_rows(
            {"a": np.ones(50, int)}, **{"steps": 100, "seed": 0, "batch_size": 8} | change
        )


def test_pieces_must_make_up_the_rows():
    found = insertion_rows({"a": [3]}, steps=4, seed=0, batch_size=2)

    with pytest.raises(OrderError, match="got 0 rows, expected 1"):
        insertion_starts(found, [])
    with pytest.raises(OrderError, match="8 tokens, expected 9"):
        insertion_starts(found, [[5, 3]], row_tokens=9)
