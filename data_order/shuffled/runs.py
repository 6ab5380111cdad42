"""Published runs whose order is a permutation over slices of token files, as data.

What a run read follows from the list of its token files, their sizes, a seed and the batch size.
The lists are here; the sizes are in no public file, so they are asked for once (a HEAD each) and
kept. Where the number of rows is known from the run itself, the sizes are checked against it.

Sources: `configs/official-0425` and `configs/official-1124` of allenai/OLMo at 59a53e3 (lists,
seeds, batch sizes, filter), its `olmo/train.py` (passes, steps), the csv files beside the
configurations (checkpoints); allenai/OLMo-core at fa6c501 for the 32B and OLMo-3.
"""

import gzip
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from data_order.errors import OrderError, StoreError, StoreNotFoundError
from data_order.hub.access import Hub
from data_order.order import TrainingOrder
from data_order.shuffled.passes import ShuffledOrder
from data_order.shuffled.rows import ShuffledRows
from data_order.shuffled.slices import Slices
from data_order.store.shards import ByteSource, LocalShards

__all__ = ["RUNS", "FileList", "OwnFiles", "ShuffledRun"]


@dataclass(frozen=True, slots=True)
class FileList:
    """Token files of a run, in the order of its configuration.

    Attributes
    ----------
    name : of the list, kept in this package.
    sha256 : of the paths, joined by newlines.
    address : what comes before each path on the net.
    """

    name: str
    sha256: str
    address: str = "http://olmo-data.org/"

    @property
    def paths(self) -> tuple[str, ...]:
        """Path of each file; some occur more than once."""
        packed = files("data_order.shuffled") / "lists" / f"{self.name}.txt.gz"
        text = gzip.decompress(packed.read_bytes())
        if not hashlib.sha256(text).hexdigest().startswith(self.sha256):
            raise StoreError(f"file list '{self.name}' is damaged; install the package again")
        return tuple(text.decode().split("\n"))


@dataclass(frozen=True, slots=True)
class OwnFiles:
    """Token files of a run of one's own: paths below a folder; they are on no net."""

    paths: tuple[str, ...]
    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShuffledRun(TrainingOrder):
    """One published run.

    Attributes
    ----------
    name, models : what this package calls it; repository of the model.
    files : its token files.
    seed : of the permutations.
    row_tokens, token_bytes : L, of which L - 1 are targets; bytes of a token.
    first_pass : number of the first pass: 0 in OLMo's own trainer, 1 in OLMo-core.
    together : rows that stay together.
    filtered : whether rows with long repetitions were masked.
    rows_between : fewest and most rows that the files can hold, where the run tells; else 0, 0.
    idle_from : first step at rate 0; 0 where there is none.
    known_steps : steps of which it is known what they read; 0 for all.
    single_pass : whether no row is read twice, files that are listed twice aside.
    note : what one should know.
    """

    name: str
    models: str
    files: FileList | OwnFiles
    seed: int
    row_tokens: int = 4096
    token_bytes: int = 4
    first_pass: int = 0
    together: int = 1
    filtered: bool = True
    rows_between: tuple[int, int] = (0, 0)
    idle_from: int = 0
    known_steps: int = 0
    single_pass: bool = True
    note: str = ""

    @property
    def training(self) -> TrainingOrder:
        """Batch size and steps alone."""
        return self.until(self.steps)

    def slices(self, sizes: Sequence[int]) -> Slices:
        """Rows of the files, given the bytes of each.

        Raises
        ------
        OrderError
            The files hold another number of rows than the run read.
        """
        slices = Slices.of(
            list(zip(self.files.paths, sizes, strict=True)),
            self.row_tokens,
            self.token_bytes,
            self.together,
        )
        fewest, most = self.rows_between
        if most and not fewest <= slices.rows <= most:
            raise OrderError(
                f"{self.name}: its token files hold {slices.rows:,} rows, the run read {fewest:,} "
                f"to {most:,} in a pass; files are missing, cut or others"
            )
        return slices

    def order(self, rows: int, steps: int = 0) -> ShuffledOrder:
        """Which rows each step read, given how many the files hold; its first `steps` alone."""
        last = steps or self.known_steps or self.steps
        return ShuffledOrder.run(
            rows,
            self.seed,
            self.batch_size,
            last,
            changes=self.until(last).changes,
            first_pass=self.first_pass,
            together=self.together,
        )

    def open(self, where: str | Path, hub: Hub | None = None, *, steps: int = 0) -> ShuffledRows:
        """Rows of the run in the order of reading.

        Parameters
        ----------
        where : folder that holds the token files under their paths, or "hub" for the net: sizes
            are asked for once, and only the bytes of the rows that are asked for are read.
        steps : of these first steps alone, so that what they did not read counts as never read; 0
            for all.

        Raises
        ------
        StoreNotFoundError
            A file is missing in the folder.
        RemoteError
            The net does not give a size.
        OrderError
            The files are not those of the run.
        """
        paths = self.files.paths
        source: ByteSource
        sizes: Sequence[int]
        if where == "hub" and not self.files.address:
            raise StoreNotFoundError(f"the token files of {self.name} are on no net; name a folder")
        if where == "hub":
            from data_order.shuffled.net import open_files

            addresses = [self.files.address + path for path in paths]
            sizes, source = open_files(self.name, addresses, hub or Hub())
        else:
            local = [Path(where) / path for path in paths]
            if missing := [path for path in dict.fromkeys(local) if not path.is_file()]:
                raise StoreNotFoundError(
                    f"{missing[0]}: no such file; {len(missing):,} of the {len(set(local)):,} "
                    f"token files of {self.name} are missing in '{where}'"
                )
            sizes = [path.stat().st_size for path in local]
            source = LocalShards(local, f"{len(local)} token files in '{where}'")
        slices = self.slices(sizes)
        idle = range(self.idle_from, self.steps + 1) if self.idle_from else ()
        return ShuffledRows(
            self.order(slices.rows, steps), slices, source, self.filtered, frozenset(idle)
        )


