"""What `mkdocs build` is given beside docs/: pages from the project's root, reports, and the notebooks as pages.

A page keeps the links that are right in the repository. Here each link is resolved where its page lies there, and
pointed at its target's place on the site; what is not on the site stays as it is, so that `--strict` names it.
"""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES = {
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "ARCHITECTURE.md": "ARCHITECTURE.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "baselines/paper/README.md": "paper-numbers.md",
}
"""Pages of the repository outside docs/, and their names on the site."""
PLACES = {"README.md": "index.md", "suites": "suites.md"}
"""What has another page in its place."""
LINK = re.compile(r"(?P<before>\]\()(?P<to>[^)\s#]+)(?P<anchor>#[^)\s]*)?(?P<after>\))")


def reports() -> list[Path]:
    return sorted((ROOT / "reports").glob("*/report.html"))


def on_files(files: Any, *, config: Any) -> Any:
    """Add what is mounted."""
    from mkdocs.structure.files import File

    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    for report in reports():
        files.append(File.generated(config, report.relative_to(ROOT).as_posix(), abs_src_path=str(report)))
    for notebook in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        page = f"notebooks/{notebook.stem}.md"
        files.append(File.generated(config, page, content=as_markdown(notebook)))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Point links at the site's places."""
    here = page.file.src_uri
    real = {name: source for source, name in PAGES.items()}.get(here, f"docs/{here}")
    return LINK.sub(lambda m: f"{m['before']}{moved(m['to'], real, here)}{m['anchor'] or ''}{m['after']}", markdown)


def moved(to: str, real: str, here: str) -> str:
    """A link of the page that lies at `real` in the repository and at `here` on the site."""
    if ":" in to or to.startswith("/"):
        return to
    target = posixpath.normpath(posixpath.join(posixpath.dirname(real), to))
    place = placed(target)
    # A notebook has a page, which itself links to the notebook.
    if place and place.endswith(".ipynb") and place.removesuffix(".ipynb") != here.removesuffix(".md"):
        place = place.removesuffix(".ipynb") + ".md"
    return to if place is None else posixpath.relpath(place, posixpath.dirname(here) or ".")


def placed(target: str) -> str | None:
    """Where a file of the repository is on the site; None where it is not."""
    if target in PAGES or target in PLACES:
        return PAGES.get(target) or PLACES[target]
    if target.startswith("reports/"):
        folder = "/".join(target.split("/")[:2])
        return f"{folder}/report.html" if (ROOT / folder / "report.html").is_file() else None
    return target.removeprefix("docs/") if target.startswith("docs/") else None


def as_markdown(notebook: Path) -> str:
    """A notebook's text and code, which has no output in the repository."""
    parts = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
    head, *rest = parts
    return "\n\n".join([head, f"[The notebook]({notebook.name}), to be opened in Jupyter.", *rest]) + "\n"
