"""Where the history of a run stands in a JSON document: lists of records, columns, series, objects by step.

What a value is, is tried from the surest form to the weakest (:data:`_FORMS`). The first that finds records counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from entlaw.runs.parsing.records import (
    EVAL_TYPES,
    METRIC_FIELDS,
    METRIC_NAME,
    RUN_FIELDS,
    STEP_KEY,
    VALUE_FIELDS,
    prefixed,
    variant_of,
)
from entlaw.runs.table import flatten, parse_number

Records = list[Any]
HISTORIES = (
    "log_history",
    "history",
    "metrics",
    "logs",
    "records",
    "rows",
    "data",
    "steps",
    "scalars",
    "results",
)
# Names of containers on the way to a series that are no part of the metric's name.
_CONTAINERS = {*HISTORIES, "list", "values", "points", "series", "variants", "traces", "experiments"}
_AXES = ("step", "steps", "x", "iter", "iters", "iteration", "iterations", "index", "indices", "global_step")
_BESIDE = {
    "epoch",
    "epochs",
    "timestamp",
    "timestamps",
    "time",
    "times",
    "wall_time",
    "create_time",
    "duration",
}
_BESIDE |= {"durations", "offset", "offsets", "min", "max", "relative_time", "more"}
_TRAIN_PARTS = {"train", "training"}
_DEEPEST = 6
_PAIR, _TRIPLE = 2, 3


class KeyedRecords(list[Any]):
    """Records whose step was the key of each in an object."""


def histories(value: Any, depth: int = 0) -> dict[str, Records]:
    """Lists of records by the name of the run (empty: the document's).

    Parameters
    ----------
    value : object
        As ``json.loads`` gives it.
    depth : int
        Of the value in its document.
    """
    if depth > _DEEPEST:
        return {}
    return next((found for form in _FORMS if (found := form(value, depth))), {})


def _list_of_runs(value: Any, depth: int) -> dict[str, Records]:
    """Objects that each hold a run's name and its history."""
    if not is_records(value):
        return {}
    out: dict[str, Records] = {}
    holders = [
        (item, name)
        for item in value
        if isinstance(item, Mapping)
        for name in HISTORIES
        if _is_deep(item.get(name))
    ]
    if 2 * len(holders) < len(value):
        return {}
    for number, (item, section) in enumerate(holders):
        run = next(
            (str(item[f]) for f in (*RUN_FIELDS, "name", "id") if isinstance(item.get(f), str)), str(number)
        )
        for records in histories(item[section], depth + 1).values():
            out[run if run not in out else f"{run} ({number})"] = records
    return out


def _is_deep(section: Any) -> bool:
    """Whether a section holds records or columns, and not the numbers of one step."""
    if isinstance(section, Mapping):
        return any(isinstance(v, (list, Mapping)) for v in section.values())
    return is_records(section)


def _list_of_records(value: Any, depth: int) -> dict[str, Records]:
    if depth == 0:
        return {"": value} if isinstance(value, list) else {}
    return {"": value} if is_records(value) else {}


def _known_section(value: Any, depth: int) -> dict[str, Records]:
    """A section that trainers call their history."""
    if not isinstance(value, Mapping):
        return {}
    for name in HISTORIES:
        if is_records(value.get(name)):
            return {name: value[name]}
        if isinstance(value.get(name), Mapping) and _columns(value[name]):
            return {name: _columns(value[name])}
    return {}


def _parts(value: Any, depth: int) -> dict[str, Records]:
    """``{"train": ..., "eval": ...}``: two kinds of rows of one run, the evaluation's under its own name."""
    if not isinstance(value, Mapping):
        return {}
    sections = {k: v for k, v in value.items() if isinstance(v, (list, Mapping)) and v}
    names = {str(k).lower() for k in sections}
    if len(names) < 2 or not names <= _TRAIN_PARTS | EVAL_TYPES:
        return {}
    out: Records = []
    for name, section in sections.items():
        found = histories(section, depth + 1)
        kind = str(name).lower()
        for records in found.values():
            out += [
                prefixed(r, kind) if kind in EVAL_TYPES and isinstance(r, Mapping) else r for r in records
            ]
    return {"": out} if out else {}


def _lists_by_run(value: Any, depth: int) -> dict[str, Records]:
    if not isinstance(value, Mapping):
        return {}
    out: dict[str, Records] = {}
    for key, section in value.items():
        if is_records(section):
            out.update(_list_of_runs(section, depth) or {str(key): section})
    return out


def _table(value: Any, depth: int) -> dict[str, Records]:
    found = _columns(value) if isinstance(value, Mapping) else []
    return {"": found} if found else {}


def _by_step(value: Any, depth: int) -> dict[str, Records]:
    """``{"1": {"entropy": ...}, "2": ...}``, also ``"step_1"``: the key is the step."""
    if not isinstance(value, Mapping):
        return {}
    objects = {str(k): v for k, v in value.items() if isinstance(v, Mapping)}
    found = {k: (match, v) for k, v in objects.items() if (match := STEP_KEY.fullmatch(k)) and _has_number(v)}
    if not found or 2 * len(found) < len(objects):
        return {}
    out: Records = []
    for match, record in found.values():
        axis = "epoch" if (match[1] or "").lower() == "epoch" else "step"
        out.append({**({} if axis in record else {axis: int(match[2])}), **record})
    return {"": KeyedRecords(out)} if _names_metrics(out) else {}


def _by_run(value: Any, depth: int) -> dict[str, Records]:
    """Sections that are each a history: runs by name."""
    if not isinstance(value, Mapping):
        return {}
    out: dict[str, Records] = {}
    for key, section in value.items():
        if isinstance(section, (list, Mapping)) and len(section) > 0:
            for name, records in histories(section, depth + 1).items():
                inner = "" if name in HISTORIES else name
                out[" ".join(part for part in (str(key), inner) if part)] = records
    return out


def _series(value: Any, depth: int) -> dict[str, Records]:
    """Series of one metric each, wherever they stand: ClearML, Comet's and Aim's charts, Plotly, points by metric."""
    out: dict[str, dict[str, dict[float, float]]] = {}
    found = list(_walk(value, (), 0))
    runs = _leading_runs([name for run, name, _ in found if not run])
    for run, name, points in found:
        first, _, rest = name.partition("/")
        if not run and first in runs:
            run, name = first, rest
        out.setdefault(run, {}).setdefault(name, {}).update(points)
    made: dict[str, Records] = {}
    for run, series in out.items():
        rows: dict[float, dict[str, float]] = {}
        for name, by_step in series.items():
            for step, number in by_step.items():
                rows.setdefault(step, {"step": step})[name] = number
        records = [rows[step] for step in sorted(rows)]
        if _names_metrics(records):
            made[run] = records
    return made


def _leading_runs(names: Sequence[str]) -> set[str]:
    """First parts of names that are runs: several of them have an entropy of the same name."""
    firsts: dict[str, set[str]] = {}
    for name in names:
        first, _, rest = name.partition("/")
        if "entropy" in rest.lower() and first.lower() not in _TRAIN_PARTS | EVAL_TYPES:
            firsts.setdefault(rest, set()).add(first)
    return {first for group in firsts.values() if len(group) > 1 for first in group}


_FORMS: tuple[Callable[[Any, int], dict[str, Records]], ...] = (
    _series,
    _list_of_runs,
    _list_of_records,
    _known_section,
    _parts,
    _lists_by_run,
    _table,
    _by_step,
    _by_run,
)


def is_records(value: Any) -> bool:
    """Whether a value is a list most of which are objects."""
    return (
        isinstance(value, list)
        and len(value) > 0
        and sum(isinstance(v, Mapping) for v in value) * 2 > len(value)
    )


def _has_number(record: Mapping[str, Any]) -> bool:
    return any(v is not None and parse_number(v) is not None for _, v in flatten(record))


def _names_metrics(records: Records) -> bool:
    """Whether a key is one of a training's: layers of a model, say, have numbers too."""
    names = {key for record in records[:100] for key, _ in flatten(record)}
    return any(METRIC_NAME.search(name.lower()) for name in names)


def _columns(value: Mapping[str, Any]) -> Records:
    """Records from ``{"step": [...], "entropy": [...]}``; columns of another length are not of this table."""
    indexed = {str(k): c for k, c in value.items() if isinstance(c, Mapping) and _is_index(c)}
    if len(indexed) > 1:
        return _by_index(indexed)
    columns = {
        str(k): c
        for k, c in value.items()
        if isinstance(c, list) and c and not isinstance(c[0], (list, Mapping))
    }
    if len(columns) < 2:
        return []
    lengths = [len(c) for c in columns.values()]
    length = len(columns["step"]) if "step" in columns else max(set(lengths), key=lengths.count)
    kept = {k: c for k, c in columns.items() if len(c) == length}
    return [dict(zip(kept, row, strict=True)) for row in zip(*kept.values(), strict=True)]


def _is_index(value: Mapping[str, Any]) -> bool:
    """Whether the keys are an index of rows (pandas' ``to_json``), and the values cells."""
    return len(value) > 0 and all(
        str(k).isdigit() and not isinstance(v, (list, Mapping)) for k, v in value.items()
    )


def _by_index(columns: Mapping[str, Mapping[str, Any]]) -> Records:
    """Columns by row; an index that is not 0, 1, 2, ... is the step, where no column is."""
    rows: dict[int, dict[str, Any]] = {}
    for name, cells in columns.items():
        for key, cell in cells.items():
            rows.setdefault(int(key), {})[name] = cell
    numbered = sorted(rows) == list(range(len(rows)))
    if numbered or any(name.lower() in _AXES for name in columns):
        return [rows[i] for i in sorted(rows)]
    return [{"step": i, **rows[i]} for i in sorted(rows)]


Found = Iterator[tuple[str, str, dict[float, float]]]  # run, metric, value by step


def _walk(value: Any, path: tuple[str, ...], depth: int) -> Found:
    if depth > _DEEPEST or not isinstance(value, (list, Mapping)):
        return
    own = path[-1] if path else ""
    points = _points(value)
    if points is not None:
        name = _name_of(value) if isinstance(value, Mapping) else ""
        inside = [part for part in path if part not in _CONTAINERS]
        if name and "[]" in path:
            before = path[: path.index("[]")]
            run = [part for part in before if part not in _CONTAINERS]
            yield " ".join(run), name, points
        elif name or inside:
            parts = inside if not name or name == own else [*inside, name]
            joined = "/".join(part for part in parts if part != "[]")
            first, _, rest = joined.partition("/")
            yield "", rest if first in _CONTAINERS and rest else joined, points
        return
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _walk(inner, (*path, str(key)), depth + 1)
    elif value and all(isinstance(item, Mapping) for item in value):
        for item in value:
            if not any(isinstance(v, (list, Mapping)) for v in item.values()):
                return  # a list of plain records
            yield from _walk(item, (*path, "[]"), depth + 1)


def _name_of(series: Mapping[str, Any]) -> str:
    lower = {str(k).lower(): v for k, v in series.items()}
    name = next((lower[f] for f in METRIC_FIELDS if isinstance(lower.get(f), str) and lower[f]), "")
    return variant_of(lower, str(name)) if name else ""


def _points(value: Any) -> dict[float, float] | None:
    """Value by step of one series; None if it is none."""
    if isinstance(value, Mapping):
        lower = {str(k).lower(): v for k, v in value.items()}
        axis = next((k for k in _AXES if isinstance(lower.get(k), list)), None)
        values = next((k for k in VALUE_FIELDS if isinstance(lower.get(k), list)), None)
        if axis is None or values is None or len(lower[axis]) != len(lower[values]):
            return None
        if any(isinstance(v, list) for k, v in lower.items() if k not in {axis, values} | _BESIDE):
            return None
        return _numbers(zip(lower[axis], lower[values], strict=True))
    if not value:
        return None
    if all(isinstance(item, Mapping) for item in value):
        return _point_objects(value)
    if all(isinstance(item, list) and len(item) == len(value[0]) for item in value):
        width = len(value[0])
        if width == _PAIR:
            return _numbers(value)
        if width == _TRIPLE:  # TensorBoard: wall time, step, value
            return _numbers((step, number) for _, step, number in value)
    return None


def _point_objects(value: Sequence[Mapping[str, Any]]) -> dict[float, float] | None:
    """``[{"step": 1, "value": 0.9}, ...]``, with nothing else but times."""
    keys = {str(k).lower() for item in value for k in item}
    axis = next((k for k in _AXES if k in keys), None)
    number = next((k for k in VALUE_FIELDS if k in keys), None)
    if axis is None or number is None or not keys <= {axis, number} | _BESIDE:
        return None
    lower = [{str(k).lower(): v for k, v in item.items()} for item in value]
    return _numbers((item.get(axis), item.get(number)) for item in lower)


def _numbers(pairs: Any) -> dict[float, float] | None:
    """Pairs of a step, which never falls, and a number."""
    out: dict[float, float] = {}
    steps = []
    for step, value in pairs:
        at = None if step is None or isinstance(step, bool) else parse_number(step)
        number = None if isinstance(value, (list, Mapping)) else parse_number(value)
        if at is None or number is None or at != at or at % 1:
            return None
        steps.append(at)
        out[at] = number
    return out if out and all(a <= b for a, b in pairwise(steps)) else None
