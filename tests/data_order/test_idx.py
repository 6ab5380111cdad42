"""A damaged `.idx` is refused by the name of its field, before anything is believed or read."""

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_order import MegatronStore, StoreError
from data_order.store.idx import read_index

SIZES = [3, 0, 2]
N, D = len(SIZES), 4
AT = {"version": 9, "code": 17, "N": 18, "D": 26, "sizes": 34, "pointers": 46, "documents": 70}


@pytest.fixture
def prefix(tmp_path):
    return MegatronStore.write(tmp_path / "document", [[1, 2, 3], [], [4, 5]]).prefix


def patch(prefix: Path, offset: int, data: bytes) -> None:
    path = prefix.with_suffix(".idx")
    old = path.read_bytes()
    path.write_bytes(old[:offset] + data + old[offset + len(data) :])


@pytest.mark.parametrize(
    ("offset", "data", "message"),
    [
        (0, b"MMIDIDY", r"magic is b'MMIDIDY\\x00\\x00', expected b'MMIDIDX"),
        (AT["version"], struct.pack("<Q", 2), "version is 2, expected 1"),
        *[
            (AT["code"], bytes([code]), f"dtype code is {code}, expected one of 1 uint8, 2 int8")
            for code in (0, 9, 255)
        ],
        (AT["N"], struct.pack("<Q", 2**64 - 1), "has 102 bytes, .* N = 18,446,744,073,709,551,615"),
        (AT["N"], struct.pack("<Q", N - 1), "D = 4 document entries asks for 90"),
        (AT["D"], struct.pack("<Q", 2**63), "D = 9,223,372,036,854,775,808"),
        (AT["sizes"], struct.pack("<i", -3), r"sizes\[0\] is -3, expected 0 tokens or more"),
        (AT["sizes"], struct.pack("<i", 2), r"pointers\[1\] is 6, expected 4 bytes"),
        (AT["pointers"], struct.pack("<q", 6), r"pointers\[0\] is 6, expected 0 bytes"),
        (AT["pointers"] + 16, struct.pack("<q", 4), r"pointers\[2\] is 4, expected 6 .* order"),
        (AT["pointers"] + 16, struct.pack("<q", -1), r"pointers\[2\] is -1"),
        (AT["documents"], struct.pack("<q", -1), r"documents\[0\] is -1, expected ascending"),
        (AT["documents"] + 8, struct.pack("<q", 3), r"documents\[2\] is 2, expected ascending"),
        (AT["documents"] + 24, struct.pack("<q", 4), r"documents\[3\] is 4, .* of 0 to 3"),
        (AT["code"], bytes([4]), r"pointers\[1\] is 6, expected 12 bytes"),
        (AT["code"], bytes([1]), r"pointers\[1\] is 6, expected 3 bytes"),
    ],
)
def test_each_field_is_checked_and_named(offset, data, message, prefix):
    patch(prefix, offset, data)

    with pytest.raises(StoreError, match=message):
        MegatronStore(prefix)


def test_a_code_of_the_same_width_contradicts_nothing(prefix):
    patch(prefix, AT["code"], bytes([3]))

    assert MegatronStore(prefix).dtype == np.int16


@pytest.mark.parametrize("length", [0, 1, 33, 34, 60, 101, 103])
def test_a_truncated_or_longer_index_is_refused(length, prefix):
    path = prefix.with_suffix(".idx")
    path.write_bytes((path.read_bytes() + b"\0")[:length])

    with pytest.raises(StoreError, match=f"has {length} bytes"):
        MegatronStore(prefix)


@pytest.mark.parametrize("length", [0, 9, 11, 12])
def test_tokens_of_another_length_than_the_index_says_are_refused(length, prefix):
    prefix.with_suffix(".bin").write_bytes(bytes(length))

    with pytest.raises(
        StoreError, match=rf"5 uint16 tokens = 10 bytes, but the \.bin file has {length}"
    ):
        MegatronStore(prefix)


def test_an_index_alone_is_checked_without_its_tokens(prefix):
    prefix.with_suffix(".bin").unlink()

    index = read_index(prefix.with_suffix(".idx"))

    assert index.tokens == 5
    assert index.sizes.tolist() == SIZES


def test_a_folder_in_the_place_of_the_index_is_refused(tmp_path):
    (tmp_path / "document.idx").mkdir()

    with pytest.raises(StoreError, match="cannot be read"):
        read_index(tmp_path / "document.idx")


FUZZ = """
import resource, sys
import numpy as np
from data_order import MegatronStore, StoreError

limit = 1 << 30
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    bytearray(limit)
    sys.exit("the memory limit does not hold")
except MemoryError:
    pass

folder, rng = sys.argv[1], np.random.default_rng(20)
whole = MegatronStore.write(f"{folder}/whole", [[1, 2, 3], [], [4, 5], [6] * 40])
index = whole.prefix.with_suffix(".idx").read_bytes()
tokens = whole.prefix.with_suffix(".bin").read_bytes()
extreme = [0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1]
refused = opened = 0
files = {name: open(f"{folder}/{name}", "wb", buffering=0) for name in ("bad.idx", "bad.bin")}

def overwrite(name, data):  # in place: a file system may flush a file that is emptied first
    files[name].seek(0)
    files[name].write(data)
    files[name].truncate()

for turn in range(10_000):
    bad = bytearray(index)
    for _ in range(rng.integers(1, 4)):
        kind = rng.integers(5)
        if kind == 0:
            bad[rng.integers(34)] = rng.integers(256)
        elif kind == 1:
            bad[rng.integers(len(bad))] ^= 1 << rng.integers(8)
        elif kind == 2:
            at = int(rng.choice([9, 18, 26, 34, 38, 50, 58, 66, 74, 82, 90]))
            bad[at : at + 8] = extreme[rng.integers(len(extreme))].to_bytes(8, "little")
        elif kind == 3:
            bad = bad[: rng.integers(34, len(bad) + 1)]
        else:
            bad += bytes(int(rng.integers(1, 40)))
    overwrite("bad.idx", bad)
    overwrite("bad.bin", tokens[: len(tokens) - int(turn % 50 == 0)])
    try:
        store = MegatronStore(f"{folder}/bad")
        assert sum(len(s) for s in store) * store.dtype.itemsize == len(tokens)
        opened += 1
    except StoreError as error:
        assert "bad.idx: " in str(error) and chr(10) not in str(error)
        refused += 1
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(opened, refused, round(peak))
"""


def test_ten_thousand_mutated_headers_give_our_error_or_a_sound_store(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FUZZ, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
    )

    assert done.stderr == ""
    opened, refused, _ = (int(number) for number in done.stdout.split())
    assert opened + refused == 10_000
    assert refused > 9_000
