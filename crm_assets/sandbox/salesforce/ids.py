"""Record ids as Salesforce writes them: the object's prefix, base 62, and a suffix that guards the case."""

from __future__ import annotations

import re

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SUFFIX = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
_SHAPE = re.compile(r"[0-9A-Za-z]{15}(?:[0-9A-Za-z]{3})?")
ORG_ID = "00D5g000004SandboEAE"[:15]


def suffix(short: str) -> str:
    """The three characters that say which letters of the 15 are capitals."""
    out = ""
    for start in (0, 5, 10):
        bits = sum(1 << i for i, letter in enumerate(short[start : start + 5]) if "A" <= letter <= "Z")
        out += _SUFFIX[bits]
    return out


def full(text: str) -> str | None:
    """The 18 characters of an id of 15 or 18; None if the text is no id.

    The suffix of a long id repairs its case: an id that went through a system without capitals still works.
    """
    if not _SHAPE.fullmatch(text):
        return None
    if len(text) == 15:
        return text + suffix(text)
    short = ""
    for block, code in zip((text[0:5], text[5:10], text[10:15]), text[15:].upper(), strict=True):
        bits = _SUFFIX.find(code)
        if bits < 0:
            return None
        for i, letter in enumerate(block):
            short += letter.upper() if bits >> i & 1 else letter.lower()
    return short + suffix(short) if suffix(short) == text[15:].upper() else None


def encode(number: int, width: int) -> str:
    """A number in base 62, padded to a width."""
    out = ""
    while number:
        number, rest = divmod(number, 62)
        out = _DIGITS[rest] + out
    return out.rjust(width, "0")


def make(prefix: str, number: int, pod: str = "5h0") -> str:
    """The id of the number-th record of an object."""
    short = f"{prefix}{pod}{encode(number, 9)}"
    return short + suffix(short)