_STAGE_1 = FileList("olmo2_stage1", "f8a78a70c1f7")
_STAGE_2_7B = FileList("olmo2_stage2_7b", "5164c43454b1")
_STAGE_2_13B = FileList("olmo2_stage2_13b", "97379cf9500c")
_STAGE_2_300B = FileList("olmo2_stage2_300b", "539881dec266")

_OLMO_3_7B = FileList("olmo3_7b", "32f595cb8f24", "https://olmo-data.org/")
_OLMO_3_32B = FileList("olmo3_32b", "ea3ce37af91a", "https://olmo-data.org/")

_OLMO_3_ANNEALED = (
    FileList("olmo3_stage2_7b", "c08e690a5055", "https://olmo-data.org/"),
    FileList("olmo3_stage2_32b_1", "f58fcd625dc0", "https://olmo-data.org/"),
    FileList("olmo3_stage2_32b_2", "6eccad490b98", "https://olmo-data.org/"),
)
"""`OLMo-midtraining-mix-0625-100B.txt`, and `-0925-ingredient{1,2}-100B.txt`, of OLMo-core."""

_SKIPPED = "which steps were skipped (SkipStepAdamW) is in the training logs only"

_STAGE_1_ROWS = (950_933_504, 950_934_527)
"""The 7B ended its one pass at step 928,646 (`max_duration: 1ep`), the 13B saved step 464,323 at
the end of its first: both hold for these numbers of rows alone."""


def _stage_1(size: str, models: str, batch_size: int, steps: int, **facts: Any) -> ShuffledRun:
    """Stage 1 of OLMo-2: `OLMo2-*-stage1.yaml`, the same files and seed for three sizes."""
    return ShuffledRun(
        name=f"olmo2-{size}",
        models=models,
        files=_STAGE_1,
        seed=6198,
        batch_size=batch_size,
        steps=steps,
        rows_between=_STAGE_1_ROWS,
        **facts,
    )


def _olmo_3(size: str, listed: FileList, batch_size: int, steps: int, **facts: Any) -> ShuffledRun:
    """Pre-training of OLMo-3, of allenai/OLMo-core at fa6c501.

    The runs themselves read files of other directories, equal in name and order.
    """
    usual = {"models": "allenai/Olmo-3-1025-7B", "filtered": False}
    return ShuffledRun(
        name=f"olmo3-{size}",
        files=listed,
        seed=34521,
        batch_size=batch_size,
        steps=steps,
        row_tokens=8192,
        first_pass=1,
        note=_SKIPPED,
        **{**usual, **facts},
    )


def _stage_2(
    model: str,
    models: str,
    start: int,
    batch_size: int,
    ingredients: Sequence[tuple[FileList, int, int]],
    **facts: Any,
) -> list[ShuffledRun]:
    """Stage 2: a run for each ingredient, from one checkpoint.

    Parameters
    ----------
    start : step of stage 1 from which it starts.
    ingredients : files, seed and steps of ingredients 1, 2, ...

    Source: `OLMo2-*-stage2-*.yaml`; `restore_dataloader: false` begins at pass 0, position 0. A
    duration in tokens makes ten steps more there, all at rate 0. For the 32B, OLMo-core's
    `src/scripts/official/OLMo2/README.md` and `src/scripts/train/OLMo2/anneal`; for OLMo-3 its
    `src/scripts/official/OLMo3/OLMo-3-*-midtrain*.py`, which do not load the trainer's state.
    """
    core = bool(facts.get("first_pass"))
    idle = 1 if core else 11
    skipped = f"; {_SKIPPED}" if core else ""
    return [
        ShuffledRun(
            name=f"{model}-stage2-{number}",
            models=models,
            files=files,
            seed=seed,
            batch_size=batch_size,
            steps=steps,
            idle_from=steps + 1 - idle,
            single_pass=False,
            note=(
                f"ingredient {number}, seed {seed}, from step {start:,} of stage 1; steps count "
                f"from there; rate 0 in the last {idle}{skipped}"
            ),
            **facts,
        )
        for number, (files, seed, steps) in enumerate(ingredients, 1)
    ]


