"""Reading ahead: the next page is fetched and parsed while the last one is being stored."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager

from crm_assets.core.model import Page

_PATIENCE_S = 0.1


@contextmanager
def ahead(pages: Iterator[Page]) -> Iterator[Iterator[Page]]:
    """The same pages, one of them read ahead by a thread. What the reader raises comes out in its place.

    At the end of the body the thread has ended and the reader is closed, also when the body did not take every page.
    """
    ready: queue.Queue[Page | BaseException | None] = queue.Queue(maxsize=1)
    done = threading.Event()

    def hand_over(item: Page | BaseException | None) -> bool:
        while not done.is_set():
            try:
                ready.put(item, timeout=_PATIENCE_S)
            except queue.Full:
                continue
            return True
        return False

    def read() -> None:
        try:
            for page in pages:
                if not hand_over(page):
                    break
            hand_over(None)
        except BaseException as error:  # noqa: BLE001  it is the consumer's to handle
            hand_over(error)
        finally:
            if isinstance(pages, Generator):
                pages.close()

    def taken() -> Iterator[Page]:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    thread = threading.Thread(target=read, name="read-ahead", daemon=True)
    thread.start()
    try:
        yield taken()
    finally:
        done.set()
        thread.join()
