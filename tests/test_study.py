"""Settings of a study: written once, read strictly, never mixed with another study's."""

import os
import subprocess
import sys

import pytest

from pythia_profile.errors import StudyError
from pythia_profile.study import (
    Study,
    create_study,
    demo_study,
    new_study,
    open_study,
    read_lock,
    update_lock,
)


def test_settings_read_back_as_they_were_written(tmp_path):
    study = new_study("mini", ("xs", "s"), {"sample.seed": 3, "checkpoints": [0, 32], "level": 0.9})

    create_study(tmp_path, study)

    assert open_study(tmp_path) == study
    assert open_study(tmp_path).checkpoints == (0, 32)


def test_a_folder_with_another_study_is_refused_and_left_alone(tmp_path):
    create_study(tmp_path, new_study("mini", ("xs",)))

    with pytest.raises(StudyError, match=r"sample\.seed is 0 there, 1 here"):
        create_study(tmp_path, new_study("mini", ("xs",), {"sample.seed": 1}))
    assert open_study(tmp_path).sample.seed == 0


def test_the_demonstration_may_change_its_own_settings_only(tmp_path):
    create_study(tmp_path, demo_study(quick=True), replace=True)
    create_study(tmp_path, demo_study(), replace=True)
    assert open_study(tmp_path) == demo_study()

    create_study(tmp_path / "other", new_study("models", ("xs",)))
    with pytest.raises(StudyError, match="suite is 'models' there, 'mini' here"):
        create_study(tmp_path / "other", demo_study(), replace=True)


def test_a_folder_without_a_study_says_how_to_make_one(tmp_path):
    with pytest.raises(StudyError, match=r"no study in .*pythia-profile init .* --suite mini"):
        open_study(tmp_path)


def test_a_study_of_another_version_is_refused(tmp_path):
    create_study(tmp_path, new_study("mini", ("xs",)))
    file = tmp_path / "study.toml"
    file.write_text(file.read_text().replace("format = 2", "format = 3"))

    with pytest.raises(StudyError, match="has format 3, this version of pythia-profile reads 2"):
        open_study(tmp_path)


FLAT = """
format = 1
suite = "mini"
sizes = ["xs", "s"]
seed = 3
rows_per_cohort = 96
batches_per_cohort = 0
unbalanced = "available"
clusters = "auto"
draws = 50
faulty = "skip"
counterfactual_size = "xs"
counterfactual_cohorts = 5
"""


def test_a_study_of_format_1_is_read_into_sections(tmp_path):
    (tmp_path / "study.toml").write_text(FLAT)

    study = open_study(tmp_path)

    assert (study.sample.seed, study.estimate.seed, study.sample.rows_per_cohort) == (3, 3, 96)
    assert (study.estimate.missing, study.score.faulty, study.audit.cohorts) == (
        "available", "skip", 5,
    )  # fmt: skip


def test_an_unknown_setting_of_format_1_is_named(tmp_path):
    (tmp_path / "study.toml").write_text(FLAT + "drawz = 3\n")

    with pytest.raises(
        StudyError, match=r"'drawz'; did you mean 'estimate.draws'\? known: suite, sizes"
    ):
        open_study(tmp_path)


