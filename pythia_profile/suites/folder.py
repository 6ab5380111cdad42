"""A suite that lies in a folder, described by its `suite.toml`.

Checkpoints are Hugging Face folders `{size}/step{N}`, the rows a Megatron store in training order.
Anybody's models can be studied this way; the mini suite is one such folder, and `template` gives a
file to begin with.
"""

from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from pythia_profile.errors import NotFoundError, SettingsError, StudyError
from pythia_profile.settings import read_settings, write_settings
from pythia_profile.suites.model import Suite

__all__ = ["FILE_NAME", "read_suite", "suite_facts", "suite_from_facts", "template", "write_suite"]

FILE_NAME = "suite.toml"
_FORMAT = 1


def read_suite(folder: Path) -> Suite:
    """Read the suite in `folder`.

    Raises
    ------
    NotFoundError
        The folder has no `suite.toml`.
    StudyError
        A field of it is missing, unknown or of another type.
    """
    if not (folder / FILE_NAME).is_file():
        raise NotFoundError(
            f"no {FILE_NAME} in '{folder}'; expected a folder that describes a suite"
        )
    path = folder / FILE_NAME
    try:
        suite = read_settings(Suite, path, _FORMAT, root=folder)
        return _with_sizes(suite)
    except SettingsError as error:
        raise SettingsError(
            f"{error}; `pythia-profile suites --template` shows a whole one, `suite new` drafts one"
        ) from None
    except StudyError as error:  # a fact that cannot be
        named = str(error) if str(path) in str(error) else f"'{path}': {error}"
        raise StudyError(named) from None


def template() -> str:
    """Return a `suite.toml` to begin with, with a comment on each field."""
    return files("pythia_profile.suites").joinpath("template.toml").read_text(encoding="utf-8")


def write_suite(suite: Suite, folder: Path) -> None:
    """Write `suite.toml` into `folder`."""
    write_settings(suite, folder / FILE_NAME, _FORMAT, leave_out=("root",))


def suite_facts(suite: Suite) -> dict[str, Any]:
    """Facts of a suite as plain values, without where it lies."""
    return {name: value for name, value in asdict(suite).items() if name != "root"}


def suite_from_facts(facts: dict[str, Any]) -> Suite:
    """Return the suite that `suite_facts` described."""
    return _with_sizes(TypeAdapter(Suite).validate_python(facts))


def _with_sizes(suite: Suite) -> Suite:
    if not suite.sizes:
        raise StudyError(f"suite '{suite.name}': sizes is empty, expected one or more")
    return suite
