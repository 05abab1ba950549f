"""Formulas: which fields of which parents one shows, as far as its text tells.

Source: Salesforce Help, "Formula Operators and Functions"; describe's ``calculatedFormula`` is the text as it was
written. A path names relationships and at last a field (``Account.Owner.Name``); ``Owner:User.Name`` chooses among the
objects that a reference may point to; ``$User.Id`` is no field of a record.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_NOT_CODE = re.compile(r"""/\*.*?\*/|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'""", re.DOTALL)
_PATH = re.compile(r"(?<![\w.$:])([A-Za-z]\w*)(?::\w+)?\.([A-Za-z]\w*)(?::\w+)?(\.[A-Za-z]\w*)?")


def parents(formula: str, links: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """(reference field, the parent's field) for each path of the formula, once; ``links`` are the reference fields by
    relationship in lower case. Of a path over several parents this is its first step: the reference that leads on."""
    found = {}
    for relation, following, further in _PATH.findall(_NOT_CODE.sub(" ", formula)):
        if own := links.get(relation.lower()):
            found[own, _link(following) if further else following] = True
    return tuple(found)


def _link(relation: str) -> str:
    """The reference field of a relationship, as Salesforce names both."""
    return f"{relation[:-1]}c" if relation.endswith("__r") else f"{relation}Id"
