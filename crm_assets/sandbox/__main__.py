"""``python -m crm_assets.sandbox``: starts the sandbox by itself."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from .room import VENDORS
from .server import DEFAULT_ROWS, serve


def main() -> int:
    parser = argparse.ArgumentParser(prog="crm_assets.sandbox", description="Local servers that speak like CRMs.")
    parser.add_argument("--port", type=int, default=8700, help="0 takes a free one")
    parser.add_argument("--grpc-port", type=int, help="for Pub/Sub; 0 takes a free one, without it there is none")
    parser.add_argument("--vendor", action="append", choices=VENDORS, help="only this one; may be repeated")
    parser.add_argument("--data-dir", type=Path, required=True, help="where the records are kept")
    parser.add_argument("--seed-dir", type=Path, help="<vendor>/<Object>.csv for the first start")
    parser.add_argument("--rows", type=int, default=DEFAULT_ROWS, help="records to generate without seed files")
    parser.add_argument(
        "--push", action="append", default=[], metavar="[VENDOR=]URL", help="tell this address of a vendor's changes"
    )
    parser.add_argument("--session-seconds", type=float, default=7200.0, help="life of an idle session")
    parser.add_argument("--keep-alive-seconds", type=float, default=270.0, help="of an idle Pub/Sub subscription")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    return serve(
        given.data_dir,
        given.port,
        given.seed_dir,
        given.rows,
        given.push,
        given.session_seconds,
        given.vendor or VENDORS,
        given.grpc_port,
        given.keep_alive_seconds,
    )


if __name__ == "__main__":
    sys.exit(main())
