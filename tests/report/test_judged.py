"""Each check has a verdict, by a number that is the table's, and rules that are stated."""

import polars as pl
import pytest

from pythia_profile.profiles.sentences import check_sentences
from pythia_profile.report.judged import CHECKS_OF_EFFECTS, actions, judge
from tests.report.conftest import OUTCOME
from tests.report.test_page import checks, page_of, text_of


def verdicts(tables):
    return {
        (one.check, one.size): (one.verdict, one.number)
        for one in judge(tables, OUTCOME, ["xs", "s"])
    }


def test_verdicts_are_those_of_the_tables(tables):
    found = verdicts({**tables, **checks()})

    assert found == {
        ("before", "xs"): ("robust", "p = 0.300"),
        ("first", "xs"): ("robust", "M̄ any"),
        ("average", "xs"): ("fragile", "M̄ 0.5"),
        ("single", "xs"): ("robust", "+0.10 se without 10"),
        ("alike", "xs"): ("robust", "p = 0.500"),
        ("regression", "xs"): ("robust", "0.080"),
    }


@pytest.mark.parametrize(
    ("table", "change", "check", "verdict"),
    [
        ("assignment", {"p_adjusted": 0.004}, "order", ("fragile", "p = 0.004")),
        ("placebo", {"p_value": 0.004}, "before", ("fragile", "p = 0.004")),
        ("placebo", {"p_value": 0.03}, "before", ("cannot be told", "p = 0.030")),
        ("sensitivity", {"breakdown_m_bar": 0.0}, "average", ("cannot be told", "M̄ 0")),
        ("sensitivity", {"breakdown_m_bar": 1.0}, "average", ("robust", "M̄ 1")),
        ("leave_one_out", {"change_in_se": -1.2}, "single", ("fragile", "-1.20 se without 10")),
        ("leave_one_out", {"suspect": True}, "single", ("fragile", "step 10 stands out")),
        ("balance", {"p_value": 0.001}, "alike", ("fragile", "p = 0.001")),
        ("alternatives", {"estimate": -0.08}, "regression", ("fragile", "-0.080")),
        ("alternatives", {"estimate": 0.015}, "regression", ("cannot be told", "0.015")),
    ],
)
def test_a_number_beyond_its_rule_changes_the_verdict(tables, table, change, check, verdict):
    order = pl.DataFrame({"size": "xs", "outcome": OUTCOME, "p_adjusted": [0.5, 0.4]})
    known = {**tables, **checks(), "assignment": order}
    known[table] = known[table].with_columns(**{name: pl.lit(v) for name, v in change.items()})

    assert verdicts(known)[check, "xs"] == verdict


def test_retraining_is_a_check_of_its_size(tables):
    line = {"size": "xs", "outcome": OUTCOME, "by": "all", "bias": 0.05, "bias_se": 0.01}

    found = verdicts({**tables, "counterfactual_summary": pl.DataFrame([line])})

    assert found["retrained", "xs"] == ("fragile", "off by +5.0 se")


def test_prose_stands_only_where_something_is_to_do(tables):
    known = {**tables, **checks()}
    found = judge(known, OUTCOME, ["xs"])

    assert [line.split(" (")[0] for line in actions(found)] == [CHECKS_OF_EFFECTS["average"].name]
    page = page_of(known)
    table = text_of(page[page.index('class="stack checks"') :].split("</table>")[0])
    assert "Later, trends not parallel fragile M̄ 0.5 –" in table
    for check in CHECKS_OF_EFFECTS.values():
        assert (check.name in table) == (check.name not in ("Order random", "Against retraining"))


@pytest.mark.parametrize("change", [-1.2, 0.4, 1.6])
def test_verdict_and_words_name_the_same_checkpoint(tables, change):
    known = {**tables, **checks()}
    known["leave_one_out"] = known["leave_one_out"].with_columns(change_in_se=pl.lit(change))

    verdict, _ = verdicts(known)["single", "xs"]
    said = " ".join(check_sentences(known))

    assert (verdict == "fragile") == (abs(change) > 1)
    assert f"by more than 1 standard error: {10 if abs(change) > 1 else 'none'};" in said
