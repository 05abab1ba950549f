"""Status and results as tables on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

_COMPLETE = {True: "[green]yes[/]", False: "[red]no[/]", None: "not compared yet"}
_HEALTHY = frozenset({"confirmed", "superseded", "discarded", "done", "ignored"})


def print_status(status: Mapping[str, Any], console: Console | None = None) -> None:
    """The status as documented for ``--json``, for people."""
    console = console or Console()
    for name, connection in status["connections"].items():
        table = Table("object", title=name, title_justify="left", title_style="bold")
        for heading in ("rows", "complete", "as of", "waiting for (s)"):
            table.add_column(heading, justify="right")
        for object_name, entry in connection["objects"].items():
            waiting = entry["oldest_unsynced_seconds"]
            table.add_row(
                object_name,
                f"{entry['rows']:,}",
                _COMPLETE[entry["complete"]],
                (entry["complete_as_of"] or "")[:19].replace("T", " "),
                "" if waiting is None else f"{waiting:.1f}",
            )
        console.print(table)
        for kind in ("outbox", "inbox"):
            counts = {state: count for state, count in connection[kind].items() if state not in _HEALTHY}
            if counts:
                console.print(f"{kind}: " + ", ".join(f"{count} {state}" for state, count in counts.items()))
        if connection["conflicts"]:
            console.print(f"[red]{connection['conflicts']} open conflicts[/]: SELECT * FROM crm_assets.conflict")
        for quota, use in connection["quota"].items():
            ending = f"; at this rate used up at {use['used_up_at'][:16]}" if "used_up_at" in use else ""
            console.print(f"{quota}: {use['used']:,} of {use['limit']:,}{ending}")
    if not status["connections"]:
        console.print("No object has been described yet; start with `crm-assets up` or `crm-assets describe`.")
    console.print("[green]ok[/]" if status["ok"] else "[red]something needs a person[/]")
