"""Frozen settings, checked when they are made; and settings as TOML files.

`Settings` is the base of every room's settings object. A wrong value is one line that names the
field, what was got and what was expected.
"""

import inspect
import re
import textwrap
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from pythia_profile.errors import SettingsError, StudyError
from pythia_profile.store import write_text

__all__ = ["Settings", "checked", "read_settings", "write_settings"]

Kind = TypeVar("Kind")


class Settings(BaseModel):
    """Base of settings: frozen, no unknown fields, every value checked.

    Raises
    ------
    SettingsError
        A field is unknown or has a value that it cannot take.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SettingsError(_first_fault(type(self), error)) from None


def _first_fault(kind: type[BaseModel], error: ValidationError) -> str:
    fault = error.errors()[0]
    name = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"unknown setting '{name}'; known: {', '.join(kind.model_fields)}"
    if fault["type"] == "missing":
        return f"{name}: missing, expected a value"
    expected = fault["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    if not name:  # a rule over several fields, whose message names them
        return expected
    return f"{name}: got {fault['input']!r}, expected: {expected}"


def read_settings(kind: type[Kind], path: Path, version: int, **given: Any) -> Kind:
    """Read a TOML file into the dataclass `kind`.

    Parameters
    ----------
    kind : a dataclass; every key of the file must be one of its fields.
    version : the file's `format` must be this number.
    given : fields that do not stand in the file.

    Raises
    ------
    StudyError
        The file is missing, of another version, not TOML, or a field is unknown, missing or of
        another type; the message names the field, what was got and what was expected.
    """
    try:
        content = tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        raise StudyError(f"no '{path.name}' in '{path.parent}'") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise StudyError(f"'{path}' cannot be read: {error}") from error
    found = content.pop("format", None)
    if found != version:
        raise StudyError(
            f"'{path}' has format {found!r}, this version of pythia-profile reads {version}; "
            "make the folder anew, or use the version that wrote it"
        )
    return checked(kind, {**content, **given}, f"'{path}'")


def checked(kind: type[Kind], content: dict[str, Any], where: str) -> Kind:
    """Build a dataclass from plain values.

    Parameters
    ----------
    where : what messages call the place the values come from.

    Raises
    ------
    StudyError
        A field is unknown, missing or of another type.
    """
    unknown = sorted(set(content) - set(kind.__dataclass_fields__))  # type: ignore[attr-defined]
    if unknown:
        raise StudyError(f"{where}: unknown setting '{unknown[0]}'; {_known(kind)}")
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise StudyError(
            f"{where}: setting '{place}': got {fault['input']!r}, expected: {fault['msg']}"
        ) from error


def write_settings(
    settings: Any,
    path: Path,
    version: int,
    leave_out: tuple[str, ...] = (),
    *,
    explain: bool = False,
) -> None:
    """Write a dataclass as TOML with its `format`; unset fields and `leave_out` do not appear.

    Parameters
    ----------
    explain : whether each field is preceded by what the dataclass's docstring says of it.
    """
    content = {
        name: value
        for name, value in asdict(settings).items()
        if value is not None and name not in leave_out
    }
    text = tomli_w.dumps({"format": version, **_plain(content)})
    write_text(_explained(text, settings) if explain else text, path)


def _explained(text: str, settings: Any) -> str:
    """Put what the docstring of a dataclass says of its attributes above their lines."""
    attributes = inspect.cleandoc(settings.__doc__ or "").partition("----------\n")[2]
    said = {}
    for names, words in re.findall(r"^([\w, ]+) : ((?:.+\n?)(?:^    .+\n?)*)", attributes, re.M):
        said[names.split(",")[0]] = " ".join(words.split()).replace("`", "")
    lines = []
    for line in text.splitlines():
        name = re.match(r"(\w+) = ", line)
        if name and name[1] in said:
            comment = textwrap.wrap(said[name[1]], 96, initial_indent="# ", subsequent_indent="# ")
            lines += ["", *comment]
        lines.append(line)
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _known(kind: type[Any]) -> str:
    return "known: " + ", ".join(kind.__dataclass_fields__)
