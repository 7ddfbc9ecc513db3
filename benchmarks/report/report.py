"""From results to what people read: two pictures, and the tables of docs/performance.md between its markers."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.report.svg import Bar, Line, Panel, bars, percentiles

NAMES: Final = (
    "sequencer",
    "stages",
    "ingest",
    "projector",
    "live",
    "live_fanout",
    "history",
    "unread",
    "sync",
    "reactions",
    "search",
    "recovery",
    "snapshot",
    "verify",
    "receipts",
    "depth",
)
RESULTS: Final = Path(__file__).parents[1] / "results"
PAGE: Final = Path(__file__).parents[2] / "docs" / "performance.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
Document = Mapping[str, Any]

_SHAPES: Final = {
    "one_partition": "one partition, 1,000 chats",
    "hot_chat": "one partition, one hot chat",
    "four_partitions": "four partitions, 1,000 chats",
}


def write(folder: Path, documents: Mapping[str, Document]) -> None:
    """One JSON file for each benchmark, and the pictures of all that are in the folder then."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, document in documents.items():
        text = json.dumps(document, indent=1, ensure_ascii=False)
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    there = read(folder)
    panels, lines = _panels(there), _lines(there)
    if panels:
        (folder / "throughput.svg").write_text(bars("Throughput, per second", panels), encoding="utf-8")
    if lines:
        (folder / "latency.svg").write_text(percentiles("Latency", lines), encoding="utf-8")


def read(folder: Path) -> dict[str, Document]:
    """The results that are there, by name."""
    paths = [(name, folder / f"{name}.json") for name in NAMES]
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in paths if path.exists()}


def update(page: str, documents: Mapping[str, Document]) -> str:
    """The page with fresh tables between its markers."""
    before, rest = page.split(BEGIN, 1)
    _, after = rest.split(END, 1)
    return f"{before}{BEGIN}\n{tables(documents)}{END}{after}"


def tables(documents: Mapping[str, Document]) -> str:
    """Markdown: a section for each benchmark."""
    sections = [_SECTIONS[name](documents[name]) + _ran(name, documents[name]) for name in NAMES if name in documents]
    return "\n".join(sections)


def _sequencer(found: Document) -> str:
    rows = [
        [
            _SHAPES[t["name"]],
            f"{_n(t['commands_per_s'])}/s",
            f"{t['cpu_us_per_command']:.1f} µs",
            f"{t['broker_us_per_command']:.1f} µs",
            f"{_n(t['memory_mb'])} MB",
            f"{_n(t['baseline_per_s'])}/s" if t["baseline_per_s"] else "",
            f"{t['ratio']:.1f} ×" if t["ratio"] else "",
        ]
        for t in found["throughput"]
    ]
    latencies = [_latency(f"append → outcome at {_n(each['per_s'])}/s", each) for each in found["latency"]]
    if found["baseline_latency"]:
        latencies.append(_latency("the trigger, 8 clients in a closed loop", found["baseline_latency"]))
    return (
        "### Sequencer\n\n"
        + _table(["", "commands", "CPU each", "broker's", "memory", "trigger", "ratio"], rows)
        + f"\nBaseline: {found['baseline']}. Durability: {found['durability']}.\n\n"
        + _latency_table(latencies)
    )


def _stages(found: Document) -> str:
    rows = [[part["name"], f"{part['us']:.2f} µs"] for part in found["parts"]]
    rows.append(["all of it", f"{found['cpu_us_per_command']:.2f} µs"])
    return (
        "### Where a command's time goes\n\n"
        + _table(["stage of the sequencer, one after the other in one thread", "CPU each"], rows)
        + f"\nBaseline: {found['baseline']}, {found['baseline_us']:.2f} µs; all of it takes"
        f" {found['ratio']:.1f} × as much. What the process takes beyond the sum is sockets, the producer, the event"
        " loop, and caches that others empty.\n"
    )


