"""Failures as a person at the terminal sees them: one clear line, exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


@contextmanager
def explained() -> Iterator[None]:
    """Turn what a person can mend (our own errors, a database that cannot be reached) into a line on stderr."""
    try:
        yield
    except Exception as error:
        message = _message(error)
        if message is None:
            raise
        _end(message)


def reason(error: BaseException) -> str:
    """An error in one line, without the context that libraries add."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _message(error: Exception) -> str | None:
    from crm_assets.core.errors import CrmAssetsError

    if isinstance(error, CrmAssetsError):
        return " ".join(str(error).split()) or type(error).__name__
    import psycopg
    import sqlalchemy.exc

    if isinstance(error, sqlalchemy.exc.OperationalError) and error.orig is not None:
        return f"the database cannot be used: {reason(error.orig)}"
    if isinstance(error, psycopg.OperationalError):
        return f"the database cannot be used: {reason(error)}"
    import pydantic

    if isinstance(error, pydantic.ValidationError) and error.title == "Settings":
        return "; ".join(f"CRM_ASSETS_{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors())
    return None


def _end(message: str) -> NoReturn:
    print(f"crm-assets: {message}", file=sys.stderr)
    raise SystemExit(2)
