"""Every notebook runs from its first cell to its last, and is kept with outputs of such a run."""

import os
import re
from pathlib import Path

import nbformat
import pytest

from notebooks.execute import FOLDER, STUDY, executed

pytestmark = pytest.mark.slow
PATHS = sorted(FOLDER.glob("*.ipynb"))
MOST_BYTES = 300_000
OF_A_MACHINE = re.compile(r"/(?:home|root|tmp|work|Users)/|\.py:\d+|\d+ ?it/s|Traceback")


@pytest.fixture(scope="module")
def again(demo, tmp_path_factory):
    """The notebooks as they run now, by name: on the quick demo, in one kernel."""
    folder = tmp_path_factory.mktemp("notebooks")
    (folder / STUDY).symlink_to(demo.study, target_is_directory=True)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in demo.environment.items():
            patch.setitem(os.environ, name, value)
        return dict(zip([path.name for path in PATHS], executed(PATHS, folder), strict=True))


def shown(notebook):
    """Of each cell of code, the kinds of what it shows."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [[sorted(out.get("data", {"stream": 0})) for out in cell.outputs] for cell in cells]


def test_there_is_a_notebook_for_each_step_of_a_study():
    steps = [path.name[:2] for path in PATHS if path.name[0].isdigit()]
    assert steps == ["01", "02", "03", "04", "05", "06"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Jupyter's own packages
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_is_stored(path, again):
    stored, now = nbformat.read(path, as_version=4), again[path.name]

    assert [cell.source for cell in stored.cells] == [cell.source for cell in now.cells]
    assert shown(stored) == shown(now)
    assert any("image/png" in kinds for cell in shown(now) for kinds in cell) != ("01" in path.name)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_what_is_stored_is_small_and_says_nothing_of_the_machine(path):
    notebook = nbformat.read(path, as_version=4)
    texts = [
        text
        for cell in notebook.cells
        for out in cell.get("outputs", [])
        for kind, text in {**out.get("data", {}), "text": out.get("text", "")}.items()
        if kind != "image/png"
    ]

    assert texts
    assert not [text for text in texts if OF_A_MACHINE.search(text)]
    assert set(notebook.metadata) == {"kernelspec"}
    assert path.stat().st_size < MOST_BYTES


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_numbers_by_hand_are_those_of_the_package(path, again):
    """Cells that compute one by hand print both."""
    prints = [
        out.text
        for cell in again[path.name].cells
        for out in cell.get("outputs", [])
        if "by hand" in out.get("text", "")
    ]

    assert len(prints) == (path.name[:2] in ("02", "03"))
    for text in prints:
        by_hand, ours = map(float, re.findall(r"-?\d+\.\d+", text))
        assert by_hand == pytest.approx(ours, abs=2e-5)  # float32 sums in another order


def test_links_of_the_notebooks_lead_somewhere():
    for path in PATHS:
        for link in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
            assert (Path(FOLDER) / link).exists(), (path.name, link)
