"""What the documentation site needs beyond its pages; mkdocs calls these functions as it builds.

Sources in a form that griffe reads, pages of the files at the root, and no address on any page from
which a browser would fetch something.
"""

import base64
import json
import re
import shutil
import tempfile
from pathlib import Path

from mkdocs.exceptions import PluginError
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File

ROOT = Path(__file__).parent
PACKAGES = ("data_order", "pythia_profile")
AT_THE_ROOT = ("CHANGELOG.md", "CONTRIBUTING.md")
FETCHED = re.compile(
    r"<(?:script|img|iframe|link(?![^>]*canonical))[^>]*(?:src|href)=\"?(?:https?:)?//"
)


@event_priority(100)  # before mkdocstrings takes its settings
def on_config(config):
    """Point mkdocstrings at a copy of the packages in which every room has an `__init__.py`.

    griffe reads sources without importing them, and skips folders without this file; the rooms
    have none.
    """
    copy = Path(tempfile.mkdtemp(prefix="pythia-profile-docs-"))
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__")
        )
        for folder in {file.parent for file in (copy / package).rglob("*.py")}:
            (folder / "__init__.py").touch()
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [str(copy)]
    config.extra["sources"] = str(copy)
    return config


def on_files(files, config):
    """Add the notebooks, and the pages at the repository's root, whose links lead to `docs/`."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        files_of = _page_of(json.loads(path.read_text(encoding="utf-8")), path.stem)
        for name, content in files_of.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    for name in AT_THE_ROOT:
        text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, name.lower(), content=text))
    return files


def _page_of(notebook, name):
    """Return a notebook as a page of Markdown with its outputs, and its pictures beside it."""
    parts, found = [], {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(re.sub(r"\]\(\.\./docs/", "](../", source))
            continue
        parts.append(f"```python\n{source}\n```")
        for out in cell["outputs"]:
            data = out.get("data", {"text/plain": out.get("text", "")})
            if "image/png" in data:
                picture = f"{name}_{len(found)}.png"
                found[picture] = base64.b64decode("".join(data["image/png"]))
                parts.append(f"![what the cell above draws]({picture})")
            elif "text/html" in data:  # a line without words would end it
                parts.append(re.sub(r"\n\s*\n", "\n", "".join(data["text/html"])))
            else:
                parts.append(f"```text\n{''.join(data['text/plain']).rstrip()}\n```")
    return {f"{name}.md": "\n\n".join(parts) + "\n", **found}


def on_post_page(output, page, config):  # noqa: ARG001 (mkdocs passes them by name)
    """Refuse a page that would ask another host for a script, a style or a picture."""
    if found := FETCHED.search(output):
        raise PluginError(f"{page.file.src_uri} would fetch {found[0]}; expected files of its own")
    return output


def on_post_build(config):
    """Remove the copy."""
    shutil.rmtree(config.extra["sources"])
