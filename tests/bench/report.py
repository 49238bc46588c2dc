"""The figures: medians, their spread, the ratio to native Postgres, and which targets were reached."""

import dataclasses
import json
import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from .contenders import Kind
from .measures import Load

MS = 1000.0
Past = dict[str, Any]  # a line of the history
MB = 1_000_000.0


@dataclass(frozen=True)
class Target:
    """A target for `ours`: `value`, or the ratio to native Postgres, on the right side of the limit."""

    text: str
    reached: Callable[[float, float | None], bool | None]


def at_least_of_native(limit: float) -> Target:
    """A target for the ratio; unknown without a native Postgres."""
    return Target(
        f"≥ {limit} of native", lambda _, ratio: None if ratio is None else ratio >= limit
    )


def below(limit: float, unit: str) -> Target:
    """A target for the value."""
    return Target(f"< {limit:g} {unit}", lambda value, _: value < limit)


def above(limit: float) -> Target:
    """A target for a value that is to be large."""
    return Target(f"≥ {limit:,}", lambda value, _: value >= limit)


@dataclass(frozen=True)
class Metric:
    """One row of the table: `statistic` of the samples of `key`, times `factor`."""

    key: str
    title: str
    factor: float = 1.0
    statistic: str = "median"
    target: Target | None = None
    digits: int = 0


METRICS: Sequence[Metric] = (
    Metric("steps_one", "steps/s, one workflow", target=at_least_of_native(2.5)),
    Metric("steps_many", "steps/s, 20 workflows", target=at_least_of_native(3)),
    Metric("step_cpu", "CPU per step, one workflow, ms", MS, target=below(1.2, "ms"), digits=1),
    Metric("step_cpu_many", "  20 workflows", MS, target=below(1.4, "ms"), digits=1),
    Metric("starts", "workflow starts/s (1)"),
    Metric("runs", "  started and done/s"),
    Metric("batch_starts", "starts/s, 100 in a call (2)", target=above(1400)),
    Metric("batch_runs", "  started and done/s", target=above(450)),
    Metric("first_step", "start → first step, ms", MS, target=below(20, "ms")),
    Metric("first_step", "  90th percentile", MS, "p90"),
    Metric("send_recv", "send → recv, ms", MS, target=below(10, "ms")),
    Metric("send_recv", "  90th percentile", MS, "p90"),
    Metric("initialize", "initialize answered, ms", MS),
    Metric("initialize_ratio", "  times a bare MCP server", target=below(1.3, ""), digits=2),
    Metric("cold_start", "cold start, s (3)", target=below(2, "s"), digits=2),
    Metric("cold_run", "  until a first run is done, s", digits=2),
    Metric("warm_start", "warm start, s (3)", target=below(0.8, "s"), digits=2),
    Metric("warm_run", "  until a first run is done, s", target=below(1.5, "s"), digits=2),
    Metric("stop", "shutdown, s", digits=2),
    Metric("list", "list over 100,000 runs, ms", MS, target=below(15, "ms"), digits=1),
    Metric("list_roots", "  roots, oldest first", MS, target=below(50, "ms"), digits=1),
    Metric("counts", "  counts", MS, target=below(15, "ms"), digits=1),
    Metric("status", "  status", MS, target=below(15, "ms"), digits=1),
    Metric("overview", "  dashboard", MS, target=below(50, "ms"), digits=1),
    Metric("list_beside", "list, 10,000 more wait (5), ms", MS, target=below(25, "ms"), digits=1),
    Metric("list_waiting_beside", "  those that wait", MS, target=below(50, "ms"), digits=1),
    Metric("counts_beside", "  counts", MS, target=below(15, "ms"), digits=1),
    Metric("status_beside", "  status", MS, target=below(50, "ms"), digits=1),
    Metric("overview_beside", "  dashboard", MS, target=below(50, "ms"), digits=1),
    Metric("prune", "pruning 100,000 runs, s", target=below(60, "s"), digits=1),
    Metric(
        "prune_longest",
        "  the longest start → first step meanwhile, ms",
        MS,
        target=below(500, "ms"),
    ),
    Metric("replay", "replay of 1,000 steps, s", target=below(0.15, "s"), digits=2),
    Metric("waiting_rss", "10,000 waiting runs, MB (RSS)", 1 / MB, target=below(350, "MB")),
    Metric("waiting_pss", "  shared once (PSS)", 1 / MB),
    Metric("waiting_cpu", "  % of a core", target=below(1, "%"), digits=1),
    Metric("waiting_other", "  another run: start → first step, ms", MS),
    Metric("woken", "  message → next step, ms", MS, target=below(50, "ms")),
    Metric("woken", "    90th percentile", MS, "p90", target=below(200, "ms")),
    Metric("woken_without", "    without a worker, s", target=below(3, "s"), digits=2),
    Metric("idle_cpu", "idle, % of a core (4)", target=below(0.7, "%"), digits=1),
    Metric("idle_rss", "idle, MB (RSS)", 1 / MB, target=below(330, "MB")),
    Metric("idle_pss", "  shared once (PSS)", 1 / MB),
    Metric("idle_uss", "  own pages (USS)", 1 / MB),
)
UNLIKE = """
Not like for like:
(1) The worker of plain DBOS looks for runs once a second, and sleeps while the client starts them; ours works at the same time.
    "Started and done" is the fair row.
(2) The client of plain DBOS has no call for many.
(3) Ours starts its database, and saves the code; plain DBOS finds a running Postgres, or makes a file of SQLite.
(4) Ours has a supervisor, a watched folder and a connected MCP server. Plain DBOS is one process, and its native Postgres.
(5) Beside the 100,000 that have ended.
All processes of a contender are counted, its Postgres too.
"""
UNLIKE_PEERS = """
The peers run the same workflows in their own words, with their own defaults. Their clients start one run in a call. They have no topics:
each message has a name of its own, and the time that it came at is written by a step, since a run that waits may begin anew.
"""


