"""Frozen settings, checked when they are made; and settings as TOML files.

`Settings` is the base of every room's settings object. A wrong value is one line that names the
section and field, what was got and what was expected. The descriptions of the fields become the
comments of the file.
"""

import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import tomli_w
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from pythia_profile.errors import SettingsError, StudyError, did_you_mean
from pythia_profile.store import write_text

__all__ = [
    "Settings",
    "checked",
    "explained",
    "fault_of",
    "read_settings",
    "read_toml",
    "write_settings",
]

Kind = TypeVar("Kind")
_SHOWN = 60
_MOST_FAULTS = 12


class Settings(BaseModel):
    """Base of settings: frozen, no unknown fields, every value checked.

    Raises
    ------
    SettingsError
        A field is unknown or has a value that it cannot take.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SettingsError("; ".join(_faults(type(self), error))) from None

    # Sections are then checked as part of the whole, so that a fault carries its section's name.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    def replace(self, **changes: Any) -> Self:
        """Return settings with other values, checked like new ones."""
        return type(self)(**{**dict(self), **changes})

    def remarks(self) -> dict[str, str]:
        """Say more of some fields, by their names, in the comments of a file."""
        return {}


def checked(kind: type[Kind], content: Mapping[str, Any], where: str) -> Kind:
    """Build settings, or a dataclass, from plain values.

    Parameters
    ----------
    where : what messages call the origin of the values.

    Raises
    ------
    SettingsError
        A field is unknown, missing, or has a value that it cannot take.
    """
    faults, values = [], dict(content)
    if is_dataclass(kind) and (unknown := sorted({*content} - {*kind.__dataclass_fields__})):
        known = [*kind.__dataclass_fields__]
        named, guess = ", ".join(map(repr, unknown)), did_you_mean(unknown[0], known)
        faults = [f"unknown setting {named};{guess} known: {', '.join(known)}"]
        values = {name: value for name, value in content.items() if name not in unknown}
    try:
        made = TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        faults += _faults(kind, error)
    if faults:
        raise SettingsError(f"{where}: {'; '.join(faults)}")
    return made


def _faults(kind: type[Any], error: ValidationError) -> list[str]:
    """List what is wrong: field, value, what was expected; missing fields together."""
    missing = [fault for fault in error.errors() if fault["type"].startswith("missing")]
    others = [fault for fault in error.errors() if fault not in missing]
    listed = [_fault(kind, fault) for fault in others[:_MOST_FAULTS]]
    if len(others) > _MOST_FAULTS:
        listed.append(f"and {len(others) - _MOST_FAULTS} more")
    if missing:
        names = ", ".join(_name(fault) for fault in missing)
        listed.insert(0, f"{names}: missing, expected a value" + " each" * (len(missing) > 1))
    return listed


def _fault(kind: type[Any], fault: ErrorDetails) -> str:
    name = _name(fault)
    if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        section, known = _section(kind, fault["loc"])
        guess = did_you_mean(name, _every_setting(kind))
        return f"unknown setting '{name}';{guess} known{section}: {known}"
    if fault["type"] == "value_error":  # a validator of ours: its message names the field
        return f"{name}.{fault['ctx']['error']}".removeprefix(".")
    return f"{name}: got {_shown(fault)}, expected: {fault['msg'].removeprefix('Input should be ')}"


def _name(fault: ErrorDetails) -> str:
    return ".".join(str(part) for part in fault["loc"])


def fault_of(error: Exception) -> str:
    """Say in one line what is wrong first in plain values that were checked by pydantic."""
    if not isinstance(error, ValidationError):
        return str(error)
    fault = error.errors()[0]
    name = ".".join(str(part) for part in fault["loc"])
    expected = fault["msg"].removeprefix("Input should be ")
    return f"{name}: got {_shown(fault)}, expected: {expected}"


def _section(kind: Any, where: tuple[int | str, ...]) -> tuple[str, str]:
    """Name the section that a field was looked for in, and its fields."""
    for part in where[:-1]:
        kind = kind.model_fields[part].annotation
    section = f" in [{'.'.join(map(str, where[:-1]))}]" if where[:-1] else ""
    return section, ", ".join(kind.model_fields)


def _every_setting(kind: Any, section: str = "") -> Iterator[str]:
    """Name the settings of a kind by their sections."""
    for name, field in getattr(kind, "model_fields", {}).items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            yield from _every_setting(field.annotation, f"{section}{name}.")
        else:
            yield section + name


def _shown(fault: ErrorDetails) -> str:
    try:
        text = repr(fault["input"])
    except ValueError:  # Python prints no whole number of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises
    ------
    StudyError
        The file is missing or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StudyError(f"no '{path.name}' in '{path.parent}'") from error
    except (OSError, ValueError, RecursionError) as error:
        raise StudyError(f"'{path}' cannot be read: {error}") from error


def read_settings(kind: type[Kind], path: Path, version: int, **given: Any) -> Kind:
    """Read a TOML file into settings or a dataclass.

    Parameters
    ----------
    version : the file's `format` must be this number.
    given : fields that are not in the file.

    Raises
    ------
    StudyError
        The file is missing, of another version, not TOML, or a field is unknown, missing or of
        another type; the message names the field, what was got and what was expected.
    """
    content = read_toml(path)
    check_format(content.pop("format", None), version, path)
    return checked(kind, {**content, **given}, f"'{path}'")


def check_format(found: object, version: int, path: Path) -> None:
    """Refuse a file of another version than the one that is read here."""
    if found != version:
        raise StudyError(
            f"'{path}' has format {found!r}, this version of pythia-profile reads {version}; "
            "make the folder anew, or use the version that wrote it"
        )


def write_settings(
    settings: Any, path: Path, version: int, leave_out: tuple[str, ...] = ()
) -> None:
    """Write a dataclass as TOML with its `format`; unset fields and `leave_out` do not appear."""
    content = {
        name: value
        for name, value in asdict(settings).items()
        if value is not None and name not in leave_out
    }
    write_text(tomli_w.dumps({"format": version, **_plain(content)}), path)


def explained(settings: Settings, section: str = "") -> str:
    """Write settings as TOML, each field below its description, sections after single fields."""
    lines, sections, remarks = [], [], settings.remarks()
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        said = [field.description or "", remarks.get(name, "")]
        comment = textwrap.wrap(
            "; ".join(filter(None, said)), 98, initial_indent="# ", subsequent_indent="# "
        )
        if isinstance(value, Settings):
            head = f"{section}.{name}".removeprefix(".")
            title = "\n".join(comment)
            sections.append(f"\n[{head}]\n{title}\n{explained(value, head)}")
        else:
            lines += ["", *comment, tomli_w.dumps({name: _plain(value)}).rstrip()]
    return "\n".join([*lines, *sections]) + ("" if sections else "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
