"""The report as a browser shows it: on a screen, a phone, in the dark, printed, without script."""

import re
import time
from importlib.resources import files

import polars as pl
import pytest

from pythia_profile.did.settings import Estimation
from pythia_profile.figures import draw_all
from pythia_profile.profiles.agreement import agreement
from pythia_profile.profiles.diagnostics import check
from pythia_profile.profiles.estimates import estimate
from pythia_profile.profiles.profile import profile
from pythia_profile.report.page import write_report
from pythia_profile.store import write_json
from pythia_profile.study import new_study
from tests.report.browser import Page
from tests.report.test_tables import remembered

pytestmark = pytest.mark.slow
SCREENS = [(1400, "light"), (1400, "dark"), (390, "light"), (390, "dark")]
OPEN = "document.querySelectorAll('details').forEach(fold => fold.open = true)"


def fading(size, cohort, checkpoint):
    return (0.3 + cohort / 100) * 0.5 ** ((checkpoint - cohort) / 10)


@pytest.fixture(scope="module")
def tables(planted):
    rows, scores = planted(fading, sizes=("xs", "s", "m", "l"))
    found = estimate(rows, scores, Estimation(draws=100))
    rates = pl.col("cohort").cast(pl.Float64).alias("learning_rate") / 1e4
    return {
        "att": found.att,
        "placebo": found.placebo,
        "profiles": profile(found).with_columns(rates),
        "agreement": agreement(found),
        **check(found).tables,
        "remembered": remembered("<b>bold</b> "),
    }


