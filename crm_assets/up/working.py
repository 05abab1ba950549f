"""What a command of its own needs: the settings, the environment of the running set-up, and the database."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from crm_assets.settings import Settings
from crm_assets.up import home, sandboxed
from crm_assets.up.options import SANDBOX_PORT

if TYPE_CHECKING:
    from crm_assets.store.database import Database


def settings() -> Settings:
    """The settings, with the home as an absolute path: children work elsewhere. Talks to the sandbox of the running
    ``up``, wherever that listens, if no CRM is configured."""
    found = Settings()
    found = found.model_copy(update={"home": found.home.absolute()})
    if sandboxed.wanted():
        running = home.find(found.home)
        url = (running and running.sandbox) or f"http://127.0.0.1:{SANDBOX_PORT}"
        sandboxed.use(url, found.home, running.pubsub if running else None)
    return found


@contextmanager
def prepared(*, start: bool = True) -> Iterator[tuple[Settings, Database]]:
    """Settings and an open database; an embedded server that is not running runs for as long as the body does.

    ``start`` false: it is somebody else's to start, and to be without it is an error.
    """
    from crm_assets import runtime
    from crm_assets.up.addresses import ensure_reachable

    quiet()
    found = settings()
    if found.database_url:
        ensure_reachable(found.database_url)
    if not start:
        db = runtime.open_database(found)
        try:
            yield found, db
        finally:
            db.close()
        return
    with runtime.database(found) as db:
        yield found, db


def quiet() -> None:
    """Commands talk on the terminal; libraries only warn."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
