"""Rows whose text is read more than once, and what an estimate does with them.

In: the rows table, whose optional column `second_step` names the first step after a row's own that
reads its text again (null for none), and whose optional `earlier_exposure` is the share of its
tokens that had been read before. Out: the step from which a row's outcomes no longer count, and a
note for each kind of row. An effect at a checkpoint behind the second reading would be that of two
readings; a never-treated row whose text is read after all stops to be a control there.

    cut    cells from the second reading on are left out (default)
    keep   all cells count
    drop   rows read again are left out, and rows whose text had been read before
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool, Int

from pythia_profile.did.arguments import counted
from pythia_profile.did.settings import SecondReading
from pythia_profile.errors import TableError
from pythia_profile.tables import NEVER, ROWS

__all__ = ["EARLIER", "Readings", "readings_of"]

EARLIER = 0.5
"""A row of which this share of the tokens had been read before counts as read before."""


@dataclass(frozen=True, slots=True, eq=False)
class Readings:
    """What is known of the readings of rows, line by line.

    Attributes
    ----------
    second : (U,) step that reads the text again; NEVER for none, or none that is known.
    earlier : (U,) whether it had been read before the row's own step.
    """

    second: Int[np.ndarray, " U"]
    earlier: Bool[np.ndarray, " U"]

    def dropped(self, rule: SecondReading) -> Bool[np.ndarray, " U"]:
        """Rows that the rule leaves out as a whole."""
        if rule != "drop":
            return np.zeros(len(self.second), bool)
        twice: Bool[np.ndarray, " U"] = (self.second != NEVER) | self.earlier
        return twice

    def cut(self, rule: SecondReading) -> Int[np.ndarray, " U"] | None:
        """Step from which each row's outcomes no longer count; None where all count."""
        return self.second if rule == "cut" and (self.second != NEVER).any() else None

    def notes(self, rule: SecondReading, last: int) -> tuple[str, ...]:
        """Sentences on rows read more than once; `last` is the last checkpoint."""
        rows, found = len(self.second), []
        if again := int((self.second <= last).sum()):
            how = {"cut": "cells from then on are left out", "keep": "all their cells count"}
            found.append(
                f"{again} of {rows} rows are read a second time by checkpoint {last}: "
                f"{how.get(rule, 'these rows are left out')} (second_reading = '{rule}')"
            )
        if earlier := int(self.earlier.sum()):
            what = "these rows are left out" if rule == "drop" else "theirs is one more reading"
            found.append(
                f"{earlier} of {rows} rows hold text that had been read before (earlier_exposure "
                f"of {EARLIER:g} or more): {what} (second_reading = '{rule}')"
            )
        return tuple(found)


def readings_of(table: pl.DataFrame) -> Readings:
    """Look up in the rows table what is known of second and earlier readings.

    Raises
    ------
    TableError
        A second step is no number, or not after the row's own.
    """
    second = np.full(len(table), NEVER, np.int64)
    if "second_step" in table.columns:
        given = table["second_step"]
        if not (given.dtype.is_integer() or given.dtype == pl.Null):
            raise TableError(
                f"table '{ROWS.name}': 'second_step' is {given.dtype}, expected whole numbers"
            )
        second = given.cast(pl.Int64).fill_null(NEVER).to_numpy()
        own = table["treatment_step"].fill_null(-1).to_numpy()
        if (wrong := np.flatnonzero(second <= own)).size:
            at = wrong[0]
            raise TableError(
                f"table '{ROWS.name}': {counted(wrong.size, 'row has', 'rows have')} a second_step "
                f"that is not after treatment_step, first row {table['row_id'][int(at)]} "
                f"({second[at]}, {own[at]}); expected null or a later step"
            )
    earlier = np.zeros(len(table), bool)
    if "earlier_exposure" in table.columns and table["earlier_exposure"].dtype.is_numeric():
        earlier = (table["earlier_exposure"].fill_null(0.0) >= EARLIER).to_numpy()
    return Readings(second, earlier)