@pytest.fixture(scope="module")
def report(tables, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "planted"
    study = new_study("planted", ("xs", "s", "m", "l"))
    draw_all(tables, folder / "figures", study.outcomes)
    write_json({"versions": {"torch": "2.13"}, "notes": {"att": ["a note"]}}, folder / "lock.json")
    return write_report(folder, study, tables)


@pytest.fixture(scope="module")
def browser():
    page = Page()
    yield page
    page.close()


def faults(browser):
    """What axe finds that is moderate or worse."""
    axe = files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    browser.ask("Runtime.evaluate", expression=axe)
    found = browser.run(
        "axe.run(document, {resultTypes: ['violations']}).then(all => all.violations.map("
        "one => [one.impact, one.id, one.nodes.map(node => node.html.slice(0, 90))]))"
    )
    return [fault for fault in found if fault[0] != "minor"]


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_axe_finds_no_fault_and_the_page_asks_for_nothing(report, browser, width, scheme):
    browser.show(report, width=width, scheme=scheme)
    browser.run(OPEN)

    assert faults(browser) == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [report.as_uri()]
    assert browser.complaints == []


def test_axe_would_find_a_fault(report, browser):
    browser.show(report)
    browser.run("document.body.append(new Image())")

    assert {fault[1] for fault in faults(browser)} >= {"image-alt"}


def test_the_page_is_small_and_says_little_outside_its_folds(report, browser):
    browser.show(report)

    words = browser.run(
        "(() => { const all = document.body.cloneNode(true);"
        "all.querySelectorAll('details, script, style').forEach(one => one.remove());"
        "return all.textContent.split(/\\s+/).filter(Boolean).length })()"
    )
    assert 200 < words <= 900
    assert report.stat().st_size <= 2_000_000


def test_the_table_and_one_picture_are_above_the_fold(report, browser):
    browser.show(report, width=1400, height=900)

    ends = browser.run(
        "['#table-1', '#figure-1 .stage'].map("
        "name => document.querySelector(name).getBoundingClientRect().bottom)"
    )
    assert max(ends) <= 900


@pytest.mark.parametrize("width", [1400, 390])
def test_nothing_wide_widens_the_page_and_tables_are_whole(report, browser, width):
    browser.show(report, width=width)
    browser.run(OPEN)

    assert browser.run("document.documentElement.scrollWidth") == width
    cut = browser.run(
        "[...document.querySelectorAll('table')].filter(table =>"
        "table.scrollWidth > table.parentNode.clientWidth + 1).map(one => one.caption.innerText)"
    )
    assert cut == []


def test_figures_that_stand_beside_each_other_fit_a_screen(report, browser):
    browser.show(report)

    cut = browser.run(
        "[...document.querySelectorAll('.beside .scroll')].filter(box =>"
        "box.scrollWidth > box.clientWidth + 1).length"
    )
    assert cut == 0
    assert browser.run("document.querySelectorAll('.beside .scroll').length") == 2


def test_on_a_phone_the_heatmap_scrolls_inside_with_its_color_bar(report, browser):
    browser.show(report, width=390)

    box, bar = browser.run(
        "(() => { const box = document.querySelector('[id^=heatmap-axes]').closest('.scroll');"
        "const names = [...box.querySelectorAll('text')].filter(t => /ATT/.test(t.textContent));"
        "return [[box.clientWidth, box.scrollWidth], names.length] })()"
    )
    assert box[0] <= 390 < box[1]
    assert bar == 1


@pytest.mark.parametrize("width", [1400, 480, 390])
def test_what_is_cut_says_that_it_scrolls_and_nothing_else_does(report, browser, width):
    browser.show(report, width=width)
    browser.run(OPEN)
    browser.run("new Promise(done => requestAnimationFrame(() => setTimeout(done, 100)))")

    boxes = browser.run(
        "[...document.querySelectorAll('.scroll')].map(box => ["
        "box.scrollWidth > box.clientWidth + 1,"
        "getComputedStyle(box, '::before').content.includes('scrolls sideways')])"
    )
    assert [said for _, said in boxes] == [cut for cut, _ in boxes]
    assert any(cut for cut, _ in boxes) == (width < 500)


def center(browser, size, row, rows, column, columns):
    """Middle of a cell of the heatmap, in the window."""
    return browser.run(
        "(() => { const cells = document.getElementById("
        f"'heatmap-cells-{size}'); cells.scrollIntoView({{block: 'center'}});"
        "const area = cells.getBoundingClientRect(); return ["
        f"area.left + area.width * {(column + 0.5) / columns},"
        f"area.top + area.height * {(row + 0.5) / rows}] }})()"
    )


def numbers(text):
    return [float(n) for n in re.findall(r"-?\d+\.\d{4}", text)]


@pytest.mark.parametrize(("size", "row", "column"), [("xs", 0, 1), ("l", 2, 1), ("s", 1, 3)])
def test_pointing_at_a_cell_shows_its_line_of_the_table(tables, report, browser, size, row, column):
    browser.show(report)
    x, y = center(browser, size, row, 3, column, 4)

    browser.mouse("mouseMoved", x, y)

    said = browser.run("document.getElementById('tip').textContent")
    cell = tables["att"].filter(size=size, cohort=10 * (row + 1), checkpoint=10 * column)
    line = cell.row(0, named=True)
    assert numbers(said) == [round(line[name], 4) for name in ("att", "lower", "upper")]
    assert f"n {line['n_treated']} treated and {line['n_control']} control rows" in said
    assert not browser.run("document.getElementById('tip').hidden")


def test_a_click_shows_the_cohorts_path_and_the_checkpoints_column(tables, report, browser):
    browser.show(report)
    x, y = center(browser, "m", 1, 3, 2, 4)
    for kind in ("mousePressed", "mouseReleased"):
        browser.mouse(kind, x, y)

    titles = browser.run(
        "[...document.querySelectorAll('.paths figcaption')].map(one => one.textContent)"
    )
    assert titles == [
        "Path of cohort 20 over checkpoints, m",
        "Column of checkpoint 20 over cohorts, m",
    ]
    heights = browser.run(
        "[...document.querySelectorAll('.paths polyline')].map("
        "line => [...line.points].map(point => point.y))"
    )
    cells = tables["att"].filter(size="m").sort("cohort", "checkpoint")
    path, column = cells.filter(cohort=20)["att"], cells.filter(checkpoint=20)["att"]
    for drawn, known in zip(heights, (path, column), strict=True):
        # straight lines on the screen: the order of heights is that of the effects, upside down
        assert pl.Series(drawn).arg_sort(descending=True).to_list() == known.arg_sort().to_list()


def test_the_profile_can_be_read_with_the_keyboard(tables, report, browser):
    browser.show(report)
    browser.run("document.querySelector('.explore select:last-of-type').focus()")
    browser.run(
        "(() => { const [size, cohort, checkpoint] = document.querySelectorAll('.explore select');"
        "size.value = 0; size.dispatchEvent(new Event('change'));"
        "cohort.value = 1; checkpoint.value = 3;"
        "checkpoint.dispatchEvent(new Event('change')) })()"
    )

    said = browser.run("document.querySelector('.explore output').textContent")
    line = tables["att"].filter(size="xs", cohort=20, checkpoint=30).row(0, named=True)
    assert numbers(said) == [round(line[name], 4) for name in ("att", "lower", "upper")]


def test_without_script_the_picture_is_there_and_no_control_that_does_nothing(report, browser):
    browser.ask("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.ask("Page.navigate", url=report.as_uri())
        time.sleep(1)  # without script there is no clock in the page
        shown = browser.run(
            "[document.querySelector('#heatmap-cells-xs').getBoundingClientRect().width,"
            "document.querySelector('.explore').hidden]"
        )
    finally:
        browser.ask("Emulation.setScriptExecutionDisabled", value=False)
    assert shown[0] > 100
    assert shown[1] is True


def test_a_table_sorts_both_ways_and_back(report, browser):
    browser.show(report)
    column = (
        "[...document.querySelectorAll('#table-1 tbody tr')].map(row => row.cells[5].textContent)"
    )
    press = "document.querySelectorAll('#table-1 th button')[5].click()"  # p before reading
    first, order, sorts = browser.run(column), [], []

    for _ in range(3):
        browser.run(press)
        order.append(browser.run(column))
        sorts.append(browser.run("document.querySelectorAll('#table-1 th')[5].ariaSort"))

    assert sorts == ["ascending", "descending", "none"]
    assert order == [sorted(first, key=float), sorted(first, key=float, reverse=True), first]
    assert order[0] != first


def test_print_opens_every_fold_and_cuts_nothing(report, browser):
    browser.show(report, width=794)  # 210 mm
    browser.ask("Emulation.setEmulatedMedia", media="print")
    shut, wide = browser.run(
        "[[...document.querySelectorAll('details')].filter("
        "fold => fold.getBoundingClientRect().height < 40).map(fold => fold.innerText),"
        "[...document.querySelectorAll('svg, table, pre')].filter(one =>"
        "one.getBoundingClientRect().right > 795).map(one => one.outerHTML.slice(0, 80))]"
    )
    links, saved = browser.run(
        "['figcaption a.term', 'figcaption a[download]'].map("
        "kind => getComputedStyle(document.querySelector(kind)).display)"
    )
    browser.ask("Emulation.setEmulatedMedia", media="")

    assert links != "none"  # words of a sentence
    assert saved == "none"
    assert shut == []
    assert wide == []


def test_every_number_of_the_result_is_in_the_tables(tables, report, browser):
    browser.show(report)
    browser.run(OPEN)
    values = [
        value
        for table in tables.values()
        for column in table.iter_columns()
        if column.dtype.is_float()
        for value in column.drop_nulls().drop_nans()
    ]
    known = {f"{abs(value):.{places}f}" for value in values for places in (3, 4)}

    text = browser.run(
        "['#result table', 'h1'].map(name => [...document.querySelectorAll(name)].map("
        "one => one.innerText).join(' ')).join(' ')"
    )
    shown = re.findall(r"\d+\.\d{3,4}", text)
    assert len(shown) > 50
    assert set(shown) <= known
