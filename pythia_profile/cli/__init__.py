"""The command line: one verb a stage; each reads tables, calls one function, writes one table.

Exit codes: 0 ok, 1 failed, 2 usage or not found, 3 finished with failed or quarantined units,
4 refused beforehand, 130 and 143 interrupted and resumable. Results go to stdout, progress to
stderr. Everything heavy is imported inside the verbs, so that `--help` answers at once.
"""

import sys

from pythia_profile.cli import (
    change_verbs,
    cluster_verbs,
    experiment_verbs,
    import_verbs,
    lab_verbs,
    order_rows,
    planted_verb,
    power_verb,
    rows_verb,
    score_verb,
    stage_verbs,
    study_verbs,
    suite_verbs,
    upkeep_verbs,
)
from pythia_profile.cli.app import app, end_on_sigterm, run

VERBS = (
    *(study_verbs, change_verbs, stage_verbs, score_verb, order_rows, power_verb, rows_verb),
    suite_verbs,
    planted_verb,
    experiment_verbs,
    import_verbs,
    cluster_verbs,
    lab_verbs,
    upkeep_verbs,
)
"""Modules that have put their verbs into `app`."""

__all__ = ["VERBS", "app", "main"]


def main() -> None:
    """Run the command line and exit with its code."""
    end_on_sigterm()
    sys.exit(run(app, sys.argv[1:]))
