"""Published training orders as data: repositories, shards, sizes, seeds, hashes.

`ORDERS` has one entry for every order in which a published Pythia model read its data. What no
source states outright is named in `assumed`; `neox.verify` settles it where it matters.

Sources: the training configurations and `utils/shard_hashes.txt` of EleutherAI/pythia, the file
listings of the repositories named here, and the model cards of PolyPythias (arXiv 2503.09543).
"""

from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib.resources import files

from data_order.errors import StoreNotFoundError
from data_order.order import TrainingOrder

PYTHIA = TrainingOrder(batch_size=1024, steps=143_000)
"""Every Pythia model but those of the first release."""

PYTHIA_V0 = TrainingOrder(batch_size=2048, steps=71_500)
"""160m, 410m and 1.4b of the first release (v0): the same rows, two of today's batches a step. The
hub names their checkpoints as if there were 143,000 steps, so label 2N has read what step N has."""

CHECKPOINTS = (0, *(2**power for power in range(10)), *range(1000, 143_001, 1000))
"""Labels of the saved checkpoints: 154 of them; the first release has those from 1000 on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shards:
    """Files of one store in a dataset repository on the hub.

    Attributes
    ----------
    repository : "owner/name".
    stem : what their names have in common.
    shards : how many `.bin` files.
    shard_bytes : bytes of each but the last.
    last_bytes : bytes of the last; None where not known.
    documents : sequences in the store.
    """

    repository: str
    stem: str
    shards: int
    shard_bytes: int
    last_bytes: int | None
    documents: int | None = None

    @property
    def names(self) -> list[str]:
        """Names of the shard files, in order."""
        last = self.shards - 1
        return [f"{self.stem}-{number:05d}-of-{last:05d}.bin" for number in range(self.shards)]

    @property
    def bytes(self) -> int | None:
        """Bytes of all shards together, where known."""
        if self.last_bytes is None:
            return None
        return (self.shards - 1) * self.shard_bytes + self.last_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedOrder(TrainingOrder):
    """One order in which published models read their data.

    Attributes
    ----------
    name : what this package calls it.
    models : repositories of the models, by size.
    seed : data seed of the run.
    samples : samples that the run asked for.
    sequence_length : L; a row has L + 1 tokens.
    checkpoints : labels of the saved checkpoints, ascending.
    label_steps : what one optimizer step adds to the label of a checkpoint.
    documents : the unshuffled documents; with them and the seed any row can be rebuilt.
    row_store : the rows in training order, where they are published.
    maps : start of the names of published index maps in EleutherAI/pile-preshuffled-seeds, a folder
        of `.npy` files for each data seed of the standard Pile; None where there are none.
    single_pass : whether no text is read twice within the run.
    assumed : names of the facts above that no source states outright.
    note : what one should know.
    """

    name: str
    models: str
    seed: int = 1234
    samples: int = 147_164_160
    sequence_length: int = 2048
    checkpoints: tuple[int, ...] = CHECKPOINTS
    label_steps: int = 1
    documents: Shards
    row_store: Shards | None = None
    maps: str | None = None
    single_pass: bool = True
    assumed: tuple[str, ...] = ()
    note: str = ""

    @property
    def training(self) -> TrainingOrder:
        """Batch size and steps alone."""
        return TrainingOrder(self.batch_size, self.steps)

    @property
    def row_tokens(self) -> int:
        """Tokens of a row."""
        return self.sequence_length + 1

    @property
    def saved_steps(self) -> list[int]:
        """Optimizer steps after which a checkpoint was saved, ascending."""
        return [label // self.label_steps for label in self.checkpoints]


def map_prefix(seed: int) -> str:
    """Start of the names of the published index maps of a data seed, folder included.

    Examples
    --------
    >>> map_prefix(1234)
    'seed0/pile_20B_tokenizer_text_document_train_0_indexmap_147164160ns_2048sl_1234s'
    """
    folder = "seed0" if seed == 1234 else f"seed{seed}"
    stem = "pile_20B_tokenizer_text_document_train_0_indexmap"
    return f"{folder}/{stem}_147164160ns_2048sl_{seed}s"


def published_order(name: str) -> PublishedOrder:
    """Look an order up by name.

    Raises
    ------
    StoreNotFoundError
        There is none of this name; the nearest is suggested.

    Examples
    --------
    >>> published_order("pythia-deduped").row_store.repository
    'EleutherAI/pile-deduped-pythia-preshuffled'
    """
    if name in ORDERS:
        return ORDERS[name]
    near = get_close_matches(name, ORDERS, n=1)
    guess = f" did you mean '{near[0]}'?" if near else ""
    raise StoreNotFoundError(f"no published order '{name}';{guess} known: {', '.join(ORDERS)}")


def published_hashes() -> dict[str, str]:
    """SHA-256 of published files, by name: the deduplicated documents, shard by shard and merged.

    The list is in the format of `sha256sum`; `sha256sum --check` reads it.
    """
    lines = (files("data_order") / "published.sha256").read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, name in (line.split() for line in lines)}


_STANDARD_DOCUMENTS = Shards(
    repository="EleutherAI/pythia_pile_idxmaps",
    stem="pile_20B_tokenizer_text_document",
    shards=133,
    shard_bytes=5_000_000_000,
    last_bytes=4_230_651_068,
)
_DEDUPED_DOCUMENTS = Shards(
    repository="EleutherAI/pythia_deduped_pile_idxmaps",
    stem="pile_0.87_deduped_text_document",
    shards=83,
    shard_bytes=5_000_000_000,
    last_bytes=None,
    documents=134_318_121,
)


def _rows(corpus: str) -> Shards:
    return Shards(
        repository=f"EleutherAI/pile-{corpus}-pythia-preshuffled",
        stem="document",
        shards=21,
        shard_bytes=30_000_000_000,
        last_bytes=78_336_000,
        documents=146_432_000,
    )


_STANDARD = PublishedOrder(
    name="pythia",
    models="EleutherAI/pythia-{size}",
    batch_size=PYTHIA.batch_size,
    steps=PYTHIA.steps,
    documents=_STANDARD_DOCUMENTS,
    row_store=_rows("standard"),
    maps=map_prefix(1234),
)
_DEDUPED = replace(
    _STANDARD,
    name="pythia-deduped",
    models="EleutherAI/pythia-{size}-deduped",
    documents=_DEDUPED_DOCUMENTS,
    row_store=_rows("deduped"),
    maps=None,
    single_pass=False,
    note=(
        "the text was laid out twice and shuffled together: half of the tokens are read twice, "
        "from the first steps on"
    ),
)


def _first_release(now: PublishedOrder) -> list[PublishedOrder]:
    """Orders of the models with four and with two million tokens a step."""
    old = replace(
        now,
        name=f"{now.name}-v0",
        models=f"{now.models}-v0",
        checkpoints=CHECKPOINTS[11:],
        assumed=("row_store",),
    )
    labels = "checkpoint label 2N has read what optimizer step N has"
    four = replace(
        old,
        batch_size=PYTHIA_V0.batch_size,
        steps=PYTHIA_V0.steps,
        label_steps=2,
        note=f"{now.note}; {labels}" if now.note else labels,
    )
    return [four, replace(old, name=f"{old.name}-2m")]


def _seeded(seed: int, name: str) -> PublishedOrder:
    """Order of a run with another data seed, whose rows are not published."""
    return replace(
        _STANDARD,
        name=f"pythia-{name}",
        models=f"EleutherAI/pythia-{{size}}-{name.removeprefix('160m-')}",
        seed=seed,
        row_store=None,
        maps=map_prefix(seed),
    )


_MOSTLY_ZEROS = "the published shuffle index is mostly zeros, rebuild it"

_LIST = [
    _STANDARD,
    _DEDUPED,
    *_first_release(_STANDARD),
    *_first_release(_DEDUPED),
    *[
        replace(_seeded(seed, f"seed{seed}"), note=_MOSTLY_ZEROS if seed == 2 else "")
        for seed in range(1, 10)
    ],
    *[
        replace(_seeded(seed, f"160m-data-seed{seed}"), assumed=("seed", "maps"))
        for seed in range(1, 4)
    ],
    *[
        replace(
            _STANDARD,
            name=f"pythia-160m-weight-seed{seed}",
            models=f"EleutherAI/pythia-{{size}}-weight-seed{seed}",
            assumed=("seed", "row_store", "maps"),
        )
        for seed in range(1, 4)
    ],
]

ORDERS: dict[str, PublishedOrder] = {order.name: order for order in _LIST}
"""Every published order, by name."""
