"""The table of faults: each has a test, and each test that it names exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINES = re.findall(
    r"^\| (\d+) \| .* \| (`test_.*`) \|$",
    (ROOT / "docs" / "faults.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)
TESTS = {
    node.name
    for path in (ROOT / "tests").rglob("test_*.py")
    for node in ast.parse(path.read_text(encoding="utf-8")).body
    if isinstance(node, ast.FunctionDef)
}


def test_every_fault_stands_in_the_table_once():
    numbers = [int(number) for number, _ in LINES]

    assert sorted(numbers) == [*range(1, len(numbers) + 1)]
    assert len(numbers) >= 64


@pytest.mark.parametrize(("number", "names"), LINES)
def test_every_fault_has_a_test_that_exists(number, names):
    found = re.findall(r"`(test_\w+)`", names)

    assert found
    assert not {*found} - TESTS
