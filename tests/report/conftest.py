"""Small tables of a study of two sizes, written by hand."""

import polars as pl
import pytest

OUTCOME = "log_likelihood"


def profiles(**effects):
    lines = [
        {
            "size": size,
            "kind": kind,
            "cohort": None,
            "event_time": None,
            "att": att,
            "se": 0.01,
            "lower": att,
            "upper": att,
        }
        for size, values in effects.items()
        for kind, att in zip(("instantaneous", "persistent", "residual"), values, strict=True)
    ]
    cohorts = [
        {**lines[0], "cohort": at, "att": at / 100, "learning_rate": 1.0 / at}
        for at in (10, 20, 30)
    ]
    return pl.DataFrame([*lines, *cohorts], infer_schema_length=None).with_columns(
        outcome=pl.lit(OUTCOME), suite=pl.lit("mini"), seed=pl.lit(0)
    )


@pytest.fixture
def tables():
    return {
        "att": pl.DataFrame({"cohort": [10], "att": [0.123456]}),
        "profiles": profiles(xs=(0.2, 0.15, 0.1), s=(0.4, 0.2, 0.1)),
        "placebo": pl.DataFrame(
            {
                "size": ["xs", "xs", "xs"],
                "outcome": [OUTCOME] * 3,
                "test": ["joint", "cohort", "cohort"],
                "cohort": [None, 20, 30],
                "statistic": [2.5, 2.5, 1.0],
                "p_value": [0.3, 0.03, 0.9],
            }
        ),
        "agreement": pl.DataFrame(
            {
                "size_a": ["xs"],
                "size_b": ["s"],
                "outcome": [OUTCOME],
                "kind": ["post"],
                "cells": [6],
                "pearson": [0.81],
                "lower": [0.7],
                "upper": [0.9],
                "reliability_a": [0.5],
                "reliability_b": [0.6],
                "disattenuated": [0.8],
            },
            schema_overrides={"disattenuated": pl.Float64},
        ),
    }
