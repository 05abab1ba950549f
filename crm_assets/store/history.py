"""The forgetting of old history, in portions, each a transaction of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import partial

from crm_assets.store import activity, audit, inbox
from crm_assets.store.database import Database

_KEPT = timedelta(days=7)
"""Of settled hints and of what the relay did."""


def forget(
    db: Database, connections: Iterable[str], audit_kept: timedelta, going: Callable[[], bool] = lambda: True
) -> None:
    """Until nothing old is left, or ``going`` says no. Any number of processes may do so at once."""
    portions = [partial(inbox.purge, connection=name, older_than=_KEPT) for name in connections]
    portions += [partial(activity.purge, older_than=_KEPT), partial(audit.purge, older_than=audit_kept)]
    portions.append(partial(audit.purge_writes, older_than=audit_kept))
    for purge in portions:
        gone = 1
        while gone and going():
            with db.transaction() as conn:
                gone = purge(conn)
