"""Tables of what profiles say: learning rate, large from small, seeds, exposure, decay, bits."""

import polars as pl

from pythia_profile.tables.contract import RUN, Table

_RUN_COLUMNS = {"suite": pl.String(), "size": pl.String(), "seed": pl.Int64()}
_INTERVAL = {"lower": pl.Float64(), "upper": pl.Float64()}

FINDINGS = Table(
    "findings",
    pl.Schema(
        {
            **_RUN_COLUMNS,
            "outcome": pl.String(),
            "finding": pl.String(),
            "kind": pl.String(),
            "quantity": pl.String(),
            "subset": pl.String(),
            "estimate": pl.Float64(),
            "se": pl.Float64(),
            **_INTERVAL,
            "p_value": pl.Float64(),
            "n": pl.Int64(),
            "verdict": pl.String(),
        }
    ),
    (*RUN, "outcome", "finding", "kind", "quantity", "subset"),
    frozenset({"seed", "estimate", "se", "lower", "upper", "p_value"}),
)
"""Numbers behind the sentences, one line each, with pointwise intervals. `size` is all where sizes
are taken together, `seed` null where training seeds are. `finding` and its `quantity`:

- learning_rate: slope_mean_rate, slope_integrated_rate (outcome per unit of the learning rate, and
  of its sum over a cohort's steps), slope_peak (outcome from rate 0 to the size's peak), spread
  (standard deviation of the effects about the line, noise taken off); claim (one-sided: high rate,
  high instantaneous and low residual). `subset` is all or after_warmup; n counts cohorts.
- seeds: mean (over seeds), between_sd, within_sd, share (of the variance that is between seeds), of
  the mean over cohorts (`subset` mean) or of cohort by cohort (`subset` profile); outlier (a seed,
  named by `subset`, minus the mean of the others). n counts seeds.
- exposure: effect (of the rows in `subset`), difference (of it to the first subset), second (effect
  of the second exposure), first_only (the first, from rows whose second has not come), first_naive
  (the first, from all rows), dose (outcome per doubling of the copies). n counts rows.

`kind` is instantaneous, persistent or residual. `verdict` says the finding in a word: supported,
contradicted, undecided, outlier, and so on; empty where there is nothing to decide."""

PREDICTION = Table(
    "prediction",
    pl.Schema(
        {
            **_RUN_COLUMNS,
            "outcome": pl.String(),
            "kind": pl.String(),
            "cohort": pl.Int64(),
            "checkpoint": pl.Int64(),
            "fold": pl.Int64(),
            "method": pl.String(),
            "sources": pl.String(),
            "predicted": pl.Float64(),
            **_INTERVAL,
            "observed": pl.Float64(),
            "observed_se": pl.Float64(),
            "covered": pl.Boolean(),
        }
    ),
    (*RUN, "outcome", "kind", "cohort", "checkpoint", "fold"),
    frozenset({"cohort", "checkpoint", "fold", "observed", "observed_se", "covered"}),
)
"""Effects of a `size` predicted from smaller ones (`sources`, smallest first), beside those that
were observed. `kind` is cell (of a `cohort` at a `checkpoint`), or instantaneous, persistent,
residual (of a `cohort`; null = mean over cohorts). Predicted from one half of the rows without the
cohort's own effects in the predicted size, observed on the other half: `fold` (0, 1) says which. It
is null where the size was never scored: nothing is observed there, and the table holds no line of
the prediction's own check. `lower` and `upper` bound the true effect; `covered` says whether they,
widened by the noise of what was observed, hold it."""

