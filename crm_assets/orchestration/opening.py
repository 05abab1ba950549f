"""Opening what a run works with: settings, database and connection, read at run time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import dagster as dg

from crm_assets.connections import ConnectionSpec
from crm_assets.settings import Settings

if TYPE_CHECKING:
    from crm_assets.core.model import Object
    from crm_assets.runtime import Connection
    from crm_assets.store.database import Database

_lock = threading.Lock()
_open: dict[str, Database] = {}


def shared_database() -> Database:
    """The database of this process, one pool for all its steps and ticks; migrated when first opened."""
    from crm_assets import runtime
    from crm_assets.store import embedded
    from crm_assets.store.database import plain_url

    settings = Settings()
    # The embedded server may have been started anew, elsewhere: its address is asked for each time.
    url = settings.database_url or embedded.running_url(settings.home)
    with _lock:
        if url is None or (known := _open.get(plain_url(url))) is None:
            known = runtime.open_database(settings)
            _open[known.url] = known
        return known


def close_databases() -> None:
    """Let go of all pools of this process."""
    with _lock:
        while _open:
            _open.popitem()[1].close()


@contextmanager
def opened(spec: ConnectionSpec, lane: str) -> Iterator[Connection]:
    """The connection for one step; ``lane`` names whose calls they are. What a person must settle (credentials,
    rights, names) fails the step at once, with the message alone."""
    from crm_assets import runtime
    from crm_assets.core.errors import ConfigurationError, RejectedError
    from crm_assets.store import audit

    try:
        connection = runtime.open_connection(Settings(), shared_database(), spec, lane)
        try:
            with audit.acting_as(f"run {dg.OpExecutionContext.get().run_id}"):
                yield connection
        finally:
            connection.close()
    except (ConfigurationError, RejectedError) as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error


def the_object(connection: Connection, table: str) -> Object:
    """The described object, or a failure that says why there is none."""
    obj = connection.objects.get(table)
    if obj is None:
        from crm_assets.connections import unknown_object

        name = next((name for name in connection.spec.objects if connection.spec.table(name) == table), table)
        raise dg.Failure(
            description=unknown_object(connection.spec, name, connection.connector.object_names()),
            allow_retries=False,
        )
    return obj
