"""Whatever is typed: an exit code, one line, whole files.

Verbs get words that nobody meant. What is drawn is the same in every run.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.main import get_command

from pythia_profile.cli import app
from tests.fuzz.damages import assert_clean, bounded

pytestmark = pytest.mark.slow

WORDS = (
    *(
        "1" * 5000,
        "-" + "1" * 5000,
        "-1",
        "0",
        "1",
        "2",
        "10",
        "nan",
        "inf",
        "-inf",
        "1e400",
        "1e-400",
    ),
    *(str(2**63), str(2**64), str(2**31), str(-(2**63) - 1), "1e9", "0.5", "", " ", ",", "1,,2"),
    *("x", "s", "s,s", "0:30:10", "30:0:1", "0:9999999999999:1", "1:2", "1/4", "5/4", "0/0", "☃"),
    *("a/b", "/", ".", "/dev/null", "/proc/1/mem", "x" * 5000, "a\0b", "\udcff", "-h", "--", "~"),
    *(
        "mini",
        "pythia",
        "sample.seed=-1",
        "score.dtype=float99",
        "estimate.level=nan",
        "draws=1e99",
    ),
    *("estimate.draws=" + "1" * 5000, "sample.rows_per_cohort=9223372036854775808", "=", "audit="),
)


def commands(group, words=()):
    """Yield every command below a group, with its words: `lab capacity` as well as `order`."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*words, name))
        else:
            yield " ".join((*words, name)), command


COMMANDS = dict(commands(get_command(app)))
VERBS = sorted(COMMANDS)


def options_of(verb):
    """Every option of a verb, and whether it takes words."""
    for parameter in COMMANDS[verb].params:
        if parameter.param_type_name == "option" and "--help" not in parameter.opts:
            yield parameter.opts[0], 0 if parameter.is_flag else parameter.nargs


def example(verb, folder):
    """Words with which a verb would do its work, or stop before it trains or fetches."""
    suite = folder / "suite"
    return {
        "demo": ["--quick", "--out", folder],  # holds another study
        "order": ["--suite", suite],
        "suites": [suite],
        "audit": [folder],
        "init": [folder, "--suite", "suite"],
        "rows": [
            *(folder / "made", "--documents", suite / "rows"),
            *("--batch-size", 4, "--steps", 10, "--seed", 1, "--row-tokens", 3),
        ],
    }.get(verb, [folder])


@st.composite
def arguments(draw, verb):
    """Draw options of a verb, with words that they may or may not take."""
    every = [(name, count) for name, count in options_of(verb) if name != "--out"]
    words = []
    for name, count in draw(st.lists(st.sampled_from(every), max_size=3)) if every else []:
        words += [name, *(draw(st.sampled_from(WORDS)) for _ in range(count))]
    return words


@pytest.mark.parametrize("verb", VERBS)
def test_arguments_of_verbs(copy, verb, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    folder = copy()
    usual = example(verb, folder)
    examples = min(20, 3 * len([*options_of(verb)])) or 1

    @bounded(examples)
    @given(words=arguments(verb), odd=st.sampled_from(WORDS), where=st.integers(0, 9))
    def each(words, odd, where):
        first = [odd, *usual[1:]] if where == 0 and verb != "power" else usual
        assert_clean([*verb.split(), *first, *words], folder)

    each()
