"""At build: the README as a package index can show it, and the project's addresses.

A package index shows the README without the repository around it, so relative links would lead
nowhere. With the variable `PYTHIA_PROFILE_URL` (the address of the repository, which the package
itself does not know) they become absolute; without it a link is its words and the file's name, and
an image is left out.
"""

import os
import re
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

VARIABLE = "PYTHIA_PROFILE_URL"
_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)\s]+)\)")


def for_package_index(readme: str, url: str = "") -> str:
    """Return the README without relative links."""

    def absolute(found: re.Match[str]) -> str:
        image, words, path = found.groups()
        if url:
            kind = "raw" if image else "blob"
            return f"{image}[{words}]({url.rstrip('/')}/{kind}/main/{path})"
        return "" if image else words if words == path else f"{words} (`{path}`)"

    return _LINK.sub(absolute, readme)


class CustomMetadataHook(MetadataHookInterface):
    """Fills in `readme` and `urls` of the project."""

    def update(self, metadata: dict[str, object]) -> None:
        """Read the README beside this file."""
        url = os.environ.get(VARIABLE, "")
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        page = for_package_index(text, url)
        metadata["readme"] = {"content-type": "text/markdown", "text": page}
        metadata["urls"] = {
            "Paper": "https://arxiv.org/abs/2406.04327",
            "Method": "https://doi.org/10.1016/j.jeconom.2020.12.001",
            **({"Repository": url, "Changelog": f"{url}/blob/main/CHANGELOG.md"} if url else {}),
        }
