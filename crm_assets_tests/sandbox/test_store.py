"""What was answered is kept, whatever happens to the process."""

from __future__ import annotations

import threading

import httpx

from crm_assets_tests.plugins.sandbox import MakeSandbox, Sandbox, wait_until


def test_records_survive_a_kill(sandbox: Sandbox) -> None:
    """Writers go on until the process is taken away; whatever they were told is there afterwards."""
    told: list[str] = []

    def write() -> None:
        with sandbox.api() as api:
            try:
                while True:
                    reply = api.post("/sobjects/Lead", json={"LastName": "L", "Company": "C"})
                    told.append(reply.json()["id"])
            except httpx.HTTPError:
                return

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(told) > 50)
    sandbox.kill()
    for thread in threads:
        thread.join()
    sandbox.start()
    records = sandbox.records("Lead")
    assert len(set(told)) == len(told)
    assert set(told) <= records.keys()
    # Ids go on rising, so that none is given twice.
    assert sandbox.create("Lead", LastName="L", Company="C") > max(told)


def test_an_open_transaction_commits_at_the_stop(sandbox: Sandbox) -> None:
    sandbox.faults({"kind": "late_commit"})
    made = sandbox.create("Account", Name="Late")
    assert made not in sandbox.records("Account")
    assert sandbox.stop() == 0
    sandbox.start()
    assert made in sandbox.records("Account")


def test_truth_comes_in_pages(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox(rows=8000)
    first = sandbox.control("GET", "/contact")
    assert len(first["records"]) == 1000 and first["next"] == first["records"][-1]["id"]
    records = sandbox.records("Contact")
    assert len(records) == 2800 and list(records) == sorted(records)


def test_a_locator_keeps_its_rows(make_sandbox: MakeSandbox) -> None:
    """Rows made while a client turns pages do not shift them."""
    sandbox = make_sandbox(rows=2000)
    before = set(sandbox.alive("Contact"))
    with sandbox.api(headers={"Sforce-Query-Options": "batchSize=200"}) as api:
        page = api.get("/query", params={"q": "SELECT Id FROM Contact ORDER BY LastName"}).json()
        found = [row["Id"] for row in page["records"]]
        while not page["done"]:
            sandbox.create("Contact", LastName="AAA")
            page = api.get(f"{sandbox.url}{page['nextRecordsUrl']}").json()
            found += [row["Id"] for row in page["records"]]
    assert len(found) == len(before) and set(found) == before


def test_port_in_use(sandbox: Sandbox, make_sandbox: MakeSandbox) -> None:
    port = int(sandbox.url.rpartition(":")[2])
    try:
        make_sandbox(port=port)
    except RuntimeError as failed:
        assert f"port {port} cannot be used" in str(failed)
    else:
        raise AssertionError("two servers at one port")
