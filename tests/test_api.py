"""The package as a notebook sees it: every public name resolves, importing is light."""

import subprocess
import sys

import polars as pl
import pytest
from matplotlib import pyplot as plt

import data_order
import pythia_profile as pp
from pythia_profile import did, scoring


@pytest.mark.parametrize("package", [pp, data_order, did, scoring])
def test_every_public_name_is_there_and_documented(package):
    for name in package.__all__:
        value = getattr(package, name)
        if callable(value):
            assert value.__doc__, name
    assert set(package.__all__) <= set(dir(package))


@pytest.mark.parametrize("package", [pp, did])
def test_completion_offers_public_names_only(package):
    assert dir(package) == sorted(package.__all__)


@pytest.mark.parametrize("package", [pp, data_order, did, scoring])
def test_a_misspelt_name_is_an_attribute_error(package):
    with pytest.raises(AttributeError, match="has no attribute 'heatmpa'"):
        package.heatmpa  # noqa: B018


def test_importing_the_packages_loads_no_heavy_library():
    code = (
        "import sys, data_order, pythia_profile, pythia_profile.cli; "
        "print([m for m in ('torch', 'numpy', 'polars', 'matplotlib', 'pandas', 'scipy') "
        "if m in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_every_stage_in_one_call_from_order_to_heatmap(tiny_suite):
    rows = pp.sample_rows(
        tiny_suite, pp.Sampling(rows_per_cohort=16, batches_per_cohort=0, never_treated=96)
    )
    scores = pp.score(tiny_suite, rows, ["xs"], [0, 16, 32])
    effects = pp.estimate(rows, scores, pp.Estimation(draws=20))
    profiles = pp.profile(effects, suite=tiny_suite)

    ax = pp.heatmap(effects.att)

    assert effects.att["checkpoint"].unique().sort().to_list() == [0, 16, 32]
    assert set(profiles["kind"]) >= {"instantaneous", "residual"}
    assert len(ax.figure.axes) == 2
    assert pp.figures.heatmap is pp.heatmap
    plt.close(ax.figure)


def test_suites_go_by_name(tiny_suite):
    by_folder = pp.sample_rows(str(tiny_suite.root))

    assert by_folder.equals(pp.sample_rows(tiny_suite))
    assert pp.describe_suite("pythia")["steps"] == 143_000
    with pytest.raises(pp.ProfileError, match="suite: got int, expected a suite, its name, or"):
        pp.sample_rows(3)


def test_the_same_words_give_the_same_study_from_every_entrance(tmp_path):
    from pythia_profile.cli import app
    from pythia_profile.cli.app import run

    assert run(app, ["init", str(tmp_path), "--suite", "mini", "--sizes", "s,xs"]) == 0

    study = pp.open_study(tmp_path)
    assert (
        study
        == pp.Study(suite="mini", sizes=("xs", "s"))
        == pp.Study(suite="mini", sizes=["s", "xs"])
    )
    assert study.sample == pp.Study(suite="mini", sizes=("xs",), sample=pp.Sampling(seed=0)).sample
    assert study.sample.never_treated == 1024  # what the suite holds


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sizes": ("xxs",)}, "no size in suite 'mini': 'xxs'; did you mean 'xs'"),
        ({"sizes": ("xs",), "checkpoints": (0, 33)}, "no checkpoint 33 of mini xs"),
    ],
)
def test_a_study_is_checked_when_it_is_made(settings, message):
    with pytest.raises(pp.ProfileError, match=message):
        pp.Study(suite="mini", **settings)


def test_rows_in_batches_are_clustered_alike_by_every_entrance(planted):
    rows, scores = planted(lambda *_: 0.5)
    one_by_one = rows.with_columns(batch=pl.col("row_id"))

    for given, by in ((rows, "by batch"), (one_by_one, "by row, no two rows share a batch")):
        notes = " ".join(pp.estimate(given, scores, pp.Estimation(draws=20)).notes)
        assert f"clusters='auto': {by}" in notes


def test_sizes_are_in_order_of_size_whatever_the_order_of_the_file(planted):
    rows, scores = planted(lambda *_: 0.5, sizes=("410m", "70m", "1.4b"))
    turned = scores.sort("size", descending=True)

    one, other = (pp.check(rows, given, pp.Estimation(draws=20)) for given in (scores, turned))

    assert one.contrasts.equals(other.contrasts)
    pairs = one.contrasts.filter(between="sizes").select("group_a", "group_b").unique()
    assert set(pairs.rows()) == {("410m", "70m"), ("1.4b", "70m"), ("1.4b", "410m")}


def test_pandas_frames_give_the_same_effects(planted):
    rows, scores = planted(lambda *_: 0.5)
    pandas = pytest.importorskip("pandas")
    of_pandas = [pandas.DataFrame(frame.to_dict(as_series=False)) for frame in (rows, scores)]
    assert of_pandas[0]["treatment_step"].dtype.kind == "f"  # pandas has no missing whole number

    ours, theirs = (
        pp.estimate(*given, pp.Estimation(draws=20)) for given in ((rows, scores), of_pandas)
    )

    assert ours.att.equals(theirs.att)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r, s: pp.estimate(s, r), "expected the rows first, then the scores"),
        (lambda _, s: pp.estimate("my-study", s), "got str, expected a polars or pandas frame"),
        (lambda *_: pp.plot_heatmap("folder"), "table 'to draw': got str, expected a polars or"),
        (lambda *_: pp.plot_event_time(3), "table 'to draw': got int, expected a polars or"),
        (lambda *_: pp.plot_agreement("x"), "table 'to draw': got str, expected a polars or"),
        (lambda *_: pp.create_study("x", {"suite": "mini"}), "got dict, expected pp.Study"),
    ],
)
def test_a_misuse_is_named(planted, call, message):
    rows, scores = planted(lambda *_: 0.5)

    with pytest.raises(pp.ProfileError, match=message):
        call(rows, scores)


