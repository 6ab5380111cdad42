"""Execute the notebooks and store their outputs, without what only one machine knows.

    python notebooks/execute.py STUDY [NAME …]   of a study that `pythia-profile demo --quick` made

All run in one kernel, each with a namespace of its own, so that libraries are loaded once.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

FOLDER = Path(__file__).parent
STUDY = "pythia-profile-demo"
"""How the notebooks call the study."""
_APART = "%reset -f"
_KEPT = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}


def executed(paths: Sequence[Path], folder: Path) -> list[NotebookNode]:
    """Run notebooks in `folder`, which holds the study; return them with their outputs."""
    notebooks = [nbformat.read(path, as_version=4) for path in paths]
    cells = []
    for notebook in notebooks:
        cells += [nbformat.v4.new_code_cell(_APART), *notebook.cells]
    whole = nbformat.v4.new_notebook(cells=cells)
    client = NotebookClient(whole, timeout=300, kernel_name="python3", record_timing=False)
    client.execute(cwd=folder)
    return [stripped(notebook) for notebook in notebooks]


def stripped(notebook: NotebookNode) -> NotebookNode:
    """Drop progress, numbers of the run and versions; count cells from 1; change nothing else."""
    notebook.metadata = nbformat.from_dict(_KEPT)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, start=1):
        cell.execution_count, cell.metadata = number, nbformat.from_dict({})
        cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
        for out in cell.outputs:
            if "execution_count" in out:
                out.execution_count = number
            if "image/png" in out.get("data", {}):  # its words are the size of a figure object
                out.data.pop("text/plain", None)
            if "text/html" in out.get("data", {}):
                out.data["text/html"] = re.sub(r"<style>.*?</style>\n?", "", out.data["text/html"],
                                               flags=re.DOTALL)  # fmt: skip
    return notebook


def main(study: str, *names: str) -> None:
    """Store the outputs of all notebooks, or of those whose names begin so."""
    paths = [p for p in sorted(FOLDER.glob("*.ipynb")) if not names or p.name.startswith(names)]
    home = Path(study).resolve()
    if home.name != STUDY:
        raise SystemExit(f"expected a folder called {STUDY}, as the notebooks name it; got {study}")
    for path, notebook in zip(paths, executed(paths, home.parent), strict=True):
        nbformat.write(notebook, path)


if __name__ == "__main__":
    main(*sys.argv[1:])
