"""What an account is asked before anything is synced: calls at once, and whether deletions are listed.

Sources: "Concurrency Governance" (``governanceLimits``, for administrators); Permissions documentation. The menus are
those of the account's Setup.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from crm_assets.connectors.netsuite.client import CONCURRENCY, Client
from crm_assets.core.errors import RejectedError
from crm_assets.core.readiness import Finding, Need, Standing

_ROLE = "Setup > Users/Roles > Manage Roles > (the integration's role) > Permissions"
_MENUS: Mapping[Need, str] = {
    Need.READ: f"{_ROLE} > Lists or Transactions: {{name}}, level View; Reports: SuiteAnalytics Workbook",
    Need.WRITE: f"{_ROLE} > Lists or Transactions: {{name}}, level Full",
    Need.FIELDS: "Customization > Lists, Records, & Fields > (the field) > Access: the role, level Edit",
    Need.EXTERNAL_ID: "every record type has externalId: name it in defs.yaml ({name})",
}


def menu(need: Need, name: str) -> str:
    return _MENUS[need].format(name=name)


def inspect(client: Client, configured: int) -> Iterator[Finding]:
    """``configured`` is how many calls at once defs.yaml counts on."""
    yield from _concurrency(client, configured)
    yield from _deletions(client)
    yield Finding(
        Standing.NOTE,
        "push",
        "NetSuite has no webhooks: without a script of the account, the schedule finds what changes",
        "Customization > Scripting > Scripts > New: the user event script of docs/connectors/netsuite.md, deployed on "
        "each record type",
    )


def _concurrency(client: Client, configured: int) -> Iterator[Finding]:
    menu_of = "Setup > Integration > Integration Governance"
    try:
        body = client.get("/services/rest/system/v1/governanceLimits", "governance", "limit of calls at once")
    except RejectedError:
        said = f"only an administrator may ask for the account's limit of calls at once; {configured} are counted on"
        yield Finding(Standing.NOTE, CONCURRENCY, said, f"{menu_of}: Account Concurrency Limit")
        return
    most = int(body.get("integrationConcurrencyLimit") or body["accountConcurrencyLimit"])
    if most < configured:
        said = f"options.account_concurrency is {configured}, and the account allows {most}"
        yield Finding(Standing.FIX, CONCURRENCY, said, f"write account_concurrency: {most} in defs.yaml; {menu_of}")
    else:
        yield Finding(Standing.OK, CONCURRENCY, f"{configured} of the account's {most} calls at once are used")


def _deletions(client: Client) -> Iterator[Finding]:
    try:
        client.rows("SELECT recordid FROM deletedrecord WHERE 1 = 0", "deleted records", limit=1)
    except RejectedError as error:
        said = f"deletions are not listed for the role, and are found by comparing only ({error.code})"
        yield Finding(Standing.FIX, "deletions", said, f"{_ROLE} > Lists: Deleted Records, level View")
    else:
        yield Finding(Standing.OK, "deletions", "deletions are listed")
