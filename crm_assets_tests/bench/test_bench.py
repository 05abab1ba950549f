"""The benchmark runs as a user would start it, and writes what it promises."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from crm_assets_tests.bench.__main__ import plans, table
from crm_assets_tests.bench.child import WORKS
from crm_assets_tests.bench.watching import Log, Seen


def test_each_planned_measurement_exists() -> None:
    planned = {f"{plan.work}/{system}" for plan in plans(1_000) for system in plan.systems}
    assert planned == set(WORKS) - {"prepare/crm_assets"}
    assert {plan.work for plan in plans(1_000)} >= {
        *("first_load_bulk", "first_load_rest", "first_load_hubspot", "incremental", "capture", "writeback"),
        *("relay_in", "relay_out"),
    }
    assert {plan.work for plan in plans(1_000) if plan.sustained} == {"relay_sustained", "relay_sustained_quota"}


def test_changes_are_seen_with_the_first_number_that_covers_them() -> None:
    log = Log()
    for seen in (Seen("a", 1, 10.0), Seen("a", 4, 12.0), Seen("b", 3, 11.0)):
        log.add(seen)
    changes = [Seen("a", 1, 9.5), Seen("a", 2, 11.0), Seen("b", 3, 10.0), Seen("a", 4, 11.5), Seen("a", 5, 13.0)]
    assert log.latencies(changes) == [0.5, 1.0, 1.0, 0.5], "2 was overtaken by 4, and 5 never came"
    assert log.has({"a": 4, "b": 2}) and not log.has({"a": 5})


@pytest.mark.timeout(600)
@pytest.mark.parametrize("work", ["relay_sustained", "relay_sustained_quota"])
def test_sustained_changes_arrive_at_both_ends(work: str, tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    arguments = ["--rows", "40", "--seconds", "2", "--rate", "10", "--work", work, "--output", str(output)]
    done = subprocess.run(
        [sys.executable, "-m", "crm_assets_tests.bench", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (found,) = json.loads(output.read_text(encoding="utf-8"))["results"]
    assert (found["work"], found["rows"]) == (work, 40)
    assert found["out"]["count"] == 20 and found["out"]["p50_ms"] <= found["out"]["p99_ms"]
    assert 0 < found["in"]["count"] <= 20 and found["sandbox"]["event"]["count"] > 0
    assert found["relay_mb"]["first"] > 50 and set(found["cores"]) == {"relay", "sandbox", "postgres", "driver"}
    assert 0 < found["calls"]["query"] < found["calls"]["limit"]


@pytest.mark.timeout(600)
def test_a_small_run_writes_its_results(tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    arguments = ["--rows", "400", "--repeat", "1", "--work", "first_load_bulk", "--work", "capture"]
    arguments += ["--work", "product_reads"]
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
        ("product_reads", "crm_assets"),
    ]
    assert results.pop()["calls"] == {"once": 0, "tenfold": 0}
    for one in results:
        assert set(one) == {"work", "system", "rows", "seconds", "rows_per_second", "peak_mb", "ratio_to_limit"}
        assert set(one["seconds"]) == {"median", "min", "max"}
        assert one["rows"] == 400 and one["peak_mb"] > 10 and one["rows_per_second"] > 0
        assert 0 < one["seconds"]["min"] <= one["seconds"]["median"] <= one["seconds"]["max"]
        assert one["ratio_to_limit"] == 1 if one["system"] == "limit" else one["ratio_to_limit"] > 0
    assert table(results).row_count == len(results)
    assert "first_load_bulk" in done.stdout
