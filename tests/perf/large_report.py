"""How long the report of a large run takes to write and to open in Chromium.

    python tests/perf/scale.py --folder DIR    (100,000 images of 10 methods x 10 metrics)
    python tests/perf/large_report.py --folder DIR [--opened 5]

results.json holds 2,000 pairs, evenly spaced over all, and the report's image browser has those; `bench serve` reads
every pair from the ledger, page by page, which is timed too. Times of opening are medians of `--opened` fresh tabs: to
the first pair that a reader can see, and to the load event. Needs playwright and a Chromium on the path.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import time
from pathlib import Path


def written(folder: Path) -> dict[str, float]:
    """Write results and report; seconds of each."""
    from bench import report
    from bench.analysis import results
    from bench.store import Ledger

    at = time.perf_counter()
    found = results.write(Ledger(folder))
    middle = time.perf_counter()
    report.write(found, folder, formats=["html"])
    return {"results.json": middle - at, "report.html": time.perf_counter() - middle}


def opened(page_file: Path, times: int) -> dict[str, float]:
    """Median seconds from asking for a page."""
    from playwright.sync_api import sync_playwright

    pairs, loaded = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        for _ in range(times):
            page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
            at = time.perf_counter()
            page.goto(page_file.absolute().as_uri(), wait_until="load")
            loaded.append(time.perf_counter() - at)
            page.wait_for_selector("#browser-list > li", state="attached")
            pairs.append(time.perf_counter() - at)
            page.context.close()
        browser.close()
    return {"to the load event": statistics.median(loaded), "to the first pair": statistics.median(pairs)}


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
    parser.add_argument("--opened", type=int, default=5)
    options = parser.parse_args()
    for what, seconds in written(options.folder).items():
        size = (options.folder / what).stat().st_size / 2**20
        print(f"{what}: written in {seconds:.1f} s, {size:.1f} MiB", flush=True)
    for what, seconds in opened(options.folder / "report.html", options.opened).items():
        print(f"report.html in Chromium, {what}: {seconds:.2f} s", flush=True)
    for what, seconds in served(options.folder).items():
        print(f"bench serve, {what} of all pairs: {seconds:.2f} s", flush=True)


if __name__ == "__main__":
    main()
