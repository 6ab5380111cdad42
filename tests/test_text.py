"""Tables of text: numbers to the right, folded to the terminal, whole in a pipe."""

import pytest

from pythia_profile.text import text_table

LINES = [
    {"size": "70m", "units": 154, "rate": 1e-3, "done": True, "why": "a reason " * 8},
    {"size": "12b", "units": 1540, "rate": None, "done": False, "why": "[bold]as it stands[/]"},
]
COLUMNS = ["size", "units", "rate", "done", "why"]


@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_table_folds_and_loses_no_word(width):
    text = text_table(LINES, COLUMNS, width)

    assert max(map(len, text.splitlines())) <= width
    for word in ("70m", "154", "1,540", "0.001", "–", "yes", "no"):
        assert word in text
    assert text.count("reason") == 8


def test_a_table_in_a_pipe_is_one_line_a_row_and_takes_no_markup(monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")

    head, first, second = text_table(LINES, COLUMNS).splitlines()

    assert head.split() == COLUMNS
    assert first.index("154") + 3 == second.index("1,540") + 5
    assert second.endswith("[bold]as it stands[/]")


def test_the_terminal_decides_how_wide_a_table_is(monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "50")

    assert max(map(len, text_table(LINES, COLUMNS).splitlines())) <= 50
