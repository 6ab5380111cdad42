import numpy as np
import polars as pl
import pytest

import pythia_profile as pp
from pythia_profile.errors import TableError
from pythia_profile.findings.statements import sentences, topics
from pythia_profile.findings.whole import study_findings
from pythia_profile.tables import FOUND
from tests.findings.planted_sizes import Design, grid, planted, suite_of

COHORTS, CHECKPOINTS = grid(16)
SINCE = (CHECKPOINTS - COHORTS[:, None]).clip(0)
PARAMETERS = {"a": 10**5, "b": 3 * 10**5}


@pytest.fixture(scope="module")
def found():
    rng = np.random.default_rng(0)
    shape = 0.1 * (1 + 0.4 * rng.normal(size=(16, 1))) * np.exp(-SINCE / 400) + 0.05
    estimates = planted(rng, {"a": shape, "b": 1.5 * shape})
    return pp.study_findings(estimates, suite=suite_of(PARAMETERS))


def test_every_table_keeps_its_contract_and_has_lines(found):
    for table in FOUND:
        lines = found.tables[table.name]
        assert len(lines), table.name
        assert {*table.columns} <= {*lines.columns}


def test_each_sentence_is_made_of_the_tables_alone(found):
    def changed(table):
        return table.with_columns(pl.selectors.float() * 2)

    written = {name: table.clone() for name, table in found.tables.items()}
    other = {name: changed(table) for name, table in written.items()}

    assert sentences(written) == found.sentences  # nothing else is needed
    assert len(sentences(other)) == len(found.sentences)
    assert not {*sentences(other)} & {*found.sentences}  # and every one has numbers of theirs


def test_sentences_stand_under_headings_and_name_size_and_interval(found):
    told = {topic.heading: topic for topic in topics(found.tables)}

    assert list(told) == ["Learning rate", "Large from small", "Decay", "Bits"]
    assert all(topic.meaning.endswith(".") for topic in told.values())
    first = told["Large from small"].sentences[0]
    assert first.startswith("b: each cell, from a on other rows: skill 0.")


def test_tables_without_lines_and_tables_that_are_missing_say_nothing():
    empty = {table.name: pl.DataFrame(schema=table.columns) for table in FOUND}

    assert sentences(empty) == []
    assert sentences({}) == []


def test_one_outcome_of_several_is_chosen(found):
    assert sentences(found.tables, "log_likelihood") == found.sentences
    assert sentences(found.tables, "accuracy") == []


def test_one_size_without_a_suite_has_what_can_be_had():
    estimates = planted(np.random.default_rng(1), {"a": np.full((16, 17), 0.2)})
    told = study_findings(estimates)

    assert len(told.decay)
    assert set(told.bits["per"]) == {"row"}
    assert not len(told.prediction)
    assert not len(told.findings)
    assert "decay (15 lines)" in repr(told)


@pytest.mark.parametrize(("cohorts", "noise"), [(1, 0.05), (2, 0.05), (8, 0.0)])
def test_studies_that_allow_little_say_what_they_can(cohorts, noise):
    design = Design(cohorts=cohorts, rows=6, noise=noise)
    tau = {"a": np.full((cohorts, cohorts + 1), 0.1), "b": np.full((cohorts, cohorts + 1), 0.2)}
    estimates = planted(np.random.default_rng(2), tau, design)
    told = study_findings(estimates, suite=suite_of(PARAMETERS, cohorts=cohorts))

    assert len(told.bits)
    assert not len(told.prediction)  # of one cohort, of two, or where nothing varies
    assert told.sentences


def test_a_list_of_anything_but_estimates_is_refused():
    with pytest.raises(TableError, match="expected what `estimate` returned"):
        study_findings([pl.DataFrame()])
