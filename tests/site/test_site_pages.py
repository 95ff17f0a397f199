"""The static site: its files, that it works from disk, and that nothing of a stranger's results acts in it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from conftest import Bench, Run
from small_boards import published

from bench.errors import UserError
from bench.site import build, found
from bench.site.submitting import submit

HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>'


class Page(HTMLParser):
    """What a page links to and loads."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append((tag, given))
        for name in ("href", "src"):
            value = given.get(name)
            if value and not value.startswith(("data:", "#")):
                self.links.append(value)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs of one protocol, which sites are made of and which stay as they are."""
    home = tmp_path_factory.mktemp("two")
    return [published(home / "one"), published(home / "two", gain=1.0)]


def test_a_real_run_its_record_and_another_run_make_a_site(
    finished: Run, two: list[Path], tmp_path: Path, bench: Bench
) -> None:
    run = finished.copy(tmp_path).folder
    submit(two[0], tmp_path / "repo")
    out = tmp_path / "site"
    done = bench("site", run, tmp_path / "repo", "--out", out)
    assert done.code == 0, done.err
    assert "2 runs" in done.out
    names = sorted(path.name for path in (out / "run").iterdir())
    assert len(names) == 2
    for name in names:
        assert {"index.html", "report.html", "record.json"} <= {path.name for path in (out / "run" / name).iterdir()}
    images = [path for name in names for path in (out / "run" / name).glob("images/*.png")]
    assert images, "images of the run that has some"
    # Every address leads to a file of the site.
    for file in [*out.glob("*.html"), *out.glob("run/*/index.html")]:
        for link in Page(file).links:
            assert (file.parent / unquote(link.partition("#")[0])).is_file(), f"{file.name}: {link}"


def test_no_number_is_without_its_run_and_digest(two: list[Path], tmp_path: Path) -> None:
    sources = found(two)
    built = build(sources, tmp_path / "site")
    text = (built.folder / "index.html").read_text()
    rows = re.findall(r"<tr data-text=.*?</tr>", text, flags=re.S)
    assert len(rows) == 6, "three methods of two runs"
    for row in rows:
        assert any(one.short in row and f"run/{one.slug}/index.html" in row for one in sources.runs)


def test_runs_that_lie_here_are_compared_pair_by_pair(two: list[Path], tmp_path: Path) -> None:
    built = build(found(two), tmp_path / "site")
    assert built.comparisons == 1
    (page,) = (tmp_path / "site" / "compare").iterdir()
    assert page.name in (tmp_path / "site" / "compare.html").read_text()
    other = published(tmp_path / "three", changes={"steps": 8})
    built = build(found([two[0], other]), tmp_path / "site")
    assert built.comparisons == 0
    assert any("not compared pair by pair" in line for line in built.faults)
    assert not list((tmp_path / "site" / "compare").glob("*")), "pages of the site before are gone"


def test_what_others_wrote_does_nothing_in_a_page(tmp_path: Path) -> None:
    changes = {"title": HOSTILE, "methods": ["standard", {"name": HOSTILE, "use": "inversion"}, "reseed"]}
    built = build(found([published(tmp_path / "run", changes=changes, texts=lambda *_: HOSTILE)]), tmp_path / "site")
    for file in [*built.folder.glob("*.html"), *built.folder.glob("run/*/index.html")]:
        page = Page(file)
        assert not [one for tag, one in page.tags if tag == "img" and one.get("src") == "x"]
        assert not [one for _, one in page.tags if any(name.startswith("on") for name in one)]
        scripts = [one.split("</script>")[0] for one in file.read_text().split("<script")[1:]]
        data = [one.partition(">")[2] for one in scripts if one.startswith(' type="application/json"')]
        assert all(HOSTILE in json.dumps(json.loads(one)).replace('\\"', '"') for one in data), "as text, whole"
        assert not [one for one in scripts if "alert(1)" in one and not one.startswith(' type="application/json"')]
        assert "connect-src" not in file.read_text()
        assert "default-src 'none'" in file.read_text()


def test_no_page_of_another_is_published(tmp_path: Path) -> None:
    run = published(tmp_path / "run")
    (run / "report.html").write_text(f"<p>mine</p>{HOSTILE}")
    (run / "evil.html").write_text(HOSTILE)
    text = (run / "results.json").read_text()
    assert '"images/' in text
    name = re.findall(r'"images/([0-9a-f]+)\.png"', text)[0]
    (run / "results.json").write_text(text.replace(f'"images/{name}.png"', '"evil.html"'))
    built = build(found([run]), tmp_path / "site")
    written = [path for path in built.folder.rglob("*") if path.is_file()]
    assert "evil.html" not in {path.name for path in written}
    assert not [path for path in written if path.suffix == ".html" and "<p>mine</p>" in path.read_text()]


def test_a_folder_that_is_no_site_is_not_written_over(tmp_path: Path) -> None:
    run = published(tmp_path / "run")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(UserError, match="no site of this program"):
        build(found([run]), tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    (tmp_path / "site").mkdir()
    build(found([run]), tmp_path / "site")
    (tmp_path / "site" / "CNAME").write_text("results.example")
    build(found([run]), tmp_path / "site")
    assert (tmp_path / "site" / "CNAME").is_file(), "what a server needs beside the pages stays"


def test_a_broken_run_takes_nothing_else_down_with_it(tmp_path: Path, bench: Bench) -> None:
    published(tmp_path / "runs" / "good")
    (published(tmp_path / "runs" / "bad") / "results.json").write_text("{}")
    done = bench("site", tmp_path / "runs", "--out", tmp_path / "site")
    assert done.code == 0
    assert "1 runs" in done.out
    assert "bad" in done.err
    assert "bad" in (tmp_path / "site" / "index.html").read_text()
    assert "no results there" in bench("site", tmp_path / "site", "--out", tmp_path / "other").error
