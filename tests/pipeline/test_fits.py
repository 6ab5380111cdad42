"""Settings that no stage could work with are refused when they are set, not hours later."""

import pytest

from pythia_profile.cli import app
from pythia_profile.cli.app import run

REFUSED = {
    "an unknown scorer": ("pythia", ["score.scorers=nope"], "no outcome 'nope'; known: base"),
    "a scorer of text": ("pythia", ["scorers=zlib"], "'zlib' needs a tokenizer, and suite"),
    "a scorer of more tokens": ("mini", ["scorers=first_9999"], "needs rows of"),
    "an unknown outcome": (
        "mini",
        ["outcomes=nope"],
        "outcomes: got 'nope', the scores will",
    ),
    "a long anticipation": ("pythia", ["anticipation=142000"], "fewer than the 142,000 steps"),
    "an unknown covariate": ("mini", ["estimate.covariates=nope"], "got 'nope', expected among"),
    "a misspelt setting": ("mini", ["estimate.drawz=3"], "did you mean 'estimate.draws'? known: "),
    "bands of no cohort": ("mini", ["family=path:7"], "got 'path:7', expected a cohort of xs"),
    "bands of no family": ("mini", ["family=nope"], "expected post, placebo, all or path:COHORT"),
    "no reference": ("mini", ["estimate.covariates=reference"], "needs the setting of that name"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_settings_that_do_not_fit_the_suite_are_refused_when_they_are_set(what, tmp_path, capsys):
    suite, settings, message = REFUSED[what]
    words = [word for setting in settings for word in ("--set", setting)]

    assert run(app, ["init", str(tmp_path / "study"), "--suite", suite, *words]) == 2

    assert message in capsys.readouterr().err
    assert not (tmp_path / "study").exists()


def test_settings_that_do_not_fit_are_not_set(tmp_path, capsys):
    study = tmp_path / "study"
    assert run(app, ["init", str(study), "--suite", "mini"]) == 0
    before = (study / "study.toml").read_text()

    for setting in (
        "score.scorers=nope",
        "anticipation=1000000",
        "estimate.covariates=nope",
        "family=path:7",
    ):
        assert run(app, ["set", str(study), setting]) == 2

    assert (study / "study.toml").read_text() == before
    assert run(app, ["set", str(study), "family=path:32"]) == 0  # a checkpoint after the first


@pytest.mark.parametrize("verb", ["run", "sample", "score"])
def test_settings_that_were_changed_by_hand_are_checked_before_anything_is_run(
    verb, tmp_path, capsys
):
    study = tmp_path / "study"
    fitting = ["--set", "scorers=first_8", "--set", "outcomes=log_likelihood_first_8"]
    assert run(app, ["init", str(study), "--suite", "mini", *fitting]) == 0
    settings = study / "study.toml"
    settings.write_text(settings.read_text().replace('"first_8"', '"first_9"'))

    assert run(app, [verb, str(study)]) == 2

    assert "outcomes: got 'log_likelihood_first_8', the scores will have" in capsys.readouterr().err
    assert not (study / "rows.parquet").exists()


@pytest.mark.parametrize(
    "words", [["--rows", "0"], ["--level", "2"], ["--power", "nan"], ["--batches", "1,0"]]
)
def test_a_plan_of_sizes_is_checked_before_a_pilot_is_trained(words, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    assert run(app, ["power", *words]) == 2

    assert not [*tmp_path.rglob("*.parquet")]


@pytest.mark.parametrize(
    "words",
    [
        ["--row", str(2**63)],
        ["--step", str(2**64)],
        ["--step", "1", "--batch-size", str(2**63)],
        ["--step", "1", "--batch-size", str(2**31), "--show", "0"],
        ["--step", "1", "--batch-size", str(2**31), "--json"],
        ["--step", "1", "--row-tokens", str(10**19)],
    ],
)
def test_an_order_beyond_all_bounds_is_refused(words, capsys):
    assert run(app, ["order", *words]) == 2

    assert "rror: " in capsys.readouterr().err
