"""The page that labs share, read as a browser's parser reads it."""

import base64
from html.parser import HTMLParser

import polars as pl
import pytest

from pythia_profile.labs.lab_page import LabPart, write_lab_page

SVG = "<svg xmlns='http://www.w3.org/2000/svg' width='1' height='1'/>"


class Read(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data.strip())


@pytest.fixture
def page(tmp_path):
    (tmp_path / "one.svg").write_text(SVG)
    path = write_lab_page(
        tmp_path / "out" / "report.html",
        title="3 < 4",
        lead="Counted.",
        parts=[
            LabPart("Fingers", "One & more.", tmp_path / "one.svg"),
            LabPart("Toes", "As many."),
        ],
        tables=[("Hands", pl.DataFrame({"of_whom": ["<b>a", None], "bits": [1.0, float("nan")]}))],
        settings='name = "x"',
    )
    return path.read_text()


def test_figures_are_inside_and_nothing_is_asked_for(page):
    read = Read(page)
    images = [attrs for tag, attrs in read.tags if tag == "img"]
    kind, content = images[0]["src"].split(",")

    assert len(images) == 1
    assert kind == "data:image/svg+xml;base64"
    assert base64.b64decode(content).decode() == SVG
    assert images[0]["alt"] == "Fingers"
    assert not {tag for tag, _ in read.tags} & {"script", "link", "iframe", "object"}
    assert not [attrs for _, attrs in read.tags if "http" in str(attrs.get("src", ""))]
    assert "url(" not in page
    assert "@import" not in page


def test_words_are_words_and_missing_numbers_a_dash(page):
    read = Read(page)

    assert {"3 < 4", "One & more.", "As many.", "<b>a", 'name = "x"'} <= {*read.text}
    assert "of whom" in read.text
    assert read.text.count("–") == 2
    assert ("td", {"class": "number"}) in read.tags
    assert not [tag for tag, attrs in read.tags if attrs.get("role") == "alert"]


def test_a_warning_stands_before_the_numbers(tmp_path):
    path = write_lab_page(
        tmp_path / "report.html",
        title="x",
        lead="",
        parts=[LabPart("A part", "Its sentence.")],
        tables=[],
        settings="",
        warning="Not converged.",
    )
    page = path.read_text()

    assert page.index("Not converged.") < page.index("A part")
    assert "<table" not in page


def test_markup_stands_as_it_is_and_settings_can_be_left_out(tmp_path):
    part = LabPart("Marked", "Under it <i>.", markup='a <mark class="plus">b</mark>')
    path = write_lab_page(
        tmp_path / "page.html", title="T", lead="L", parts=[part], tables=[], settings=""
    )
    read = Read(path.read_text())

    assert ("mark", {"class": "plus"}) in read.tags
    assert "Under it <i>." in read.text
    assert "Settings" not in read.text
