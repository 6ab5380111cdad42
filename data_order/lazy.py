"""Packages whose public names are imported when they are first used.

The names stand once, in the `__init__.pyi` beside a package's `__init__.py`, where type checkers
and editors read them too. `lazy_loader` does the same, but only for names that are called alike
where they are defined, and with messages of its own.
"""

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["attach"]


def attach(
    package: str, file: str
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Make `__getattr__`, `__dir__` and `__all__` of a package from the imports in its stub.

    Parameters
    ----------
    package, file : the package's `__name__` and `__file__`.

    A name that is also a submodule's stands for what the stub imports, once it has been used.
    """
    homes = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in ast.parse(Path(file).with_suffix(".pyi").read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    public = sorted(homes)

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        module, original = homes[name]
        if module == package:
            return import_module(f"{package}.{original}")
        value = getattr(import_module(module), original)
        # the import has set a submodule of this name, if there is one: the name goes first
        setattr(sys.modules[package], name, value)
        return value

    return load, lambda: [*public], public
