"""Following a vendor's stream of changes: what it tells becomes hints in the inbox, with the place to go on from."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import cast

from crm_assets.connectors.base import Streaming
from crm_assets.core.errors import ConfigurationError, RetriableError
from crm_assets.core.model import Heard, Object
from crm_assets.store import streams
from crm_assets.store.database import Database

_BREATH_S = 0.01


class Following:
    """One topic of a connection. Of several relays one follows it; when that one dies, another goes on.

    Nothing is lost on the way: the place moves only together with the hints of what lies before it.
    """

    def __init__(
        self,
        db: Database,
        url: str,
        connection: str,
        topic: str,
        source: Callable[[], Streaming],
        objects: Callable[[], Mapping[str, Object]],
    ) -> None:
        self._db = db
        self._connection = connection
        self.topic = topic
        self._source = source
        self._objects = objects
        self._follower = streams.Follower(url, connection, topic)
        self._told: Iterator[Heard] | None = None
        self._known: Mapping[str, Object] = {}

    def turn(self) -> bool:
        """Hear the next part and keep it; false while another process follows the topic."""
        if not self._follower.hold():
            self._drop()
            return False
        try:
            if self._told is None or self._objects() != self._known:
                self._begin()
            assert self._told is not None
            heard = next(self._told, None)
            if heard is None:
                raise RetriableError(f"{self._connection}: stream {self.topic} has ended")
            if heard != Heard():
                self._follower.keep(heard)
            if heard.changes:
                # What is told meanwhile is kept together: a commit for each event would cost more than the event.
                time.sleep(_BREATH_S)
            return True
        except Exception as error:
            self._drop()
            if isinstance(error, RetriableError | ConfigurationError):
                streams.trouble(self._db, self._connection, self.topic, str(error))
            raise

    def close(self) -> None:
        self._drop()
        self._follower.close()

    def _begin(self) -> None:
        self._drop()
        self._known = self._objects()
        by_name = {obj.name: obj for obj in self._known.values()}
        self._told = self._source().follow(self.topic, self._follower.place(), by_name)

    def _drop(self) -> None:
        told, self._told = self._told, None
        if told is not None:
            cast(Generator[Heard], told).close()
