"""The walk of one row through the code: every file is there, named once, and none leads back."""

import re
from pathlib import Path

import pytest

from tests.test_imports import imported

ROOT = Path(__file__).parents[1]
WALK = (ROOT / "docs" / "walk.md").read_text(encoding="utf-8")
FILES = re.findall(r"`((?:data_order|pythia_profile)/[\w/]+\.py)`", WALK)


def test_each_file_is_there_and_named_once():
    assert len(FILES) > 15
    assert len(set(FILES)) == len(FILES)
    for file in FILES:
        assert (ROOT / file).exists(), file


@pytest.mark.parametrize("file", FILES)
def test_no_file_imports_one_that_comes_later(file):
    later = {name.removesuffix(".py").replace("/", ".") for name in FILES[FILES.index(file) + 1 :]}

    assert not imported(ROOT / file) & later
