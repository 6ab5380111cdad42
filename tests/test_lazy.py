"""Lazy packages: names stand once in a stub, resolve on first use, and no submodule hides one."""

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

import pytest

PACKAGES = ["data_order", *(f"pythia_profile{x}" for x in ("", ".did", ".figures", ".scoring"))]


@pytest.mark.parametrize("name", PACKAGES)
def test_no_submodule_hides_a_public_name(name):
    package = import_module(name)
    modules = {module.name for module in iter_modules(package.__path__)}

    hidden = modules & set(package.__all__)

    assert {one for one in hidden if not isinstance(getattr(package, one), ModuleType)} == set()


def test_the_door_of_every_stage_is_public():
    package = import_module("pythia_profile")

    assert {"sample_rows", "score", "estimate", "profile", "check", "heatmap", "run_study"} <= set(
        package.__all__
    )


def test_a_name_wins_over_the_submodule_it_comes_from(tmp_path, monkeypatch):
    room = tmp_path / "a_lazy_room"
    room.mkdir()
    (room / "__init__.py").write_text(
        "from data_order.lazy import attach\n"
        "__getattr__, __dir__, __all__ = attach(__name__, __file__)\n"
    )
    (room / "__init__.pyi").write_text(
        "from a_lazy_room import other as other\n"
        "from a_lazy_room.score import score as score, total as summed\n"
    )
    (room / "score.py").write_text("def score(): return 1\ndef total(): return 2\n")
    (room / "other.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    package = import_module("a_lazy_room")

    assert package.score() == 1
    assert package.score() == 1  # the import has set the submodule in between
    assert package.summed() == 2
    assert isinstance(package.other, ModuleType)
    assert dir(package) == ["other", "score", "summed"]
    with pytest.raises(AttributeError, match="'a_lazy_room' has no attribute 'total'"):
        package.total  # noqa: B018
