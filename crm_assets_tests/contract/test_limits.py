"""Limits: the vendor's own numbers are passed on, and its refusals stop the calls."""

from __future__ import annotations

import pytest

from crm_assets.core.errors import QuotaExhausted
from crm_assets_tests.contract.crms import Crm


def test_replies_tell_of_the_limit(crm: Crm) -> None:
    if not crm.vendor.told:
        return
    crm.connector.fetch(crm.obj, crm.ids[:1])
    limit = crm.gate.limits[crm.vendor.limit]
    assert 0 < limit.used < limit.limit


def test_the_documented_limits_are_stated(crm: Crm) -> None:
    budgets = {budget.name: budget for budget in crm.connector.budgets}
    assert crm.vendor.limit in budgets and all(budget.limit > 0 for budget in budgets.values())


def test_every_call_takes_its_token(crm: Crm) -> None:
    crm.sandbox.reset_calls()
    before = crm.gate.calls
    crm.read()
    crm.connector.fetch(crm.obj, crm.ids[:1])
    assert crm.gate.calls - before == crm.sandbox.calls()["total"] > 1


def test_a_refused_read_says_so(crm: Crm) -> None:
    crm.sandbox.faults({"kind": "429", "path": crm.vendor.read_path})
    with pytest.raises(QuotaExhausted):
        crm.read()
