"""Several runs as one static site: a leaderboard of what is comparable, a page a run, and comparisons of any two.

The site reads results alone: `results.json` of run folders and reports, and the records of a repository of results
(`submitting`). Every number on it names its run and that run's digest. `sources` finds runs, `board` says which of
them stand in one table, `writing` lays the pages out.
"""

from bench.site.sources import Shown, found
from bench.site.writing import Built, build

__all__ = ["Built", "Shown", "build", "found"]
