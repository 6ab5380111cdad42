"""The demonstration, run once as a user runs it, in a cache of its own."""

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Demo:
    """Where a demonstration ran, and what it said."""

    study: Path
    environment: dict[str, str]
    out: str = ""

    def again(self) -> "subprocess.CompletedProcess[str]":
        """Run the demonstration in this folder and cache."""
        words = ["demo", "--quick", "--out", str(self.study)]
        return subprocess.run(
            [sys.executable, "-m", "pythia_profile", *words],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Demo:
    folder = tmp_path_factory.mktemp("demo")
    begun = Demo(folder / "study", {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")})
    done = begun.again()
    assert done.returncode == 0, done.stderr
    return replace(begun, out=done.stdout)
