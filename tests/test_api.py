"""The package as a notebook sees it: every public name resolves, importing is light."""

import subprocess
import sys

import pytest

import data_order
import pythia_profile as pp
from pythia_profile import did, scoring


@pytest.mark.parametrize("package", [pp, data_order, did, scoring])
def test_every_public_name_is_there_and_documented(package):
    for name in package.__all__:
        value = getattr(package, name)
        if callable(value):
            assert value.__doc__, name
    assert set(package.__all__) <= set(dir(package))


@pytest.mark.parametrize("package", [pp, did])
def test_completion_offers_public_names_only(package):
    assert dir(package) == sorted(package.__all__)


@pytest.mark.parametrize("package", [pp, data_order, did, scoring])
def test_a_misspelt_name_is_an_attribute_error(package):
    with pytest.raises(AttributeError, match="has no attribute 'heatmpa'"):
        package.heatmpa  # noqa: B018


def test_importing_the_packages_loads_no_heavy_library():
    code = (
        "import sys, data_order, pythia_profile, pythia_profile.cli; "
        "print([m for m in ('torch', 'numpy', 'polars', 'matplotlib', 'pandas', 'scipy') "
        "if m in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_every_stage_in_one_call_from_order_to_heatmap(tiny_suite):
    rows = pp.sample_rows(
        tiny_suite, pp.Sampling(rows_per_cohort=16, batches_per_cohort=0, never_treated=96)
    )
    scores = pp.score(tiny_suite, rows, ["xs"], [0, 16, 32])
    effects = pp.estimate(rows, scores, pp.Estimation(draws=20))
    profiles = pp.profile(effects, suite=tiny_suite)

    figure = pp.heatmap(effects.att)

    assert effects.att["checkpoint"].unique().sort().to_list() == [0, 16, 32]
    assert set(profiles["kind"]) >= {"instantaneous", "residual"}
    assert len(figure.axes) == 2
