"""GenEval's own table: the share of images that pass, task by task."""

from __future__ import annotations

from bench.records import ArmRow, Results
from bench.report.tables import Cell, Table, has_settings, label_headers, labels_of, place, rows_of
from bench.report.words import MISSING, categories, distinct, interval, mark_of, number, places


def task_table(results: Results) -> Table:
    """GenEval: the share of images that pass, task by task, and the mean over the tasks."""
    given = rows_of(results.tasks, detail=True)
    seen = distinct(name for row in given for name in row.tasks)
    order = categories(distinct(row.metric for row in given))
    tasks = [name for name in order if name in seen] + [name for name in seen if name not in order]
    arms, several = {place(arm): arm for arm in results.arms}, has_settings(results)
    rows = []
    for row in given:
        arm = arms[place(row)]
        overall = Cell(number(row.overall, 3), interval(row.overall_low, row.overall_high, 3))
        means = [row.tasks.get(name) for name in tasks]
        cells = [Cell(number(mean.mean, 2), f"n {mean.n}") if mean else Cell(MISSING) for mean in means]
        labels = labels_of(results, arm, marks=mark_of(arm, row.metric), several=several)
        rows.append([*labels, overall, _over_images(results, arm, row.metric), *cells])
    notes = [
        "Overall is GenEval's own, the mean over the task means, with its 95 % interval. All images is the share over "
        "images, whatever their task: the number that the other tables have, with its paired delta."
    ]
    headers = [*label_headers(results), "overall", "all images", *(name.replace("_", " ") for name in tasks)]
    return Table("GenEval tasks", headers, len(label_headers(results)), rows, notes)


def _over_images(results: Results, arm: ArmRow, metric: str) -> Cell:
    """The mean over images, as the quality table has it."""
    value = arm.metrics.get(metric)
    return Cell(number(value.mean if value else None, places(results, metric)))
