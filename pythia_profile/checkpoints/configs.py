"""Configurations of published checkpoints, read before any weight: a few hundred bytes each.

Checkpoints with the same config.json (by its hash in the listing) share one read, and what was read
stays in the cache under that hash.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from data_order.errors import RemoteError
from data_order.hub.access import Hub, HubFile
from pythia_profile.checkpoints.architecture import config_fault
from pythia_profile.checkpoints.fetch import fetch_file
from pythia_profile.checkpoints.listing import CONFIG, Listing
from pythia_profile.checkpoints.small_files import read_json_file
from pythia_profile.checkpoints.verdicts import ODD_CONFIG, UNSUPPORTED, Fault
from pythia_profile.errors import CheckpointError
from pythia_profile.suites.model import Suite

__all__ = ["config_faults"]

log = logging.getLogger(__name__)

_SHAPE = ("num_hidden_layers", "hidden_size", "num_attention_heads")
_FORWARD = (
    *_SHAPE,
    "model_type",
    "vocab_size",
    "intermediate_size",
    "num_key_value_heads",
    "hidden_act",
    "layer_norm_eps",
    "rms_norm_eps",
    "rope_theta",
    "rotary_emb_base",
    "rotary_pct",
    "tie_word_embeddings",
    "use_parallel_residual",
)
"""Settings of a configuration that change a forward pass."""


def config_faults(
    suite: Suite, size: str, listing: Listing, steps: Sequence[int], hub: Hub
) -> tuple[dict[int, list[Fault]], bool]:
    """Find checkpoints that cannot be loaded, or are of another model, by their config.json.

    Where a configuration cannot be read now, nothing is found; loading reads it again.

    Parameters
    ----------
    steps : checkpoints to judge.

    Returns
    -------
    The faults of each checkpoint that has some, and whether the hub gave all that was asked for.
    """
    holders: dict[str, list[int]] = defaultdict(list)
    files: dict[str, tuple[int, HubFile]] = {}
    for step in steps:
        revision = listing.steps.get(step)
        if revision is None or revision.checkpoint is None or revision.unsafe:
            continue
        for file in revision.checkpoint.others:
            if file.name == CONFIG:
                key = file.sha256 or file.blob or f"step{step}"
                holders[key].append(step)
                files.setdefault(key, (step, file))
    found: dict[int, list[Fault]] = defaultdict(list)
    read: dict[str, Any] = {}
    answered = True
    for key, (step, file) in files.items():
        try:
            read[key] = _config(listing, step, file, hub)
        except RemoteError as error:
            log.info("%s %s: its config.json is not judged (%s)", suite.name, size, error)
            answered = False
            continue
        except CheckpointError as error:
            read[key] = str(error)
        fault = config_fault(read[key]) if isinstance(read[key], dict) else str(read[key])
        for holder in holders[key] if fault else ():
            found[holder].append(Fault(UNSUPPORTED, f"config.json: {fault}"))
    sound = {key: one for key, one in read.items() if not found.get(holders[key][0])}
    for name in _FORWARD:
        values = {key: one[name] for key, one in sound.items() if name in one}
        expected = _expected(suite, size, name, values, holders)
        for key, value in values.items():
            if value != expected:
                reason = f"config.json: {name} is {value!r}, expected {expected!r}"
                for holder in holders[key]:
                    found[holder].append(Fault(ODD_CONFIG, reason))
    return found, answered


def _expected(
    suite: Suite, size: str, name: str, values: dict[str, Any], holders: dict[str, list[int]]
) -> Any:
    """Value by the suite, where it states one; else that of most checkpoints."""
    stated = dict(zip(_SHAPE, suite.size(size).shape, strict=False))
    if name in stated:
        return stated[name]
    counts: Counter[str] = Counter()
    for key, value in values.items():
        counts[repr(value)] += len(holders[key])
    usual = counts.most_common(1)[0][0] if counts else ""
    return next((value for value in values.values() if repr(value) == usual), None)


def _config(listing: Listing, step: int, file: HubFile, hub: Hub) -> Any:
    revision = listing.steps[step]
    if not revision.commit:  # a folder of this machine
        return read_json_file(Path(listing.repository) / revision.name / CONFIG)
    with TemporaryDirectory(prefix="pythia-profile-") as own:
        folder = hub.kept("configs", file.sha256 or file.blob) or Path(own)
        fetch_file(listing.repository, revision.commit, file, folder, hub)
        return read_json_file(folder / CONFIG)
