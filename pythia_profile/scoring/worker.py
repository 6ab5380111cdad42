"""Worker process that scores units until none is left.

    python -m pythia_profile.scoring.worker PLAN ROWS SCORES

PLAN is a JSON file with the settings and the units. Prints the number of rows scored since the
last line. Several workers may share a plan, on one machine or many: each takes what nobody is at.
"""

import signal
import sys
from dataclasses import replace
from pathlib import Path

import polars as pl
import torch
from tokenizers import Tokenizer

from pythia_profile.errors import ProfileError
from pythia_profile.scoring.engine import Work, score_units
from pythia_profile.scoring.units import ScoringSettings, Unit
from pythia_profile.store import read_json


def main(plan: Path, rows: Path, scores: Path) -> None:
    """Score the units of `plan` over `rows` into `scores`."""
    content = read_json(plan)
    works = [Work(Unit(**work["unit"]), Path(work["checkpoint"])) for work in content["works"]]
    settings = ScoringSettings(**content["settings"])
    settings = replace(settings, outcomes=tuple(settings.outcomes))
    decode = Tokenizer.from_file(content["tokenizer"]).decode if content["tokenizer"] else None
    score_units(works, pl.read_parquet(rows), scores, settings, _report, decode=decode)


def _report(rows: int) -> None:
    sys.stdout.write(f"{rows}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    try:
        main(*(Path(argument) for argument in sys.argv[1:4]))
    except BrokenPipeError:
        sys.exit(1)
    except ProfileError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
