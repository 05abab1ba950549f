"""One measured process: does one work by one system, and prints the records it moved and the seconds it took."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable

from crm_assets_tests.bench import capture, first_load, incremental, relay, writeback
from crm_assets_tests.bench.measure import Setting

WORKS: dict[str, Callable[[Setting], float]] = {
    **first_load.WORKS,
    **incremental.WORKS,
    **capture.WORKS,
    **writeback.WORKS,
    **relay.WORKS,
}
"""By ``work/system``; each does ``setting.rows`` records and returns the seconds it took."""


def main() -> None:
    logging.disable(logging.WARNING)
    setting = Setting(**json.loads(sys.argv[1]))
    seconds = WORKS[f"{setting.work}/{setting.system}"](setting)
    # Of a latency, the seconds are those of a single change; ``rows`` of them were tried.
    print(json.dumps({"rows": 1 if setting.work.startswith("relay") else setting.rows, "seconds": seconds}))


if __name__ == "__main__":
    main()
