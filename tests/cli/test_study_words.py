"""What the verbs of a study say before any work is done: wrong beginnings, help, outcomes."""

import re
from pathlib import Path

import pytest

from pythia_profile.cli import app
from pythia_profile.cli.app import run

VERBS = [
    *("sample", "covariates", "score", "att", "precision", "profile", "estimands"),
    *("check", "findings", "plot", "report"),
]


def begin(folder: Path, suite: Path, *settings: str) -> int:
    chosen = [word for setting in ("draws=50", *settings) for word in ("--set", setting)]
    return run(app, ["init", str(folder), "--suite", str(suite), "--sizes", "xs,s", *chosen])


def test_att_before_score_says_so(tiny_suite, tmp_path, capsys):
    begin(tmp_path / "new", tiny_suite.root)
    run(app, ["sample", str(tmp_path / "new")])

    assert run(app, ["att", str(tmp_path / "new")]) == 2
    assert "run `pythia-profile score" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--suite", "minni"], "no suite 'minni'; did you mean 'mini'?"),
        (["--suite", "mini", "--sizes", "xxs"], "no size in suite 'mini': 'xxs'"),
        (["--suite", "mini", "--set", "drawz=3"], "unknown setting 'drawz'"),
        (["--suite", "mini", "--set", "draws=few"], "estimate.draws: got 'few'"),
    ],
)
def test_a_wrong_beginning_leaves_nothing(tmp_path, capsys, arguments, message):
    assert run(app, ["init", str(tmp_path / "new"), *arguments]) == 2

    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_no_study_unwritable_folder_and_too_many_controls_are_one_line_each(
    tiny_suite, tmp_path, capsys
):
    (tmp_path / "file").touch()
    cases = [
        (["att", str(tmp_path / "nowhere")], 2, "no study in"),
        (["init", str(tmp_path / "file" / "study"), "--suite", "mini"], 2, "cannot write"),
    ]
    begin(tmp_path / "greedy", tiny_suite.root, "never_treated=5000")
    cases.append((["sample", str(tmp_path / "greedy")], 1, "never-treated"))
    for arguments, code, message in cases:
        capsys.readouterr()
        assert run(app, arguments) == code, arguments
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert not (tmp_path / "greedy/rows.parquet").exists()


def test_every_verb_has_help_with_an_example(capsys):
    for verb in [
        *VERBS,
        "init",
        "run",
        "status",
        "suites",
        "audit",
        "plan",
        "order",
        "demo",
        "counterfactual",
        "power",
    ]:
        assert run(app, [verb, "--help"]) == 0
        assert "Example" in capsys.readouterr().out, verb


def test_the_list_of_verbs_holds_each_whole_and_in_the_order_of_a_study(capsys):
    assert run(app, ["--help"]) == 0

    text = capsys.readouterr().out
    sections = re.findall(r"^(\S.*):\n((?:  \S.*\n?)+)", text, re.MULTILINE)
    verbs = {title: re.findall(r"^  (\w+)  ", lines, re.MULTILINE) for title, lines in sections}
    assert verbs["Start here"] == ["demo", "init"]
    assert verbs["The stages of a study, in order"] == [
        *VERBS[: VERBS.index("plot")],
        "counterfactual",
        "remembered",
        *VERBS[VERBS.index("plot") :],
    ]
    assert "..." not in text.partition("Start here")[2]
    assert "Exit codes: 0 done" in text


def test_outcomes_are_checked_before_any_work_and_may_be_named_by_their_scorer(
    tiny_suite, tmp_path, capsys
):
    assert begin(tmp_path / "wrong", tiny_suite.root, "outcomes=surprise") == 2
    error = capsys.readouterr().err
    assert "outcomes: got 'surprise', the scores will have log_likelihood," in error
    assert not (tmp_path / "wrong").exists()

    assert begin(tmp_path / "right", tiny_suite.root, "outcomes=log_likelihood,first_8") == 0

    toml = (tmp_path / "right/study.toml").read_text()
    assert 'outcomes = [\n    "log_likelihood",\n    "log_likelihood_first_8",\n]' in toml
    assert 'scorers = [\n    "first_8",\n]' in toml
    assert "there are log_likelihood, accuracy, mean_rank," in toml
