"""Memorization profiles: what training on a batch does to a model's memory of it, and what remains.

    import pythia_profile as pp

Names are loaded when they are first used, so that importing the package costs next to nothing.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME: dict[str, str] = {}
"""Public name -> module that defines it."""

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'pythia_profile' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
