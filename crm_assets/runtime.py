"""What a process needs to work: the database, and a connection with its connector and its described objects."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from psycopg.errors import LockNotAvailable

from crm_assets.connections import ConnectionSpec, ObjectSpec
from crm_assets.connectors import registry
from crm_assets.connectors.base import Connector
from crm_assets.core.errors import Busy, ConfigurationError
from crm_assets.core.model import Object
from crm_assets.mirror import sync
from crm_assets.quota.gate import QuotaGate
from crm_assets.settings import Settings
from crm_assets.store import catalog, embedded, migrations
from crm_assets.store.database import Database

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Connection:
    """One CRM account as this process uses it. ``objects`` are the configured ones, by table name."""

    spec: ConnectionSpec
    connector: Connector
    objects: Mapping[str, Object]
    db: Database
    home: Path | None = None
    """Where the snapshot of the describe goes that Dagster's definitions read."""

    @property
    def name(self) -> str:
        return self.spec.connection

    def close(self) -> None:
        """Let go of the connector. The database stays open: it is shared."""
        close_connector(self.connector)


def open_database(settings: Settings) -> Database:
    """The configured database, or the embedded server that is running, brought to this version's schema.

    ConfigurationError when neither is there. Nothing is started; see ``database``.
    """
    url = settings.database_url or embedded.running_url(settings.home)
    if url is None:
        raise ConfigurationError(
            "no database: the embedded Postgres is not running; start it with `crm-assets up`, "
            "or set CRM_ASSETS_DATABASE_URL"
        )
    migrations.upgrade(url)
    return Database(url)


@contextmanager
def database(settings: Settings) -> Iterator[Database]:
    """Like ``open_database``, but an embedded server that is not running runs for as long as the body does."""
    with ExitStack() as stack:
        if settings.database_url is None and embedded.running_url(settings.home) is None:
            stack.enter_context(embedded.serve(settings.home))
        db = open_database(settings)
        stack.callback(db.close)
        yield db


def open_connector(db: Database, spec: ConnectionSpec, lane: str) -> Connector:
    """The connector alone, its calls counted against ``lane`` (see ``core.budget``). Asks the CRM nothing."""
    config = spec.config()
    gate = QuotaGate(db, spec.connection, lane, config.longest_call, spec.quota.reserve)
    connector = registry.make(config, gate)
    gate.declare(connector.budgets)
    return connector


def close_connector(connector: Connector) -> None:
    """Close the connector, then write the last of what its gate has seen."""
    connector.close()
    gate = connector.gate
    if isinstance(gate, QuotaGate):
        gate.close()


def open_connection(settings: Settings, db: Database, spec: ConnectionSpec, lane: str) -> Connection:
    """The connection with its objects from the stored describe; objects never described, or whose describe the CRM
    has refused, are described now.

    An object that the account cannot read is left out; the others work.
    """
    connector = open_connector(db, spec, lane)
    try:
        return Connection(spec, connector, described(settings, db, spec, connector), db, settings.home)
    except BaseException:
        close_connector(connector)
        raise


def described(settings: Settings, db: Database, spec: ConnectionSpec, connector: Connector) -> dict[str, Object]:
    """The configured objects as stored, by table name; those that are missing are described and stored first."""
    stored = catalog.load(db, spec.connection)
    known = {obj.name for obj in stored.values()} - catalog.doubted(db, spec.connection)
    missing = {name: choice for name, choice in spec.objects.items() if name not in known}
    if missing:
        _describe(db, connector, missing)
        stored = catalog.load(db, spec.connection)
        catalog.write_snapshot(settings.home, spec.connection, stored)
    return _configured(spec, stored)


def refresh(connection: Connection) -> Connection:
    """Describe every configured object anew, so that changed fields are known; the connection with what was found."""
    spec, db = connection.spec, connection.db
    _describe(db, connection.connector, spec.objects)
    stored = catalog.load(db, spec.connection)
    if connection.home is not None:
        catalog.write_snapshot(connection.home, spec.connection, stored)
    return replace(connection, objects=_configured(spec, stored))


def _describe(db: Database, connector: Connector, specs: Mapping[str, ObjectSpec]) -> None:
    """Describe and store, one object at a time: a wrong setting of one must not keep the others from working.

    Raises the first such error if not a single object could be described.
    """
    errors: list[ConfigurationError] = []
    for name, spec in specs.items():
        try:
            found = sync.describe(db, connector, {name: spec})
        except ConfigurationError as error:
            log.error("%s: %s is left out: %s", connector.config.name, name, error)
            errors.append(error)
            continue
        except (Busy, LockNotAvailable):
            log.info("%s: %s is in use; a later run describes it anew", connector.config.name, name)
            continue
        for reason in found.unavailable.values():
            log.warning("%s: %s is left out: %s", connector.config.name, name, reason)
    if errors and len(errors) == len(specs):
        raise errors[0]


def _configured(spec: ConnectionSpec, stored: Mapping[str, Object]) -> dict[str, Object]:
    """Objects once synced and since removed from defs.yaml keep their tables and are left alone."""
    return {table: replace(obj, rules=spec.rules(obj)) for table, obj in stored.items() if obj.name in spec.objects}
