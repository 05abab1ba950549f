"""Narrowing: equal counts per window of the version on both ends, ids only where they differ.

One lost record among a million costs some thirty calls: three levels of eight windows each, one list of ids.
"""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise

from crm_assets.connectors.base import Connector
from crm_assets.core.compare import Counted, by_ids, next_step
from crm_assets.core.model import Object, Window
from crm_assets.reconcile import sides
from crm_assets.store.database import Database

_PARTS = 8
_LEAF = 2_000
"""Records of a window whose ids are listed instead of counting parts of it."""


def suspects(db: Database, connector: Connector, obj: Object, high: datetime) -> tuple[set[str], Counted]:
    """Ids that only one end has among the records with a version below ``high``; and both ends' counts in all."""
    connection = connector.config.name
    whole = Window(None, high)
    total = Counted(whole, connector.count(obj, whole), sides.counts(db, connection, obj, whole, [])[0])
    found: set[str] = set()
    level = [total]
    while level:
        step = next_step(level, _LEAF)
        level = []
        for one in step.split:
            parts = _split(db, connector, obj, one)
            if len(parts) > 1:
                level += parts
            else:
                found |= _differing_ids(db, connector, obj, one.window)
        for one in step.compare:
            found |= _differing_ids(db, connector, obj, one.window)
    return found, total


def unversioned_suspects(db: Database, connector: Connector, obj: Object) -> tuple[set[str], int, int]:
    """The same for an object without a version that windows could be made of."""
    remote: set[str] = set()
    count = connector.count(obj)
    here = sides.local_ids(db, connector.config.name, obj)
    if count == len(here):
        return set(), count, len(here)
    for ids in connector.ids(obj):
        remote.update(ids)
    return {finding.id for finding in by_ids(remote, here)}, count, len(here)


def _split(db: Database, connector: Connector, obj: Object, one: Counted) -> list[Counted]:
    """About equal parts by the mirror's own records. The last part's count follows from the others'."""
    connection = connector.config.name
    bounds = sides.boundaries(db, connection, obj, one.window, _PARTS)
    edges = [one.window.low, *bounds, one.window.high]
    windows = [Window(low, high) for low, high in pairwise(edges) if high is not None]
    local = sides.counts(db, connection, obj, one.window, bounds)
    remote = [connector.count(obj, window) for window in windows[:-1]]
    remote.append(max(0, one.remote - sum(remote)))
    return [Counted(*counted) for counted in zip(windows, remote, local, strict=True)]


def _differing_ids(db: Database, connector: Connector, obj: Object, window: Window) -> set[str]:
    remote: set[str] = set()
    for ids in connector.ids(obj, window):
        remote.update(ids)
    return {finding.id for finding in by_ids(remote, sides.ids_within(db, connector.config.name, obj, window))}