@dataclass
class Results:
    """All samples: contender → metric → its samples, and the processes' idle costs."""

    samples: dict[str, dict[str, list[float]]] = field(
        default_factory=dict[str, dict[str, list[float]]]
    )
    idle: dict[str, list[Load]] = field(default_factory=dict[str, list[Load]])
    load_before: tuple[float, float, float] = field(default_factory=os.getloadavg)

    def add(self, key: str, samples: Mapping[str, list[float]]) -> None:
        """Add new samples of a contender to the existing ones."""
        mine = self.samples.setdefault(key, {})
        for name, values in samples.items():
            mine.setdefault(name, []).extend(values)

    def add_idle(self, idle: Mapping[str, list[Load]]) -> None:
        """Put in what the processes cost while idle."""
        self.idle.update(idle)
        for key, loads in idle.items():
            self.add(key, {"idle_cpu": [sum(load.cpu_percent for load in loads)]})
            for name in ("rss", "pss", "uss"):
                total = float(sum(getattr(load, name) for load in loads))
                self.add(key, {f"idle_{name}": [total] if total else []})

    def value(self, key: str, metric: Metric) -> float | None:
        """The figure of a contender."""
        values = self.samples.get(key, {}).get(metric.key)
        return _statistic(values, metric.statistic) * metric.factor if values else None

    def ratio(self, metric: Metric) -> float | None:
        """Ours to that of native Postgres: the median over the rounds where there is a sample for each, else of the medians."""
        ours = self.samples.get("ours", {}).get(metric.key, [])
        native = self.samples.get("native", {}).get(metric.key, [])
        if not ours or not native:
            return None
        if metric.statistic == "median" and len(ours) == len(native) and len(ours) <= 5:
            return statistics.median(a / b for a, b in zip(ours, native, strict=True))
        return _statistic(ours, metric.statistic) / _statistic(native, metric.statistic)

    def reached(self, metric: Metric) -> bool | None:
        """Whether the target was reached; None: there is none, or it is unknown."""
        value = self.value("ours", metric)
        if metric.target is None or value is None:
            return None
        return metric.target.reached(value, self.ratio(metric))


