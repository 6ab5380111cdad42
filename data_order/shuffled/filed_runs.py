"""Published runs over files of rows, as data: Amber, file by file, and Pico, in the order of rows.

Sources: LLM360/amber-train at 64bc595 (`main.py`: files, rows, seed; the batch of 2,240 rows is
that of 56 nodes of four devices with ten rows each, as `run.sh` and the paper have it), and
pico-lm/pico-train at f0bfdf4 (`initialization.py`, `configs`: shards, batch, steps; a restart goes
on at the shard and batch where it stopped).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_order.errors import StoreError
from data_order.hub.access import Hub, is_address
from data_order.order import TrainingOrder
from data_order.sample import RowSource
from data_order.shuffled.by_file import FileOrder
from data_order.store.row_files import JsonLines, ParquetShards
from data_order.store.selection import selected

__all__ = ["FILED_RUNS", "FiledRun", "PositionedRows"]


@dataclass(frozen=True, slots=True, eq=False)
class PositionedRows:
    """Rows by their place in the order of reading.

    Attributes
    ----------
    order : which row of the files each position is; None where only the file is known, of which
        the first rows then stand for those that were read.
    """

    source: RowSource
    order: FileOrder
    known: bool

    def __len__(self) -> int:
        return self.order.rows if self.known else self.order.read_rows

    def __getitem__(self, key: Any, /) -> npt.NDArray[np.integer[Any]]:
        """Tokens of the rows at some positions: (n, L), or (L,) for one of them."""
        positions = selected(key, len(self), "position")
        flat = np.atleast_1d(positions)
        if self.known:
            rows = self.order.rows_at(flat)
        else:
            file, place = np.divmod(flat, self.order.file_steps * self.order.batch_size)
            rows = file * self.order.file_rows + place
        found: npt.NDArray[np.integer[Any]] = self.source[rows]
        return found if np.ndim(positions) else found[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class FiledRun(TrainingOrder):
    """One published run over files of rows.

    Attributes
    ----------
    name : what this package calls it.
    dataset : its rows on the hub.
    names : what a file of it may be called, with `{file}` for its number.
    files, file_rows : number of files, rows of each.
    row_tokens : tokens of a row, the last target included.
    lines : whether a file holds lines of JSON, each file shuffled by itself; else parquet, read in
        the order of its rows.
    seed : of the permutations of lines.
    note : what one should know.
    """

    name: str
    dataset: str
    names: tuple[str, ...]
    files: int
    file_rows: int
    row_tokens: int = 2049
    lines: bool = False
    seed: int = 11111
    note: str = ""

    @property
    def batch_known(self) -> bool:
        """Whether the step of a row follows from what is published, and not only its file."""
        return not self.lines

    def by_file(self, starts: tuple[int, ...] = (0,)) -> FileOrder:
        """Give the order within files, for processes that began at some of them."""
        return FileOrder(self.files, self.file_rows, self.batch_size, self.seed, starts)

    def open(
        self,
        where: str | Path,
        hub: Hub | None = None,
        *,
        starts: tuple[int, ...] | None = None,
        vocabulary: int | None = None,
    ) -> RowSource:
        """Open its rows in the order of reading.

        Parameters
        ----------
        where : folder of the files, of which only those with wanted rows need to be there; or
            "hub" for those that can be read there.
        starts : files at which processes of the run began, where that is known. Else a position
            says which file a row is in, and so which checkpoint has read it, but not its batch.

        Raises
        ------
        StoreError
            The files cannot be read from the hub row by row.
        """
        place = self.dataset if where == "hub" else str(where)
        facts: dict[str, Any] = {
            "where": place,
            "names": self.names,
            "files": self.files,
            "file_rows": self.file_rows,
            "row_tokens": self.row_tokens,
            "vocabulary": vocabulary,
        }
        if not self.lines:
            return ParquetShards(hub=hub, **facts)
        if is_address(place):
            raise StoreError(
                f"rows of {self.name} are lines of JSON in files of gigabytes, which cannot be "
                f"read by range: download the files of {self.dataset} that are sampled into a "
                "folder and name that"
            )
        return PositionedRows(JsonLines(**facts), self.by_file(starts or (0,)), starts is not None)


_LIST = [
    FiledRun(
        name="amber",
        dataset="hf://datasets/LLM360/AmberDatasets",
        # `main.py` reads train_{chunk}.jsonl; the data set's card has them in a folder, with zeros
        names=("train_{file:03d}.jsonl", "train/train_{file:03d}.jsonl", "train_{file}.jsonl"),
        files=360,
        file_rows=1_706_976,
        lines=True,
        batch_size=2240,
        steps=360 * 762,
        note=(
            "cohort = file: which step of its file read a row depends on the file at which its "
            "process began, which is not published; 96 rows of each file were never read"
        ),
    ),
    FiledRun(
        name="pico",
        dataset="hf://datasets/pico-lm/pretokenized-dolma",
        names=("data/train-{file:05d}-of-10000.parquet", "train-{file:05d}-of-10000.parquet"),
        files=10_000,
        file_rows=20_480,
        batch_size=1024,
        steps=200_000,
        note="row r is read by step r // 1024 + 1, after restarts too",
    ),
]

FILED_RUNS: dict[str, FiledRun] = {run.name: run for run in _LIST}
"""Every published run over files of rows, by name."""