_CORE_8192 = {"row_tokens": 8192, "first_pass": 1}
_1B, _7B = "allenai/OLMo-2-0425-1B", "allenai/OLMo-2-1124-7B"
_13B, _32B = "allenai/OLMo-2-1124-13B", "allenai/OLMo-2-0325-32B"

_LIST = [
    _stage_1(
        "1b",
        _1B,
        512,
        1_907_359,
        known_steps=1_857_292,
        single_pass=False,
        note=(
            "what the second pass, from step 1,857,293 or the next one on, began with depends on "
            "where its process had been restarted, which is not published: its steps are not known"
        ),
    ),
    _stage_1("7b", _7B, 1024, 928_646),
    _stage_1(
        "13b",
        _13B,
        2048,
        596_057,
        single_pass=False,
        note="a second pass from step 464,324 on, of 28 % of the rows",
    ),
    ShuffledRun(
        name="olmo2-32b",
        models=_32B,
        # `OLMoE-mix-0824.txt` of allenai/OLMo-core at fa6c501: the same entries in the same order
        files=_STAGE_1,
        seed=34521,
        batch_size=2048,
        steps=721_901,
        first_pass=1,
        together=2,
        filtered=False,
        # a file's last odd row is left out, and there are 1,122 files
        rows_between=(_STAGE_1_ROWS[0] - 1122, _STAGE_1_ROWS[1]),
        single_pass=False,
        note=(f"a second pass from step 464,323 or the next one on; {_SKIPPED}"),
    ),
    # `OLMo-mix-0625-official.txt`, `OLMo-3-1025-7B-pretrain-{1,2}.py`: one pass of whole batches
    _olmo_3("7b", _OLMO_3_7B, 512, 1_413_814, rows_between=(1_413_814 * 512, 1_413_815 * 512 - 1)),
    # `OLMo-mix-0925-official.txt`, `OLMo-3-1025-32B-pretrain.py`: one pass, whose length the sizes
    # tell; its csv goes to step 679,000
    _olmo_3(
        "32b",
        _OLMO_3_32B,
        1024,
        679_000,
        models="allenai/Olmo-3-1125-32B",
        filtered=True,
        rows_between=(679_000 * 1024, 2**32 - 2),
    ),
    *_stage_2(
        "olmo2-1b", _1B, 1_907_359, 512, [(_STAGE_2_7B, seed, 23_852) for seed in (42069, 666, 42)]
    ),
    *_stage_2(
        "olmo2-7b", _7B, 928_646, 1024, [(_STAGE_2_7B, seed, 11_931) for seed in (42, 42069, 666)]
    ),
    *_stage_2(
        "olmo2-13b",
        _13B,
        596_057,
        2048,
        [
            *((_STAGE_2_13B, seed, 11_931) for seed in (1110, 2662, 6209)),
            (_STAGE_2_300B, 2662, 35_773),
        ],
    ),
    *_stage_2(
        "olmo2-32b",
        _32B,
        721_901,
        2048,
        [(_STAGE_2_13B, 1110, 11_921), (_STAGE_2_13B, 2662, 11_921), (_STAGE_2_300B, 2662, 35_763)],
        first_pass=1,
        filtered=False,
    ),
    # 100e9 tokens: 47,684 steps of 256 rows, 23,842 of 512
    *_stage_2(
        "olmo3-7b",
        "allenai/Olmo-3-1025-7B",
        1_413_814,
        256,
        [(_OLMO_3_ANNEALED[0], 1337, 47_684)],
        **{**_CORE_8192, "filtered": False},
    ),
    *_stage_2(
        "olmo3-32b",
        "allenai/Olmo-3-1125-32B",
        656_000,
        512,
        [(listed, 42069, 23_842) for listed in _OLMO_3_ANNEALED[1:]],
        **_CORE_8192,
    ),
]

RUNS: dict[str, ShuffledRun] = {run.name: run for run in _LIST}
"""Every published run, by name."""
