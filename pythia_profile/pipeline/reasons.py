"""Why a stage is out of date: what differs between its record in the lock file and the present.

In: plain facts of a stage, as recorded and as they are. Out: short phrases. Nothing is read here.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pythia_profile.pipeline.fingerprints import MISSING

__all__ = ["differences"]

_LONGEST = 60
"""Characters of a value that are printed."""
_SECTIONS = {"estimation": "estimate"}
"""Names under which a stage keeps a section of study.toml, where they differ."""


def differences(record: Mapping[str, Any], present: Mapping[str, Any]) -> list[str]:
    """List what differs; of a record that kept no settings, only that something does.

    Parameters
    ----------
    record, present : `settings`, hashes of `inputs` and `outputs`, and `version`.

    Examples
    --------
    >>> record = {"settings": {"estimate": {"draws": 1000}}, "inputs": {"rows.parquet": "a"}}
    >>> present = {"settings": {"estimate": {"draws": 500}}, "inputs": {"rows.parquet": "b"}}
    >>> differences(record, present)
    ['estimate.draws 1000 → 500', 'rows.parquet changed']
    """
    if "settings" not in record:
        return ["settings or inputs changed"]
    # as JSON has it: a tuple of settings is a list in the lock file
    old, new = (
        _flat(json.loads(json.dumps(x["settings"], default=str))) for x in (record, present)
    )
    found = [
        f"{name} {_short(old.get(name))} → {_short(new.get(name))}"
        for name in [*new, *(name for name in old if name not in new)]
        if old.get(name) != new.get(name)
    ]
    found += _changed(record.get("inputs", {}), present["inputs"])
    if (before := record.get("version")) != (now := present.get("version")):
        found.append(f"pythia-profile {before} → {now}")
    return found + list(_changed(record.get("outputs", {}), present.get("outputs", {})))


def _changed(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    for name, value in new.items():
        before = old.get(name, MISSING)
        if before == value:
            continue
        words = {MISSING: "is missing"}.get(value, "is new" if before == MISSING else "changed")
        yield f"{name} {words}"


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Name every setting by its section: `estimate.draws`."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            section = _SECTIONS.get(name, name)
            found |= {f"{section}.{inner}": each for inner, each in value.items()}
        else:
            found[name] = value
    return found


def _short(value: Any) -> str:
    text = value if isinstance(value, str) and value else json.dumps(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 2]} …"
