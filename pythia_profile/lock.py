"""The lock file of a study: what was pinned, and what each stage read and wrote."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from pythia_profile.errors import SettingsError, StudyError
from pythia_profile.settings import fault_of
from pythia_profile.store import read_json, write_json
from pythia_profile.suites.folder import suite_from_facts

__all__ = ["read_lock", "update_lock"]

LOCK_NAME = "lock.json"


class _Stage(BaseModel):
    source: str = ""
    key: str = ""
    outputs: dict[str, str]
    settings: dict[str, Any] = {}
    inputs: dict[str, str] = {}
    version: str = ""
    seconds: float = Field(0.0, ge=0, allow_inf_nan=False)


class _Verdict(BaseModel):
    size: str
    step: int = Field(ge=0, lt=2**63)
    verdict: str
    reasons: list[str]


class _Audited(BaseModel):
    choice: str = ""
    faulty: list[_Verdict] = []
    missing: list[_Verdict] = []


class _Lock(BaseModel):
    """What `lock.json` holds; other sections pass."""

    stages: dict[str, _Stage] = {}
    audit: _Audited = _Audited()
    notes: dict[str, list[str]] = {}
    command: dict[str, str] = {}
    versions: dict[str, str] = {}
    sources: dict[str, str] = {}
    rows: dict[str, str] = {}
    suite: dict[str, Any] = {}
    checkpoints: dict[str, Any] = {}


def read_lock(folder: Path) -> dict[str, Any]:
    """Return what has been pinned so far; empty for a new study.

    Raises
    ------
    StudyError
        The file is not one that was written here.
    """
    path = folder / LOCK_NAME
    if not path.exists():
        return {}
    content: dict[str, Any] = read_json(path)
    try:
        _Lock.model_validate(content, strict=True)
        if "suite" in content:
            suite_from_facts(content["suite"])
    except (ValidationError, SettingsError, StudyError) as error:
        fault = fault_of(error)
        raise StudyError(f"'{path}' is damaged ({fault}); delete it and run again") from None
    return content


def update_lock(folder: Path, section: str, facts: dict[str, Any]) -> None:
    """Add `facts` to one section of the lock file; what it holds already is not written again."""
    content = read_lock(folder)
    now = json.loads(json.dumps({**content.get(section, {}), **facts}))  # as it would be read
    if content.get(section) != now:
        write_json({**content, section: now}, folder / LOCK_NAME)
