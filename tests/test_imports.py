"""Who may import whom: arrows between the rooms never turn back."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import pythia_profile

ROOT = Path(pythia_profile.__file__).parents[1]
BASE = {"errors", "tables"}
MAY_IMPORT = {
    "errors": set(),
    "tables": {"errors"},
    "store": BASE,
    "settings": BASE | {"store"},
    "progress": {"execute", "text"},
    "text": {"tables"},
    "redaction": set(),
    "execute": BASE | {"redaction", "store", "settings"},
    "suites": BASE | {"settings"},
    "checkpoints": {"errors", "store", "suites"},
    "scoring": BASE
    | {"redaction", "store", "settings", "progress", "execute", "suites", "checkpoints"},
    "did": BASE | {"settings"},
    "profiles": BASE | {"settings", "did", "suites"},
    "findings": BASE | {"did", "suites", "profiles"},
    "figures": BASE | {"store"},
    "report": BASE | {"store", "study", "figures", "profiles", "findings", "scoring"},
    "training": {"errors", "settings", "store", "progress", "execute", "suites", "checkpoints"},
    "mini": BASE
    | {"settings", "store", "progress", "execute", "suites", "scoring", "did", "training"},
    "lock": BASE | {"store", "settings", "suites"},
    "study": BASE | {"store", "settings", "lock", "suites", "scoring", "did", "mini"},
    "pipeline": BASE
    | {"redaction", "store", "settings", "progress", "execute", "study", "suites", "checkpoints"}
    | {"scoring", "did", "profiles", "findings", "figures", "report", "mini", "text"},
}


LABS = ROOT / "pythia_profile" / "labs"
LAB_FOLDERS = sorted(path.parent for path in LABS.glob("*/__init__.py"))
LABS_MAY_IMPORT = {*MAY_IMPORT} - {"lock", "pipeline"} | {"cli"}


def imported(file: Path) -> set[str]:
    """Modules that a file imports anywhere, functions included."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_no_circle_of_modules_stands_anywhere():
    """Imports for typing and inside functions count; the lazy packages' own files do not."""
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for package in ("data_order", "pythia_profile")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    }
    graph = {name: imported(path) & files.keys() - {name} for name, path in files.items()}

    assert len(list(TopologicalSorter(graph).static_order())) == len(files) > 100


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_stands_before_it(room):
    place = ROOT / "pythia_profile" / room
    files = place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")]
    rooms = {
        name.split(".")[1]
        for file in files
        for name in imported(file)
        if name.startswith("pythia_profile.")
    }

    assert rooms - {room, "__version__"} <= MAY_IMPORT[room]


@pytest.mark.parametrize("lab", LAB_FOLDERS, ids=lambda lab: lab.name)
def test_a_lab_imports_the_core_and_no_other_lab(lab):
    names = {name for file in lab.rglob("*.py") for name in imported(file)}
    own = [name for name in names if name.startswith("pythia_profile.")]

    assert {name.split(".")[1] for name in own} - {"labs", "__version__"} <= LABS_MAY_IMPORT
    labs = {name.split(".")[2] for name in own if ".labs." in name}
    assert {name for name in labs if not name.startswith("lab_")} <= {lab.name}


def test_what_labs_share_knows_no_lab():
    names = {name for file in LABS.glob("lab_*.py") for name in imported(file)}
    own = [name for name in names if name.startswith("pythia_profile.")]

    assert {name.split(".")[1] for name in own} - {"labs"} <= LABS_MAY_IMPORT - {"cli"}
    assert all(name.split(".")[2].startswith("lab_") for name in own if ".labs." in name)


def test_the_order_of_rows_knows_no_model_and_no_study():
    names = {name for file in (ROOT / "data_order").rglob("*.py") for name in imported(file)}

    assert not {name for name in names if name.split(".")[0] in {"torch", "pythia_profile"}}


def test_the_estimator_reads_no_files_and_knows_no_torch():
    files = (ROOT / "pythia_profile" / "did").rglob("*.py")
    names = {name.split(".")[0] for file in files for name in imported(file)}

    assert not names & {"torch", "transformers", "pathlib", "io", "os"}


DID_CORE = {
    *("settings", "errors", "arguments", "threads", "moments", "comparison", "missing", "panels"),
    *("group_means", "cross_products", "ancova", "variance", "att", "precision", "estimation"),
    *(
        "panel_tables",
        "readings",
        "stored",
        "covariates",
        "regression",
        "known_rows",
        "crossover_design",
    ),
}


@pytest.mark.parametrize("layer", ["core", "inference", "diagnostics"])
def test_the_layers_of_the_estimator_do_not_turn_back(layer):
    room = ROOT / "pythia_profile" / "did"
    core = [room / f"{name}.py" for name in DID_CORE]
    files = core if layer == "core" else (room / layer).rglob("*.py")
    parts = {
        name.removeprefix("pythia_profile.did.").split(".")[0]
        for file in files
        for name in imported(file)
        if name.startswith("pythia_profile.did.")
    }
    before = {
        "core": set(),
        "inference": {"inference"},
        "diagnostics": {"inference", "diagnostics"},
    }

    assert {file.stem for file in room.glob("*.py")} == DID_CORE | {"__init__"}
    assert parts <= DID_CORE | before[layer]
