"""How long the report of a large run takes to write and to open in Chromium.

    python tests/perf/scale.py --folder DIR    (100,000 images of 10 methods x 10 metrics: 10,000 pairs)
    python tests/perf/scale.py --folder DIR --prompts 50000 --methods 2    (100,000 pairs)
    python tests/perf/large_report.py --folder DIR [--opened 5] [--times 10]

results.json and report.html hold 2,000 pairs, evenly spaced over all; the data files beside the page have every pair,
and so has `bench serve`, page by page from the ledger. Times in Chromium are medians of `--opened` fresh tabs: to the
first pair that a reader can see, then of what a reader does with all pairs, each until the list shows it. `--times`
writes a page of so many copies of the run's pairs too: what data files take alone, without the results of them. Needs
playwright and a Chromium on the path.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

FAR = 90_000
"""Number of the pair that is jumped to, or the last one of fewer."""


def peak() -> float:
    """MiB that this process has used at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def written(folder: Path, times: int, place: Path) -> list[Path]:
    """Write results, report and data files, and those of copies into `place`; prints what each takes.

    Returns the pages.
    """
    from bench import report
    from bench.analysis import results
    from bench.report import html, paged
    from bench.store import Ledger

    at, cpu = time.perf_counter(), time.process_time()

    def said(what: str, size: float) -> None:
        nonlocal at, cpu
        now, used = time.perf_counter(), time.process_time()
        print(f"{what}: written in {now - at:.1f} s ({used - cpu:.1f} s of the processor), {size:.1f} MiB; "
              f"peak so far {peak():,.0f} MiB", flush=True)  # fmt: skip
        at, cpu = time.perf_counter(), time.process_time()

    found, every = results.written(Ledger(folder))
    said("results.json", mib(folder / "results.json"))
    assert every is not None, "a run of no more pairs than results carry has no data files"
    paged.write(found, every, folder)
    said(f"data files of {len(every):,} pairs", mib(folder / paged.FOLDER))
    report.write(found, folder, formats=["html"])
    said("report.html", mib(folder / "report.html"))
    if times == 1:
        return [folder / "report.html"]
    many = replace(
        every,
        settings=np.tile(every.settings, times),
        _pair=np.tile(every._pair, times),
        _arms=[arm._replace(at=arm.at + i * len(every)) for i in range(times) for arm in every._arms],
    )
    at, cpu = time.perf_counter(), time.process_time()
    made = paged.write(found, many, place)
    said(f"data files of {len(many):,} pairs", mib(place / paged.FOLDER))
    (place / "report.html").write_text(html.render(found, folder, paged=made), encoding="utf-8")
    return [folder / "report.html", place / "report.html"]


def mib(place: Path) -> float:
    files = [place] if place.is_file() else list(place.iterdir())
    return sum(file.stat().st_size for file in files) / 2**20


def opened(page_file: Path, times: int) -> dict[str, float]:
    """Median seconds from asking for a page, and of each thing that a reader does there."""
    from playwright.sync_api import sync_playwright

    found: dict[str, list[float]] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        for _ in range(times):
            page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
            started = time.perf_counter()
            page.goto(page_file.absolute().as_uri(), wait_until="load")
            found.setdefault("to the load event", []).append(time.perf_counter() - started)
            page.wait_for_selector("#browser-list > li", state="attached")
            found.setdefault("to the first pair", []).append(time.perf_counter() - started)
            for what, seconds in used(page).items():
                found.setdefault(what, []).append(seconds)
            found.setdefault(f"from asking for the page to pair {FAR:,}, or the last", []).append(
                sum(found[what][-1] for what in ("to the first pair", "all pairs", "a jump"))
            )
            page.context.close()
        browser.close()
    return {what: statistics.median(seconds) for what, seconds in found.items()}


def used(page: Any) -> dict[str, float]:
    """Seconds until the list shows what was asked for: all pairs, a far one, two orders, a search."""
    total = int(page.inner_text("#browser-among option[value=all]").split()[-1])
    far = min(FAR, total)

    def first() -> str:
        return str(page.evaluate("document.querySelector('#browser-list > li').dataset.key"))

    def timed(act: Any) -> float:
        before, started = first(), time.perf_counter()
        act()
        while first() == before:
            assert time.perf_counter() - started < 60
        return time.perf_counter() - started

    # The first pair is the same, so all is seen by the last page that the pager names.
    started = time.perf_counter()
    page.select_option("#browser-among", "all")
    while not page.inner_text("#browser-page").endswith(f"of {total}"):
        assert time.perf_counter() - started < 60
    found = {"all pairs": time.perf_counter() - started}
    page.fill("#browser-to", str(far))
    found["a jump"] = timed(lambda: page.press("#browser-to", "Enter"))
    found["all by the delta of a metric"] = timed(lambda: page.select_option("#browser-sort", "gain"))
    found["the same by another metric"] = timed(lambda: page.select_option("#browser-metric", "3"))
    page.select_option("#browser-sort", "order")
    found["a search in all prompts"] = timed(lambda: page.fill("#browser-search", "number 4999"))
    return found


def served(folder: Path) -> dict[str, float]:
    """Seconds of a first, a late and a searched page of all pairs of a run, as `bench serve` gives them."""
    from bench.serve.app import make_app

    found = {}
    client = make_app(folder.parent).test_client()
    for name, query in (("first page", ""), ("page 150", "?page=150"), ("a search", "?text=number+4999")):
        at = time.perf_counter()
        answer = client.get(f"/run/{folder.name}/{query}", headers={"Host": "127.0.0.1"})
        found[name] = time.perf_counter() - at
        assert answer.status_code == 200, answer.text
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="a run folder, such as of tests/perf/scale.py")
    parser.add_argument("--opened", type=int, default=5, help="0: write only")
    parser.add_argument("--times", type=int, default=1, help="write the data files of so many copies too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder.parent) as place:
        for page in written(options.folder, options.times, Path(place)):
            for what, seconds in (opened(page, options.opened) if options.opened else {}).items():
                print(f"{page.parent.name}/report.html in Chromium, {what}: {seconds:.2f} s", flush=True)
    for what, seconds in served(options.folder).items():
        print(f"bench serve, {what} of all pairs: {seconds:.2f} s", flush=True)


if __name__ == "__main__":
    main()
