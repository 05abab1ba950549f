"""Child processes of the tests that kill or race them: forked from a server that has imported what they need."""

from __future__ import annotations

import multiprocessing

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    [
        *("pytest", "dlt", "dlt.destinations", "psycopg2", "adbc_driver_postgresql.dbapi"),
        *("crm_assets.connectors.salesforce", "crm_assets_tests.faults.test_crash_matrix"),
        "crm_assets_tests.faults.test_concurrency",
    ]
)
