"""Names: from the vendor's spelling to Postgres identifiers, chosen once and never changed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

RESERVED = frozenset({"row_id", "id"})
"""Columns of ours that a vendor's field may not take; such a field gets the suffix ``_crm``."""

_MAX = 63
_NOT_A_WORD = re.compile(r"[^a-zA-Z\d_]+")
_CAMEL_1 = re.compile(r"([^_])([A-Z][a-z]+)")
_CAMEL_2 = re.compile(r"([a-z0-9])([A-Z])")
_UNDERSCORES = re.compile(r"__+")
_REDUCED = str.maketrans("+-*@|", "x_xal")


def snake(name: str) -> str:
    """dlt's snake_case of a vendor's name: ``AccountId`` → ``account_id``, ``Amount_USD__c`` → ``amount_usd_c``.

    The rule is restated here because importing dlt costs more than all of the definitions; the tests hold the two
    together. Names over 63 characters are left to dlt, which shortens them with a hash.
    """
    words = _NOT_A_WORD.sub("_", name.strip().translate(_REDUCED))
    words = _CAMEL_2.sub(r"\1_\2", _CAMEL_1.sub(r"\1_\2", words)).lower()
    if words[:1].isdigit():
        words = "_" + words
    stem = words.rstrip("_")
    result = _UNDERSCORES.sub("_", stem + "x" * (len(words) - len(stem)))
    if len(result) <= _MAX:
        return result
    from dlt.common.normalizers.naming.snake_case import NamingConvention

    return str(NamingConvention(max_length=_MAX).normalize_identifier(name))


def identifier(name: str) -> str:
    """A name of ours for a function or index; one that Postgres would cut off ends in a hash instead."""
    data = name.encode()
    if len(data) <= _MAX:
        return name
    return f"{data[: _MAX - 9].decode(errors='ignore')}_{hashlib.blake2b(data, digest_size=4).hexdigest()}"


def columns(names: Iterable[str], chosen: Mapping[str, str], id_field: str) -> dict[str, str]:
    """Column of each field, in API-name order; ``chosen`` are earlier choices, which always stand.

    The id field has the fixed column ``id``. Of two fields that collide, the first by API name keeps the plain name,
    the others get ``_2``, ``_3`` …; a name of ours gets ``_crm``.
    """
    result = dict(chosen)
    taken = set(result.values())
    for name in sorted(set(names) - set(result)):
        if name == id_field:
            continue
        base = snake(name)
        if base in RESERVED or base.startswith("_"):
            base = f"{base.lstrip('_')[: _MAX - 4]}_crm"
        column, n = base, 1
        while column in taken:
            n += 1
            column = f"{base[: _MAX - 1 - len(str(n))]}_{n}"
        result[name] = column
        taken.add(column)
    return {name: result[name] for name in names if name in result}
