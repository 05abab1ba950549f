"""The benchmark runs as a user would start it, and writes what it promises."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from crm_assets_tests.bench.__main__ import plans, table
from crm_assets_tests.bench.child import WORKS


def test_each_planned_measurement_exists() -> None:
    planned = {f"{plan.work}/{system}" for plan in plans(1_000) for system in plan.systems}
    assert planned == set(WORKS) - {"prepare/crm_assets"}
    assert {plan.work for plan in plans(1_000)} >= {
        *("first_load_bulk", "first_load_rest", "first_load_hubspot", "incremental", "capture", "writeback"),
        *("relay_in", "relay_out"),
    }


@pytest.mark.timeout(600)
def test_a_small_run_writes_its_results(tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    arguments = ["--rows", "400", "--repeat", "1", "--work", "first_load_bulk", "--work", "capture"]
    done = subprocess.run(
        [sys.executable, "-m", "crm_assets_tests.bench", *arguments, "--output", str(output)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads(output.read_text(encoding="utf-8"))["results"]
    assert [(r["work"], r["system"]) for r in results] == [
        *(("first_load_bulk", s) for s in ("limit", "crm_assets", "dlt", "simple_salesforce_pandas")),
        *(("capture", s) for s in ("limit", "crm_assets")),
    ]
    for one in results:
        assert set(one) == {"work", "system", "rows", "seconds", "rows_per_second", "peak_mb", "ratio_to_limit"}
        assert set(one["seconds"]) == {"median", "min", "max"}
        assert one["rows"] == 400 and one["peak_mb"] > 10 and one["rows_per_second"] > 0
        assert 0 < one["seconds"]["min"] <= one["seconds"]["median"] <= one["seconds"]["max"]
        assert one["ratio_to_limit"] == 1 if one["system"] == "limit" else one["ratio_to_limit"] > 0
    assert table(results).row_count == len(results)
    assert "first_load_bulk" in done.stdout
