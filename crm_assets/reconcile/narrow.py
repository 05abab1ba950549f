"""Narrowing: equal counts per window of the version on both ends, ids only where they differ.

A window that differs is halved until listing its ids costs a call or two: one lost record among a million costs nine
counts. The last part's count follows from the others', so that each halving is one call.

Counts move while they are taken: a record that changes leaves its window on the CRM's side at once, on ours with the
next read. So records that have changed since the last read are listed first, and count on neither side.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise

from crm_assets.connectors.base import Connector
from crm_assets.core.compare import Counted, by_ids, next_step
from crm_assets.core.model import Object, Window
from crm_assets.reconcile import sides
from crm_assets.store.database import Database

_PARTS = 2
_LEAF = 2_000
"""Records of a window whose ids are listed instead of counting parts of it."""
_LATE = timedelta(hours=1)
"""How far behind what was equal last something may have been committed since."""
_AHEAD = timedelta(days=1)


def suspects(
    db: Database, connector: Connector, obj: Object, high: datetime, equal_to: datetime | None
) -> tuple[set[str], int]:
    """Ids that may differ among the records with a version below ``high``, and how many the CRM has of those.

    ``equal_to`` is the ``high`` of the last comparison that found both ends equal. A record whose change was lost
    is counted in both windows, on either side in another one: so what came since then is counted by itself.
    """
    whole = Window(None, high)
    spans = [Counted(whole, connector.count(obj, whole), 0)]
    mark = None if equal_to is None else (equal_to - _LATE).replace(microsecond=0)
    if mark is not None and mark < high:
        recent = Window(mark, high)
        since = connector.count(obj, recent)
        spans = [Counted(recent, since, 0), Counted(Window(None, mark), max(0, spans[0].remote - since), 0)]
    total = sum(span.remote for span in spans)
    aside: set[str] = set()
    if all(span.remote == _local(db, connector, obj, span.window, aside) for span in spans):
        return set(), total
    moved = Window(high, db.now() + _AHEAD)
    aside.update(one for ids in connector.ids(obj, moved) for one in ids)
    found: set[str] = set()
    # The newest first: what is found there has left its old window on the CRM's side.
    for span in spans:
        local = _local(db, connector, obj, span.window, aside)
        for window in _different(db, connector, obj, Counted(span.window, span.remote, local), aside):
            found |= _differing_ids(db, connector, obj, window, aside)
        aside |= found
    return found, total


def unversioned_suspects(db: Database, connector: Connector, obj: Object) -> tuple[set[str], int]:
    """The same for an object without a version that windows could be made of."""
    count = connector.count(obj)
    here = sides.local_ids(db, connector.config.name, obj)
    if count == len(here):
        return set(), count
    remote: set[str] = set()
    for ids in connector.ids(obj):
        remote.update(ids)
    return {finding.id for finding in by_ids(remote, here)}, count


def _different(db: Database, connector: Connector, obj: Object, counted: Counted, aside: set[str]) -> Iterator[Window]:
    """The smallest windows within this one that differ."""
    level = [counted]
    while level:
        step = next_step(level, _LEAF)
        yield from (one.window for one in step.compare)
        level = []
        for one in step.split:
            parts = _split(db, connector, obj, one, aside)
            if len(parts) > 1:
                level += parts
            else:
                yield one.window


def _split(db: Database, connector: Connector, obj: Object, one: Counted, aside: set[str]) -> list[Counted]:
    """About equal parts by the mirror's own records. The last part's count follows from the others'."""
    connection = connector.config.name
    bounds = sides.boundaries(db, connection, obj, one.window, _PARTS)
    edges = [one.window.low, *bounds, one.window.high]
    windows = [Window(low, high) for low, high in pairwise(edges) if high is not None]
    local = sides.counts(db, connection, obj, one.window, bounds, aside)
    remote = [connector.count(obj, window) for window in windows[:-1]]
    remote.append(max(0, one.remote - sum(remote)))
    return [Counted(*counted) for counted in zip(windows, remote, local, strict=True)]


def _local(db: Database, connector: Connector, obj: Object, window: Window, aside: set[str]) -> int:
    return sides.counts(db, connector.config.name, obj, window, [], aside)[0]


def _differing_ids(db: Database, connector: Connector, obj: Object, window: Window, aside: set[str]) -> set[str]:
    remote: set[str] = set()
    for ids in connector.ids(obj, window):
        remote.update(ids)
    here = sides.ids_within(db, connector.config.name, obj, window)
    return {finding.id for finding in by_ids(remote, here, aside)}
