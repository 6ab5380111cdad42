"""A store of rows on a stand-in for the hub, cut anywhere into shards, and how tests open it."""

import numpy as np

from data_order import TokenRows
from data_order.hub.access import Hub as HubSettings
from data_order.hub.retry import RetryPolicy

LENGTH = 2049
WIDTH = 2 * LENGTH
TOKENS = np.random.default_rng(8).integers(0, 50_000, (120, LENGTH), dtype=np.uint16)
CUTS = [0, 150_001, 150_003, 333_333, TOKENS.nbytes]
QUICK = RetryPolicy(first_wait=0.01, longest_wait=0.02, total_wait=3.0)
REPO = "owner/rows"


def shard_files(data: bytes = TOKENS.tobytes(), cuts=CUTS, stem="document"):
    last = len(cuts) - 2
    return {
        f"{stem}-{i:05d}-of-{last:05d}.bin": data[cuts[i] : cuts[i + 1]] for i in range(last + 1)
    }


def open_rows(hub, cache, where=REPO, **options):
    return TokenRows.open(where, hub=settings(hub, cache, **options))


def settings(hub, cache, **options):
    return HubSettings(endpoint=hub.endpoint, cache=cache, **{"retry": QUICK, **options})


def served(hub):
    return sum(request.sent for request in hub.requests("cdn"))
