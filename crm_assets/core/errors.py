"""Errors, sorted by what the caller should do.

    CrmAssetsError
    ├── ConfigurationError   a person must change a setting; the message names it and the remedy
    ├── RetriableError       the same call may succeed later (``retry_after``); nothing was done
    │   ├── QuotaExhausted   later means when the vendor's window moves (``until``)
    │   └── Busy             another process is doing this very work
    ├── UnknownOutcome       the call left and no reply came: it may or may not have been done
    ├── RejectedError        the vendor refused this request for good
    │   ├── ObjectUnavailable   this object cannot be read; the others can
    │   └── SchemaChanged       the request names a field that the vendor does not know (any more)
    └── FatalError           our own invariant is broken

A message says what happened, to which connection, object and record, and what to do. It never holds a secret or
the body of a record.
"""

from __future__ import annotations

from datetime import datetime, timedelta


class CrmAssetsError(Exception):
    """Root of all errors of this package."""


class ConfigurationError(CrmAssetsError):
    """A setting is missing or wrong."""


class RetriableError(CrmAssetsError):
    """The call was certainly not carried out and may be sent again after ``retry_after``."""

    def __init__(self, message: str, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class QuotaExhausted(RetriableError):
    """The vendor's (or our own share's) limit is reached; it is worth asking again at ``until``."""

    def __init__(self, message: str, until: datetime | None = None) -> None:
        super().__init__(message)
        self.until = until


class Busy(RetriableError):
    """Another process is doing this work and has a live lease on it."""


class UnknownOutcome(CrmAssetsError):
    """A request that may have changed something got no reply."""


class RejectedError(CrmAssetsError):
    """The vendor refused the request and would refuse it again; ``code`` is the vendor's own."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class ObjectUnavailable(RejectedError):
    """The object does not exist for this account or may not be read with its permissions."""


class SchemaChanged(RejectedError):
    """The request named a field that the object does not have (any more): describe the object anew, then ask again."""


class FatalError(CrmAssetsError):
    """Something that cannot happen did; the message says what was found instead."""
