"""Worker process that scores units until none is left.

    python -m pythia_profile.scoring.worker PLAN ROWS SCORES DEVICE

PLAN is a JSON file with the settings and the units; DEVICE is `cpu`, or the GPU to use. Prints the
number of rows scored since the last line, and in words what it waits for. Several workers share a
plan: each takes what nobody is at.
"""

import logging
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import polars as pl
import torch
from tokenizers import Tokenizer

from pythia_profile.checkpoints.source import HubCheckpoint, source_from
from pythia_profile.checkpoints.supply import Supply
from pythia_profile.errors import ProfileError
from pythia_profile.redaction import RedactingFormatter, redact
from pythia_profile.scoring.engine import Work, score_units
from pythia_profile.scoring.units import ScoringSettings, Unit
from pythia_profile.store import read_json


def main(plan: Path, rows: Path, scores: Path) -> None:
    """Score the units of `plan` over `rows` into `scores`."""
    content = read_json(plan)
    works = [
        Work(Unit(**work["unit"]), source_from(work["checkpoint"]), tuple(work["shape"]))
        for work in content["works"]
    ]
    sources = [work.checkpoint for work in works]
    wanted = {source.commit for source in sources if isinstance(source, HubCheckpoint)}
    settings = ScoringSettings(**content["settings"])
    settings = replace(settings, outcomes=tuple(settings.outcomes))
    decode = Tokenizer.from_file(content["tokenizer"]).decode if content["tokenizer"] else None
    supply = Supply(plan.parent, content["slots"], wanted)
    table = pl.read_parquet(rows)
    score_units(works, table, scores, settings, _report, decode=decode, supply=supply)


def _report(rows: int) -> None:
    sys.stdout.write(f"{rows}\n")
    sys.stdout.flush()


def _say_what_it_waits_for() -> None:
    """Let what is logged of fetching and retrying reach the process that started this one."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(RedactingFormatter("%(message)s"))
    for name in ("data_order", "pythia_profile.checkpoints"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if sys.argv[4] != "cpu":
        torch.cuda.set_device(sys.argv[4])
    _say_what_it_waits_for()
    try:
        main(*(Path(argument) for argument in sys.argv[1:4]))
    except BrokenPipeError:
        sys.exit(1)
    except ProfileError as error:
        sys.stderr.write(redact(f"error: {error}\n"))
        sys.exit(error.exit_code)
