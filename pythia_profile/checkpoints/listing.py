"""What a repository holds, from its listing alone: steps, branches, commits, files and hashes.

In: branches and file listings from the hub (or the files of a folder). Out: for each checkpoint the
branch, the commit, and which of its files are needed to load it. No weight byte is read.

The format is decided for each revision by itself: old ones have pickles only, some have both.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from data_order.hub.access import HubFile

__all__ = ["Checkpoint", "Listing", "Revision", "is_safe", "matters"]

LARGEST_JSON = 4 * 2**20
"""Bytes of the largest config or index that is read; the published ones have under 100 kB."""

CONFIG = "config.json"
_SINGLE = {"safetensors": "model.safetensors", "bin": "pytorch_model.bin"}
_SHARD = {
    "safetensors": re.compile(r"model-(\d{5})-of-(\d{5})\.safetensors"),
    "bin": re.compile(r"pytorch_model-(\d{5})-of-(\d{5})\.bin"),
}
_INDEX = {kind: f"{name}.index.json" for kind, name in _SINGLE.items()}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The files of one format of one revision.

    Attributes
    ----------
    kind : `safetensors` or `bin`.
    weights : files with tensors, in order of name.
    others : what is needed beside them: config, and the index of shards.
    lacking : names of files without which this format cannot be loaded.
    """

    kind: str
    weights: tuple[HubFile, ...]
    others: tuple[HubFile, ...]
    lacking: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[HubFile, ...]:
        """All files that are needed, small ones first."""
        return self.others + self.weights

    @property
    def size(self) -> int:
        """Bytes of all files that are needed."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True)
class Revision:
    """One branch at the commit to which it is pinned.

    Attributes
    ----------
    name, commit : of the branch.
    files : those that matter: weights of every format, indices, config.
    unsafe : names that would lead out of the folder; a revision with one is refused.
    foreign : what other program's checkpoint it is, in words; empty where it is none.
    """

    name: str
    commit: str
    files: tuple[HubFile, ...]
    unsafe: tuple[str, ...] = ()
    foreign: str = ""

    @classmethod
    def of(cls, name: str, commit: str, files: Iterable[HubFile]) -> "Revision":
        """Keep what matters of a listing."""
        known = tuple(files)
        return cls(
            name,
            commit,
            tuple(file for file in known if matters(file.name)),
            tuple(file.name for file in known if not is_safe(file.name)),
            next((_foreign(file.name) for file in known if _foreign(file.name)), ""),
        )

    @cached_property
    def formats(self) -> list[Checkpoint]:
        """Every format of which some files exist, the one to load first.

        Complete ones come before incomplete ones, safetensors before pickles, a single file before
        shards.
        """
        found = [
            found
            for kind in _SINGLE
            for found in (_single(kind, self.files), _sharded(kind, self.files))
            if found is not None
        ]
        return sorted(found, key=lambda checkpoint: bool(checkpoint.lacking))

    @property
    def checkpoint(self) -> Checkpoint | None:
        """What is loaded; None where weights are missing."""
        formats = self.formats
        return formats[0] if formats and not formats[0].lacking else None


@dataclass(frozen=True, slots=True)
class Listing:
    """What is known of one size of a suite.

    Attributes
    ----------
    repository : on the hub, or the folder.
    steps : optimizer step -> revision, of the checkpoints that exist.
    known : every step that has a branch, whether or not its files are listed.
    main : the main branch, where it is listed.
    """

    repository: str
    steps: Mapping[int, Revision]
    known: tuple[int, ...]
    main: Revision | None = None


def is_safe(name: str) -> bool:
    """Whether a name from the hub stays in the folder that it is written to.

    Examples
    --------
    >>> [is_safe(name) for name in ("model.safetensors", "../x", "/etc/x", "C:x")]
    [True, False, False, False]
    """
    parts = name.split("/")
    return not (
        any(part in ("", ".", "..") for part in parts) or re.search(r'[\x00-\x1f\\:*?"<>|]', name)
    )


def matters(name: str) -> bool:
    """Whether a file is needed to load a checkpoint: weights, index of shards, config."""
    return name in (CONFIG, *_SINGLE.values(), *_INDEX.values()) or any(
        shard.fullmatch(name) for shard in _SHARD.values()
    )


def _single(kind: str, files: tuple[HubFile, ...]) -> Checkpoint | None:
    weights = tuple(file for file in files if file.name == _SINGLE[kind])
    config = tuple(file for file in files if file.name == CONFIG)
    return Checkpoint(kind, weights, config) if weights else None


def _sharded(kind: str, files: tuple[HubFile, ...]) -> Checkpoint | None:
    """Shards of one set; of several sets the one with the most of its shards."""
    sets: dict[int, dict[int, HubFile]] = {}
    for file in files:
        match = _SHARD[kind].fullmatch(file.name)
        if match:
            sets.setdefault(int(match[2]), {})[int(match[1])] = file
    if not sets:
        return None
    count, there = max(sets.items(), key=lambda item: (len(item[1]) / max(item[0], 1), item[0]))
    name = re.sub(r"\.(\w+)$", f"-{{:05d}}-of-{count:05d}.\\1", _SINGLE[kind])
    lacking = [name.format(number) for number in range(1, count + 1) if number not in there]
    others = tuple(file for file in files if file.name in (CONFIG, _INDEX[kind]))
    weights = tuple(there[number] for number in sorted(there) if 1 <= number <= count)
    return Checkpoint(kind, weights, others, tuple(lacking))


_OTHERS = {
    r"(mp_rank_\d+_model|layer_\d+-model_\d+-model|.*zero_pp_rank_\d+_.*optim)_states\.pt": (
        "DeepSpeed files, as GPT-NeoX saves them; convert them with its "
        "tools/ckpts/convert_neox_to_hf.py"
    ),
    r"model_optim_rng\.pt": (
        "files of Megatron-LM; convert them to Hugging Face folders with its "
        "tools/checkpoint/convert.py"
    ),
    r".*\.distcp": "shards of torch.distributed; save the model as a Hugging Face folder",
}


def _foreign(name: str) -> str:
    """Name the program that wrote such a file, and say what to do; empty where none is known."""
    last = name.rpartition("/")[2]
    return next(
        (f"no weight files, but {o}" for p, o in _OTHERS.items() if re.fullmatch(p, last)), ""
    )