def last(path: Path) -> Past | None:
    """The last line of the history."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return json.loads(lines[-1]) if lines else None


def show(console: Console, results: Results, kinds: Sequence[Kind], past: Past | None) -> None:
    """Print the tables, ours beside those of the past."""
    for table in (_figures(results, kinds, past), _processes(results, kinds)):
        console.print(table)
    console.print(UNLIKE)
    if peers := [kind for kind in kinds if kind.unlike]:
        console.print(UNLIKE_PEERS.lstrip())
        for kind in peers:
            console.print(f"{kind.title}: {kind.unlike}")
    console.print(
        f"Load average before {_load(results.load_before)}, after {_load(os.getloadavg())}."
    )


def remember(path: Path, results: Results, commit: str) -> None:
    """Add a line to the history: what was measured, of which commit."""
    line = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "load": [round(one, 1) for one in results.load_before],
        "ours": {
            _name(metric): value
            for metric in METRICS
            if (value := _rounded(results.value("ours", metric))) is not None
        },
        "to_native": {
            metric.key: ratio
            for metric in METRICS
            if metric.statistic == "median"
            and (ratio := _rounded(results.ratio(metric))) is not None
        },
    }
    with path.open("a", encoding="utf-8") as history:
        history.write(json.dumps(line) + "\n")


def _name(metric: Metric) -> str:
    """Of a figure in the history."""
    return metric.key if metric.statistic == "median" else f"{metric.key} {metric.statistic}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")


def write(path: Path, results: Results, options: Mapping[str, Any]) -> None:
    """Write everything as JSON."""
    document = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "options": options,
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform()},
        "versions": {name: version(name) for name in ("durable-workflows", "dbos", "mcp")},
        "load_average": {"before": results.load_before, "after": os.getloadavg()},
        "metrics": [_as_json(results, metric) for metric in METRICS],
        "samples": results.samples,
        "idle": {
            key: [dataclasses.asdict(one) for one in loads] for key, loads in results.idle.items()
        },
    }
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _as_json(results: Results, metric: Metric) -> dict[str, Any]:
    return {
        "key": metric.key,
        "statistic": metric.statistic,
        "title": metric.title.strip(),
        "values": {key: results.value(key, metric) for key in results.samples},
        "ratio_to_native": results.ratio(metric),
        "target": metric.target.text if metric.target else None,
        "reached": results.reached(metric),
    }


def _figures(results: Results, kinds: Sequence[Kind], past: Past | None) -> Table:
    others = "".join(f", {kind.title}" for kind in kinds if kind.unlike)
    table = Table(title=f"durable-workflows beside plain DBOS{others} (medians, least–most)")
    table.add_column("")
    for kind in kinds:
        table.add_column(kind.title, justify="right")
    table.add_column("ours : native", justify="right")
    table.add_column(f"in {past['commit']}" if past else "before", justify="right")
    table.add_column("target")
    for metric in METRICS:
        cells = [_cell(results, kind.key, metric) for kind in kinds]
        ratio = results.ratio(metric)
        shown = "" if ratio is None else f"{ratio:.2f}"
        before = _before(metric, past) if past else ""
        table.add_row(metric.title, *cells, shown, before, _verdict(results, metric))
    return table


def _cell(results: Results, key: str, metric: Metric) -> str:
    value = results.value(key, metric)
    if value is None:
        return "–"
    text = f"{value:.{metric.digits}f}"
    samples = [one * metric.factor for one in results.samples[key][metric.key]]
    if metric.statistic != "median" or len(samples) == 1:
        return text
    return f"{text} ({min(samples):.{metric.digits}f}–{max(samples):.{metric.digits}f})"


def _before(metric: Metric, past: Past) -> str:
    """The figure of the past, and its ratio to native: another machine, or a busy one, has other figures and much the same ratios."""
    value, ratio = past["ours"].get(_name(metric)), past["to_native"].get(metric.key)
    if value is None:
        return ""
    shown = f"{value:.{metric.digits}f}"
    return shown if ratio is None or metric.statistic != "median" else f"{shown} ({ratio:.2f})"


def _verdict(results: Results, metric: Metric) -> str:
    if metric.target is None:
        return ""
    words = {True: "[green]reached[/]", False: "[red]missed[/]", None: "[yellow]not known[/]"}
    return f"{metric.target.text} {words[results.reached(metric)]}"


def _processes(results: Results, kinds: Sequence[Kind]) -> Table:
    table = Table(title="Idle processes")
    for name in ("", "process", "% of a core", "RSS MB", "PSS MB", "USS MB"):
        table.add_column(name, justify="left" if name in ("", "process") else "right")
    for kind in kinds:
        for load in results.idle.get(kind.key, []):
            if load.role != "postgres":
                memory = [f"{size / MB:.0f}" for size in (load.rss, load.pss, load.uss)]
                table.add_row(kind.title, load.role, f"{load.cpu_percent:.1f}", *memory)
    return table


def _statistic(values: Sequence[float], name: str) -> float:
    if name == "median" or len(values) < 2:
        return statistics.median(values)
    return statistics.quantiles(values, n=10, method="inclusive")[-1]


def _load(average: tuple[float, float, float]) -> str:
    return " ".join(f"{one:.1f}" for one in average)