def _ingest(found: Document) -> str:
    median = sorted(found["single"], key=lambda r: r["per_s"])[len(found["single"]) // 2]
    bare = sorted(found["bare"], key=lambda r: r["per_s"])[len(found["bare"]) // 2]
    rows = [
        ["single sends, each answered 201 with its seq", *_http(median)],
        ["the bare route", *_http(bare)],
    ]
    if found["batch"]:
        rows.insert(1, ["messages in batches of 500", *_http(found["batch"])])
    return (
        "### Ingest\n\n"
        + _table(["", "answered", "CPU of ingest each", "for a core of ingest", "p50 then"], rows)
        + f"\nBaseline: {found['baseline']}; of what it allows a core, {found['ratio']:.0%} is left. A 201 is given for"
        " an outcome in the log: one broker, from its page cache.\n\n"
        + _latency_table([_latency(f"send → 201 at {_n(found['latency']['per_s'])}/s", found["latency"])])
    )


def _http(run: Document) -> list[str]:
    per_core_s = 1e6 / run["cpu_us"]
    return [f"{_n(run['per_s'])}/s", f"{run['cpu_us']:.0f} µs", f"{_n(per_core_s)}/s", f"{run['p50_ms']:.1f} ms"]


def _projector(found: Document) -> str:
    rows = [
        [
            "live, each batch committed and synced",
            f"{_n(found['events_per_s'])}/s",
            f"{found['cpu_us_per_event']:.1f} µs",
            f"{found['live_ratio']:.0%}",
        ],
        [
            "rebuild, the commits not waited for",
            f"{_n(found['rebuild_per_s'])}/s",
            f"{found['rebuild_cpu_us_per_event']:.1f} µs",
            f"{found['ratio']:.0%}",
        ],
        ["COPY, then indexes, of all tables", f"{_n(found['baseline_per_s'])}/s", "", ""],
        ["the same without search", f"{_n(found['baseline_without_search_per_s'])}/s", "", ""],
    ]
    return (
        "### Projector\n\n"
        + _table(["", "records of the log", "CPU each", "of COPY"], rows)
        + f"\n{_n(found['records'])} records in four partitions. Baseline: {found['baseline']}. A rebuild is"
        " compared with all tables, live with those without search, which follows by itself. The CPU of the rebuild"
        f" has the start of its processes in it. Memory: {_n(found['memory_mb'])} MB at most.\n"
    )


def _live(found: Document) -> str:
    what = {
        "read": "a bare read",
        "send_to_seq": "send → 201 with its seq",
        "send_to_screen": "send → on the event stream of another member",
        "send_to_visible": "send → committed in the tables",
        "send_to_history": "send → shown by a page of history asked for with its token",
    }
    first = found["first_sends"]
    return (
        "### End to end, idle\n\n"
        + _latency_table([_latency(words, found[name]) for name, words in what.items()])
        + f"\nBaseline: {found['read_baseline']}. A send takes {found['of_a_read']:.1f} times as long at the median,"
        f" and is on another member's stream after {found['screen_of_seq']:.2f} times the time of a send. The first"
        f" {first['count']} sends after a start: p50 {first['p50_ms']:.1f} ms. {found['baseline']}: p50"
        f" {found['baseline_p50_ms']:.2f} ms, with no HTTP.\n"
    )


def _history(found: Document) -> str:
    rows = [
        [
            "over HTTP",
            f"{_n(found['requests_per_s'])}/s",
            f"{found['cpu_us_per_request']:.0f} µs",
            f"{_n(found['per_core_s'])}/s",
            f"{found['p50_ms']:.2f} ms",
        ],
        ["bare SQL", f"{_n(found['baseline_per_s'])}/s", "", "", f"{found['baseline_p50_ms']:.2f} ms"],
    ]
    return (
        "### History\n\n"
        + _table(["pages of 50", "eight clients", "CPU of query each", "for a core of query", "one client, p50"], rows)
        + f"\nBaseline: {found['baseline']}. A page over HTTP comes {found['behind_baseline_ms']:.2f} ms later at the"
        " median.\n"
    )


def _unread(found: Document) -> str:
    rows = [
        [
            _n(r["members"]),
            ", and ".join([_n(r["unread"]), *(f"{_n(r[what])} {what}" for what in ("own", "deleted") if r.get(what))]),
            f"{r['p50_ms']:.2f} ms",
            f"{r['p99_ms']:.2f} ms",
            "" if r["counted_p50_ms"] is None else f"{r['counted_p50_ms']:.2f} ms",
        ]
        for r in found["readers"]
    ]
    return (
        "### Unread\n\n"
        + _table(["members", "unread", "p50", "p99", "counted, p50"], rows)
        + "\nOne client, over HTTP. Of ten and most unread in the chats of two and of most members, the slowest median"
        + f" is {found['flatness_beside_members']} × the fastest. Baseline: {found['baseline']}.\n"
    )


def _sync(found: Document) -> str:
    rows = [
        [
            _n(r["chats"]),
            _n(r["changed"]),
            *(f"{r[what]:.2f} ms" for what in ("p50_ms", "p99_ms", "with_changes_p50_ms", "listed_p50_ms")),
            f"{r['cpu_us']:,.0f} µs",
        ]
        for r in found["readers"]
    ]
    return (
        "### Sync\n\n"
        + _table(
            ["chats", "changed", "p50", "p99", "with their changes, p50", "listed, p50", "CPU of query each"], rows
        )
        + f"\nOne client, over HTTP. In most chats the median is {found['flatness']} × that in fewest. Baseline:"
        f" {found['baseline']}.\n"
    )


def _live_fanout(found: Document) -> str:
    runs = [("one chat", found["one_chat"]), ("a hundred chats", found["hundred_chats"])]
    runs += [("ladder", each) for each in found["ladder"]]
    rows = [
        [
            name,
            f"{_n(run['deliveries_per_s'])}/s",
            f"{run['cpu_us']:.1f} µs",
            f"{run['busy']:.0%}",
            f"{run['latency']['p50_ms']:.1f} ms",
            f"{run['latency']['p99_ms']:.1f} ms",
            "" if run["steady"] else "falls behind",
        ]
        for name, run in runs
        if run is not None
    ]
    return (
        "### Live fan-out\n\n"
        + _table(["", "deliveries", "CPU of live each", "of a core", "send → read, p50", "p99", ""], rows)
        + f"\nServer-sent events of {_n(found['frame_bytes'])} bytes. Baseline: {found['baseline']},"
        f" {found['baseline_us']:.1f} µs. Readers who missed {found['missed']} messages each and come back together are"
        f" complete in {found['returned_s']:.2f} s, {_n(found['returned_cpu_us'])} µs of CPU each."
        f" Of {_n(found['idle'])} idle streams each takes {found['idle_kib']:.1f} KiB, and all together"
        f" {found['idle_busy']:.1%} of a core.\n"
    )


def _reactions(found: Document) -> str:
    rows = [
        [_n(p["reactions"]), f"{p['p50_ms']:.2f} ms", f"{p['cpu_us']:,.0f} µs", f"{p['counted_p50_ms']:.2f} ms"]
        for p in found["pages"]
    ]
    return (
        "### Reactions\n\n"
        + _table(["reactions to each of 50 messages", "page, p50", "CPU of query each", "counted, p50"], rows)
        + f"\nOne client, over HTTP. Baseline: {found['baseline']}.\n"
    )


def _search(found: Document) -> str:
    def ms(value: float | None) -> str:
        return "" if value is None else f"{value:.1f} ms"

    rows = [
        [k["name"], *map(ms, (k["p50_ms"], k["p95_ms"], k["simple_p50_ms"], k["simple_p95_ms"], k["ilike_p50_ms"]))]
        for k in found["kinds"]
    ]
    return (
        "### Search\n\n"
        + _table(["", "p50", "p95", "simple, p50", "simple, p95", "ILIKE, p50"], rows)
        + f"\n{_n(found['messages'])} messages of ten words; the caller is in {found['mine']} of a thousand chats. One"
        f" client, over HTTP: p50 {found['p50_ms']:.1f} ms and p95 {found['p95_ms']:.1f} ms over all of these."
        f" Baseline: {found['baseline']}; ILIKE without an index. Indexing: {_n(found['indexed_per_s'])} messages/s"
        f" into the full table.{_lags(found)} The index has {_n(found['index_mb'])} MB and its table"
        f" {_n(found['table_mb'])} MB, the baseline's index {_n(found['simple_index_mb'])} MB, the messages"
        f" {_n(found['messages_mb'])} MB.\n"
    )


def _lags(found: Document) -> str:
    if "lags" not in found:  # the results of an older release
        return ""
    lags, of_search, of_history = found["lags"], found["lags"]["search"], found["lags"]["history"]
    return (
        f" While {_n(lags['per_s'])} commands arrived each second for {lags['seconds']:.0f} s, search was"
        f" {of_search['p50_s']:.2f} s behind the end of the log at the median and {of_search['max_s']:.2f} s at most,"
        f" history {of_history['p50_s']:.2f} s and {of_history['max_s']:.2f} s."
    )


def _recovery(found: Document) -> str:
    rows = [
        ["on an empty log", f"{found['empty_s']:.1f} s"],
        [f"{_n(found['outcomes'])} outcomes, no state: folded from 0", f"{found['cold_s']:.1f} s"],
        ["the same with its state", f"{found['warm_s']:.1f} s"],
    ]
    return (
        "### Recovery\n\n"
        + _table(["a sequencer starts", "until it serves"], rows)
        + f"\nThe fold alone: {_n(found['events_per_s'])} outcomes/s, {found['cpu_us_per_event']:.1f} µs CPU each;"
        f" {found['ratio']:.0%} of {found['baseline']} ({_n(found['baseline_per_s'])}/s).\n"
    )


def _snapshot(found: Document) -> str:
    rows = [
        ["from the start of the process", f"{found['from_start_s']:.1f} s", f"{found['baseline_s']:.1f} s"],
        ["from the group's word", f"{found['from_word_s']:.1f} s", f"{_folded_from_word_s(found):.1f} s"],
    ]
    pauses = found["pauses"]
    head = [f"{_n(found['outcomes'])} outcomes, no state: the next outcome", "a snapshot", "folded from 0"]
    return (
        "### Snapshot\n\n"
        + _table(head, rows)
        + f"\n{_n(found['snapshot_mb'])} MB in {found['snapshot_files']} files: {found['installed_s']:.1f} s to look"
        f" for, fetch, verify and open; {_n(found['tail'])} records came after it. Taking one of"
        f" {_n(pauses['entries'])} entries held the loop of a writer for {pauses['snapshot_calls_ms']:.1f} ms at most;"
        f" the longest pause of the loop with whatever else ran {pauses['snapshot_ms']:.1f} ms, without a snapshot"
        f" {pauses['idle_ms']:.1f} ms, while RocksDB's own checkpoint was made in a thread"
        f" {pauses['checkpoint_ms']:.1f} ms.\n"
    )


def _folded_from_word_s(found: Document) -> float:
    return statistics.median(float(start["from_word_s"]) for start in found["folded"])


def _verify(found: Document) -> str:
    rows = [
        [
            f"`gapless {p['name']}`",
            f"{_n(p['events_per_s'])}/s",
            f"{p['cpu_us_per_event']:.1f} µs",
            f"{_n(p['memory_mb'])} MB",
        ]
        for p in found["proofs"]
    ]
    return (
        "### Proofs\n\n"
        + _table(["", "outcomes", "CPU each", "memory"], rows)
        + f"\nBaseline: {found['baseline']}, events and commands: {_n(found['baseline_per_s'])} outcomes/s.\n"
    )


def _depth(found: Document) -> str:
    rows = [
        [
            f"after {_n(found[name]['after'])} commands",
            f"{_n(found[name]['commands_per_s'])}/s",
            f"{found[name]['cpu_us_per_command']:.1f} µs",
            f"{_n(found[name]['memory_mb'])} MB",
        ]
        for name in ("early", "late")
    ]
    return (
        "### Depth\n\n"
        + _table(["one partition", "commands", "CPU each", "memory"], rows)
        + f"\nLate to early: {found['ratio']:.0%}. Memory of the sequencer in the whole pass: at most"
        f" {_n(found['memory_mb'])} MB.\n"
    )


def _receipts(found: Document) -> str:
    rows = [
        _latency("sends at 10/s, without receipts", found["sends_alone"]),
        _latency(f"the same with {_n(found['marks_per_s'])} receipts/s", found["sends"]),
        _latency("the receipts, combined for a quarter of a second", found["marks"]),
    ]
    return (
        "### Receipts\n\n"
        + _latency_table(rows)
        + f"\nOne chat of {_n(found['members'])} members, over HTTP. Sends with receipts take {found['ratio']:.1f} ×"
        f" their time without, at the median. A second after the load {found['undecided']} commands were undecided and"
        f" {found['unprojected']} outcomes not in the tables. A receipt costs {found['cpu_us_per_mark']:.0f} µs CPU of"
        " ingest, sequencer and projector together.\n"
    )


_SECTIONS: Final = {
    "sequencer": _sequencer,
    "stages": _stages,
    "ingest": _ingest,
    "projector": _projector,
    "live": _live,
    "live_fanout": _live_fanout,
    "history": _history,
    "unread": _unread,
    "sync": _sync,
    "reactions": _reactions,
    "search": _search,
    "recovery": _recovery,
    "snapshot": _snapshot,
    "verify": _verify,
    "receipts": _receipts,
    "depth": _depth,
}


_ROUNDS: Final[Mapping[str, Callable[[Document], int]]] = {
    "sequencer": lambda found: len(next(iter(found["throughput"]), {"runs": ()})["runs"]),
    "stages": lambda found: int(found["rounds"]),
    "ingest": lambda found: len(found["single"]),
    "projector": lambda found: len(found["live"]),
    "history": lambda found: len(found["runs"]),
    "recovery": lambda found: len(found["cold"]),
    "snapshot": lambda found: len(found["with_snapshot"]),
    "verify": lambda found: len(found["proofs"][0]["seconds"]),
}
"""Number of rounds, for benchmarks that run in rounds and keep each."""


def _ran(name: str, found: Document) -> str:
    machine = found["machine"]
    said = f"{machine['started_at']} UTC, {machine['cores']} cores, Python {machine['python']}"
    if name in _ROUNDS:
        rounds = _ROUNDS[name](found)
        said += f", median of {rounds} rounds" if rounds > 1 else ", one round"
    if machine["quiet"]:
        return f"\n<sub>{said}.</sub>\n"
    return f"\n<sub>**Preliminary**: others used {machine['others_cores']:.1f} of the cores meanwhile. {said}.</sub>\n"


def _latency(words: str, found: Document) -> list[str]:
    return [words, *(f"{found[part]:.2f} ms" for part in ("p50_ms", "p99_ms", "p999_ms", "max_ms"))]


def _latency_table(rows: Sequence[Sequence[str]]) -> str:
    return _table(["", "p50", "p99", "p99.9", "max"], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _n(value: float) -> str:
    """Three digits that mean something, and thousands apart."""
    if value >= 1_000:
        digits = len(str(int(value))) - 3
        return f"{round(value, -digits):,.0f}"
    return f"{value:.3g}"


def _panels(found: Mapping[str, Document]) -> list[Panel]:
    panels: list[Panel] = []
    for t in found.get("sequencer", {}).get("throughput", ()):
        theirs = [Bar(label="Postgres trigger, synced", value=t["baseline_per_s"], ours=False)] if t["ratio"] else []
        title = f"Commands sequenced: {_SHAPES[t['name']]}"
        panels.append(
            Panel(title=title, bars=[Bar(label="Gapless, one process", value=t["commands_per_s"], ours=True), *theirs])
        )
    if ingest := found.get("ingest"):
        batch = ingest["batch"]
        panels.append(
            Panel(
                title="Messages for a core of ingest",
                bars=[
                    Bar(label="single sends answered with seq", value=ingest["per_core_s"], ours=True),
                    *([Bar(label="in batches of 500", value=1e6 / batch["cpu_us"], ours=True)] if batch else []),
                    Bar(label="a bare FastAPI route", value=ingest["baseline_per_core_s"], ours=False),
                ],
            )
        )
    if projector := found.get("projector"):
        panels.append(
            Panel(
                title="Records from the log into Postgres",
                bars=[
                    Bar(label="live", value=projector["events_per_s"], ours=True),
                    Bar(label="rebuild", value=projector["rebuild_per_s"], ours=True),
                    Bar(label="COPY and index build", value=projector["baseline_per_s"], ours=False),
                ],
            )
        )
    if history := found.get("history"):
        panels.append(
            Panel(
                title="Pages of history, eight clients",
                bars=[
                    Bar(label="over HTTP, one process", value=history["requests_per_s"], ours=True),
                    Bar(label="bare SQL", value=history["baseline_per_s"], ours=False),
                ],
            )
        )
    return panels


def _lines(found: Mapping[str, Document]) -> list[Line]:
    sequencer = found.get("sequencer", {})
    lines = [
        Line(label=f"append → outcome at {each['per_s']:,}/s", points=each["distribution"])
        for each in sequencer.get("latency", ())
    ]
    if ingest := found.get("ingest"):
        latency = ingest["latency"]
        lines.append(Line(label=f"HTTP send → 201 at {latency['per_s']:,}/s", points=latency["distribution"]))
    if live := found.get("live"):
        lines.append(Line(label="HTTP send → in the tables, idle", points=live["send_to_visible"]["distribution"]))
    if theirs := sequencer.get("baseline_latency"):
        lines.append(Line(label="Postgres trigger, 8 clients in a closed loop", points=theirs["distribution"]))
    return lines