PREDICTION_SKILL = Table(
    "prediction_skill",
    pl.Schema(
        {
            **_RUN_COLUMNS,
            "outcome": pl.String(),
            "kind": pl.String(),
            "sources": pl.String(),
            "method": pl.String(),
            "chosen": pl.Boolean(),
            "cohorts": pl.Int64(),
            "cells": pl.Int64(),
            "reliability": pl.Float64(),
            "reliability_p": pl.Float64(),
            "skill_mean": pl.Float64(),
            "skill_mean_lower": pl.Float64(),
            "skill_mean_upper": pl.Float64(),
            "skill_schedule": pl.Float64(),
            "skill_schedule_lower": pl.Float64(),
            "skill_schedule_upper": pl.Float64(),
            "permutation_p": pl.Float64(),
            "coverage": pl.Float64(),
            "verdict": pl.String(),
        }
    ),
    (*RUN, "outcome", "kind", "sources", "method"),
    frozenset(
        {
            *("reliability", "reliability_p", "permutation_p", "coverage"),
            *("skill_mean", "skill_mean_lower", "skill_mean_upper"),
            *("skill_schedule", "skill_schedule_lower", "skill_schedule_upper"),
        }
    ),
)
"""How well each method predicts a `size` from its `sources`. Skill is 1 minus the mean squared
error over that of a floor, noise of the observed half taken off both: 1 is perfect, 0 no better
than the floor, which is the mean of the size's other cohorts, or the best line in its learning
rates. `reliability` is the share of the size's variance that is not noise (`reliability_p`: of
none); `permutation_p` how often shuffled cohorts agree as well. `verdict` is predicted, or why not:
noise (the size's own effects cannot be told apart), no_skill, few_cohorts. One line for each `size`
and `kind` is `chosen`; those with a single source say which sizes inform which."""

DECAY = Table(
    "decay",
    pl.Schema(
        {
            **_RUN_COLUMNS,
            "outcome": pl.String(),
            "subset": pl.String(),
            "law": pl.String(),
            "chosen": pl.Boolean(),
            "cohorts": pl.Int64(),
            "points": pl.Int64(),
            "horizon": pl.Int64(),
            "aicc": pl.Float64(),
            "p_value": pl.Float64(),
            **{
                f"{name}{end}": pl.Float64()
                for name in ("initial", "level", "half_life", "levels_off", "retained", "rate")
                for end in ("", "_lower", "_upper")
            },
            "verdict": pl.String(),
        }
    ),
    (*RUN, "outcome", "subset", "law"),
    frozenset(
        {
            *("aicc", "p_value"),
            *(
                f"{name}{end}"
                for name in ("initial", "level", "half_life", "levels_off", "retained", "rate")
                for end in ("", "_lower", "_upper")
            ),
        }
    ),
)
"""Laws of forgetting, fitted to the mean effect by event time e of one constant set of cohorts,
those followed to the `horizon`: `subset` is constant (all of them), early or late (halves of them).
`law` is constant, a; power, a (1 + e/s)^-b with s the first step of event time; exponential,
a exp(-e/s); or either plus a plateau. `chosen` has the least `aicc`; `p_value` is of its fit.
`initial` is the effect at event time 0, `level` the plateau (0 without one), `half_life` the event
time at which half of the fall from initial to level is done, `levels_off` that at which 90 % is,
both in optimizer steps and infinite where it never comes; `retained` is the fitted effect at the
horizon over the initial one; `rate` is b, or 1/s per step. `verdict` is fitted, constant (no fall
can be told), or noise (no effect at event time 0)."""

BITS = Table(
    "bits",
    pl.Schema(
        {
            **_RUN_COLUMNS,
            "outcome": pl.String(),
            "per": pl.String(),
            "cohort": pl.Int64(),
            "checkpoint": pl.Int64(),
            "rows": pl.Int64(),
            "bits": pl.Float64(),
            "se": pl.Float64(),
            **_INTERVAL,
        }
    ),
    (*RUN, "outcome", "per", "cohort", "checkpoint"),
    frozenset({"cohort", "rows"}),
)
"""Memorized bits, effect times scored tokens over ln 2, with pointwise intervals. `per` is row
(of a `cohort` at a `checkpoint`), cohort (the same for all `rows` that its steps read), checkpoint
(sum over the cohorts read by the `checkpoint`, of `rows` together) or parameter (that sum over the
size's parameters)."""

FOUND = (FINDINGS, PREDICTION, PREDICTION_SKILL, DECAY, BITS)
"""Tables of the stage `findings`."""