def test_the_file_explains_every_setting(tmp_path):
    create_study(tmp_path, new_study("mini", ("xs",)))

    lines = (tmp_path / "study.toml").read_text().splitlines()

    settings = [at for at, line in enumerate(lines) if " = " in line and line[0] not in "#f"]
    assert len(settings) > 20
    assert all(lines[at - 1].startswith("# ") for at in settings)
    assert "[estimate]" in lines


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sizes": ()}, "sizes: got"),
        ({"sizes": ("xs", "xs")}, "sizes: got xs, xs, expected each once"),
        ({"suite": ""}, "suite: got ''"),
        ({"estimate": {"level": 1.5}}, "estimate.level: got 1.5"),
        ({"estimate": {"draws": 0}}, "estimate.draws: got 0"),
        (
            {"estimate": {"drawz": 1}},
            r"'estimate.drawz'; did you mean 'estimate.draws'\? known in \[estimate\]: ",
        ),
        ({"estimate": {"draws": 10**5000}}, "estimate.draws: got a number of thousands of digits"),
        ({"estimate": 3}, "estimate: got 3"),
        ({"sample": {"never_treated": -1}}, "sample.never_treated: got -1"),
        ({"sample": {"never_treated": 0}}, "sample.never_treated: got 0, expected 1 or more, or"),
        (
            {"sample": {"rows_per_cohort": 25, "batches_per_cohort": 10}},
            "sample.rows_per_cohort: got 25, expected a multiple",
        ),
        ({"audit": {"size": "l", "cohorts": 2}}, "audit.size: got 'l', expected one of the sizes"),
        ({"audit": {"size": "xs"}}, "audit.size and cohorts go together"),
        ({"checkpoints": (32, 0)}, "checkpoints: expected ascending steps"),
        ({"checkpoints": (-1, 0)}, "checkpoints.0: got -1"),
        ({"outcomes": ("size",)}, "outcomes: got 'size'"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(StudyError, match=message):
        Study(**{"suite": "mini", "sizes": ("xs",), **settings})


def test_unknown_ambiguous_and_mistyped_settings_are_named():
    with pytest.raises(
        StudyError, match=r"'drawz'; did you mean 'estimate.draws'\? known: suite, sizes"
    ):
        new_study("mini", ("xs",), {"drawz": 5})
    with pytest.raises(StudyError, match=r"study: estimate.draws: got 'many', expected"):
        new_study("mini", ("xs",), {"draws": "many"})
    with pytest.raises(StudyError, match=r"'seed' is one of sample.seed, estimate.seed; say which"):
        new_study("mini", ("xs",), {"seed": 1})


def test_the_lock_file_grows_section_by_section(tmp_path):
    update_lock(tmp_path, "notes", {"att": ["one"]})
    update_lock(tmp_path, "notes", {"check": ["two"]})
    update_lock(tmp_path, "versions", {"python": "3"})

    assert read_lock(tmp_path) == {
        "notes": {"att": ["one"], "check": ["two"]},
        "versions": {"python": "3"},
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not valid JSON"),
        ("[]", "holds a JSON list, expected a dict"),
        ("[" * 100_000, "not valid JSON"),
        ('{"a": ' + "9" * 5000 + "}", "not valid JSON"),
        (
            '{"stages": 3}',
            r"stages: got 3, expected: a valid dict.*; delete it and run",
        ),
        ('{"stages": {"att": {"key": "a"}}}', "stages.att.outputs: got"),
        ('{"audit": {"faulty": [{"size": "s"}]}}', "audit.faulty.0.step"),
        (
            '{"audit": {"faulty": [{"size": "s", "step": "1", "verdict": "", "reasons": []}]}}',
            "step",
        ),
        ('{"suite": {"name": "mini"}}', "title: got"),
        ('{"versions": {"torch": 2}}', "versions.torch: got 2, expected: a valid string"),
    ],
)
def test_a_damaged_lock_file_is_named_in_one_line(tmp_path, content, message):
    (tmp_path / "lock.json").write_text(content)

    with pytest.raises(StudyError, match=message) as caught:
        read_lock(tmp_path)

    assert "lock.json" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_files_are_utf8_whatever_the_locale(tmp_path):
    """Under an ASCII locale, Python reads and writes text as ASCII unless told otherwise."""
    code = (
        "import sys; from pathlib import Path; from pythia_profile.study import *;"
        "from pythia_profile.store import read_json, write_json;"
        "folder = Path(sys.argv[1]); create_study(folder, new_study('tiny', ('xs\\u00e9',)));"
        "assert open_study(folder).sizes == ('xs\\u00e9',);"
        "write_json({'a': '\\u00b1'}, folder / 'a.json');"
        "(folder / 'b.json').write_bytes('{\"a\": \"\\u00b1\"}'.encode());"
        "assert read_json(folder / 'a.json') == read_json(folder / 'b.json');"
        "import locale; assert locale.getencoding().lower() not in ('utf-8', 'utf8')"
    )
    plain = {**os.environ, "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}

    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=plain, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
