"""The room's public names: each is what it says, and importing the room loads nothing heavy."""

import subprocess
import sys
from inspect import ismodule

import pytest

import pythia_profile.did as room


@pytest.mark.parametrize("name", room.__all__)
def test_every_public_name_is_an_object_and_not_a_module(name):
    assert not ismodule(getattr(room, name))
    assert name in dir(room)


def test_importing_the_room_loads_no_heavy_library():
    heavy = ["torch", "numpy", "polars", "scipy", "pandas", "linearmodels", "matplotlib"]
    code = (
        "import sys; import pythia_profile.did; "
        f"sys.exit(str([m for m in {heavy} if m in sys.modules] or ''))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.stderr.strip() == ""


def test_estimating_loads_neither_torch_nor_regressions():
    code = (
        "import sys; from pythia_profile.did import *; "
        "assert 'torch' not in sys.modules and 'linearmodels' not in sys.modules"
    )

    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'att_gtt'"):
        room.att_gtt  # noqa: B018
