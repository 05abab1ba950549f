"""One measured process: does one work by one system, and prints the records it moved and the seconds it took."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from typing import Any

from crm_assets_tests.bench import capture, first_load, incremental, reads, relay, sustained, writeback
from crm_assets_tests.bench.measure import Flow, Setting

WORKS: dict[str, Callable[[Setting], float | dict[str, Any]]] = {
    **first_load.WORKS,
    **incremental.WORKS,
    **capture.WORKS,
    **writeback.WORKS,
    **relay.WORKS,
    **reads.WORKS,
    **sustained.WORKS,
}
"""By ``work/system``; each does ``setting.rows`` records and returns the seconds it took, or all it has to tell."""


def main() -> None:
    logging.disable(logging.WARNING)
    given = json.loads(sys.argv[1])
    flow = given.pop("flow")
    setting = Setting(**given, flow=flow and Flow(**flow))
    told = WORKS[f"{setting.work}/{setting.system}"](setting)
    if not isinstance(told, dict):
        # Of a latency, the seconds are those of a single change; ``rows`` of them were tried.
        told = {"rows": 1 if f"{setting.work}/{setting.system}" in relay.WORKS else setting.rows, "seconds": told}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
