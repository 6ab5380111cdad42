"""Settings of a study: written once, read strictly, never mixed with another study's."""

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
    study = new_study("mini", ("xs", "s"), seed=3, checkpoints=[0, 32], level=0.9)

    create_study(tmp_path, study)

    assert open_study(tmp_path) == study
    assert open_study(tmp_path).checkpoints == (0, 32)


def test_a_folder_with_another_study_is_refused_and_left_alone(tmp_path):
    create_study(tmp_path, new_study("mini", ("xs",)))

    with pytest.raises(StudyError, match="seed is 0 there, 1 here"):
        create_study(tmp_path, new_study("mini", ("xs",), seed=1))
    assert open_study(tmp_path).seed == 0


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
    file.write_text(file.read_text().replace("format = 1", "format = 2"))

    with pytest.raises(StudyError, match="has format 2, this version of pythia-profile reads 1"):
        open_study(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sizes": ()}, "sizes: got none"),
        ({"sizes": ("xs", "xs")}, "expected each size once"),
        ({"level": 1.5}, "level: got 1.5"),
        ({"draws": 0}, "draws: got 0"),
        ({"never_treated": -1}, "never_treated: got -1"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(StudyError, match=message):
        Study(**{"suite": "mini", "sizes": ("xs",), **settings})


def test_unknown_and_mistyped_settings_are_named():
    with pytest.raises(StudyError, match="study: unknown setting 'drawz'; known: suite, sizes"):
        new_study("mini", ("xs",), drawz=5)
    with pytest.raises(StudyError, match="setting 'draws': got 'many', expected"):
        new_study("mini", ("xs",), draws="many")


def test_the_lock_file_grows_section_by_section(tmp_path):
    update_lock(tmp_path, "stages", {"sample": 1})
    update_lock(tmp_path, "stages", {"score": 2})
    update_lock(tmp_path, "versions", {"python": "3"})

    assert read_lock(tmp_path) == {
        "stages": {"sample": 1, "score": 2},
        "versions": {"python": "3"},
    }