TABLES = {
    "plot_heatmap": "att",
    "plot_event_time": "profiles",
    "plot_instantaneous": "profiles",
    "plot_residual": "profiles",
    "plot_agreement": "agreement",
    "plot_counterfactual": "counterfactual",
    "plot_prediction": "prediction",
    "plot_seeds": "findings",
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", TABLES)
def test_a_figure_given_another_table_names_the_one_that_it_draws(planted, name):
    rows, scores = planted(lambda *_: 0.5, sizes=("s", "m"))
    found = pp.estimate(rows, scores, pp.Estimation(draws=20))
    given = {"att": found.att, "profiles": pp.profile(found), "agreement": pp.agreement(found)}
    others = {**given, "rows": rows, "scores": scores, "placebo": found.placebo}
    others.pop(TABLES[name], None)
    if name == "plot_heatmap":
        others["turned"] = found.att.with_columns(pl.col("att").cast(pl.String))

    for table in others.values():
        with pytest.raises(pp.ProfileError, match=f"the table '{TABLES[name]}', as|'att' is Str"):
            getattr(pp, name)(table)


@pytest.mark.parametrize("wrong", [{"ax": 3}, {"outcome": 3}, {"size": 3}, {"size": "zz"}])
def test_a_figure_names_an_odd_argument(planted, wrong):
    found = pp.estimate(*planted(lambda *_: 0.5), pp.Estimation(draws=20))
    ((name, value),) = wrong.items()

    with pytest.raises(pp.ProfileError, match=rf"{name}.*(got int|'{value}')"):
        pp.plot_heatmap(found, **wrong)
    with pytest.raises(pp.ProfileError, match=rf"{name}.*(got int|'{value}')"):
        pp.plot_event_time(pp.profile(found), **wrong)


ODD = (None, 3, 1.5, b"x", [], {}, pl.DataFrame(), "no/such/folder")
TAKES = {
    "open_study": lambda x: pp.open_study(x),
    "run_study": lambda x: pp.run_study(x),
    "plan_study": lambda x: pp.plan_study(x),
    "compare_studies": lambda x: pp.compare_studies(x, x),
    "export_tables": lambda x: pp.export_tables(x),
    "import_tables": lambda x: pp.import_tables(x, x),
    "two_checkpoints": lambda x: pp.two_checkpoints(x, x, x, read=x, held_out=x),
    "check_suite": lambda x: pp.check_suite(x),
    "open_suite": lambda x: pp.open_suite(x),
    "audit": lambda x: pp.audit(x),
    "mini_suite": lambda x: pp.mini_suite(
        None if isinstance(x, list) else x
    ),  # none: those that are there
    "describe_suite": lambda x: pp.describe_suite(x),
    "describe_size": lambda x: pp.describe_size("pythia", x),
    "sample_rows": lambda x: pp.sample_rows(x),
}


@pytest.mark.parametrize("name", TAKES)
@pytest.mark.parametrize("odd", ODD, ids=lambda odd: type(odd).__name__)
def test_an_argument_of_another_kind_is_named_in_a_line(name, odd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(pp.ProfileError) as error:
        TAKES[name](odd)

    assert "\n" not in str(error.value)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("name", ["estimate", "profile", "check", "agreement"])
def test_settings_that_are_none_are_named(planted, name):
    with pytest.raises(pp.ProfileError, match=r"settings: got dict, expected pp.Estimation\("):
        getattr(pp, name)(*planted(lambda *_: 0.5), {"draws": 20})


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        (pl.col("checkpoint") / 10, "at every checkpoint all rows have the same value"),
        (pl.col("row_id") / 10, "no row's value ever changes"),
    ],
)
def test_outcomes_that_tell_nothing_apart_are_said_to(planted, outcome, message):
    rows, scores = planted(lambda *_: 0.5)

    with pytest.raises(pp.ProfileError, match=f"s: outcome 'log_likelihood': {message}"):
        pp.estimate(rows, scores.with_columns(log_likelihood=outcome))


def test_results_print_in_a_few_lines(planted):
    rows, scores = planted(lambda *_: 0.5)
    one = pp.estimate(rows, scores, pp.Estimation(draws=20)).runs[0]
    means = did.aggregate(one.att, "event_time")

    for shown in (one, one.att, one.panel, means, means - means, did.placebo(one.att, draws=20)):
        assert len(repr(shown)) < 1200
        assert len(str(shown).splitlines()) < 20
    text = str(means)
    assert all(f"{estimate:.4g}" in text for estimate in means.estimate)


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("50% & a_b #1", r"50\% \& a\_b \#1"),
        ("0.1 ± 0.2", r"0.1 $\pm$ 0.2"),
        ("a\\b {c} ~^", r"a\textbackslash{}b \{c\} \textasciitilde{}\textasciicircum{}"),
    ],
)
def test_latex_is_escaped(text, latex):
    table = pp.to_latex(pl.DataFrame({"x": [text]}), caption="A caption", label="tab:a")

    assert f"{latex} \\\\" in table.splitlines()
    assert table.startswith("\\begin{table}")
    assert "\\label{tab:a}" in table
