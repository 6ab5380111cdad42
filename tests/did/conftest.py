"""Fixtures of the room `did`."""

import pytest

from tests.did.planted import planted


@pytest.fixture
def small():
    """Three cohorts and never-treated rows at five checkpoints."""
    return planted()
