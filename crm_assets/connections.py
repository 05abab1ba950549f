"""Connections as defs.yaml describes them, read without Dagster.

The relay and the command line read the same files as Dagster's component does, with the same meaning.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import jinja2
import yaml
from jinja2.nativetypes import NativeEnvironment
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from crm_assets.connectors.base import ConnectionConfig
from crm_assets.core.errors import ConfigurationError
from crm_assets.core.model import Guard, Object, Policy, Rules
from crm_assets.core.naming import snake

COMPONENT = "crm_assets.components.CrmConnection"

Place = tuple[str, ...]
"""A key of a document, with the keys above it."""

Lines = Mapping[Place, int]
"""The line of each key."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,47}")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _policy(name: str) -> Policy:
    try:
        return Policy(name)
    except ValueError:
        raise ValueError(f"there is no conflict policy {name!r}; write {', '.join(Policy)}") from None


class GuardSpec(_Strict):
    """How many deletions at once wait for a person: when both are passed, in either direction."""

    delete_share: float = Guard().delete_share
    """Share of the object's records, from 0 to 1."""
    delete_rows: int = Guard().delete_rows

    @field_validator("delete_share")
    @classmethod
    def _is_share(cls, value: float) -> float:
        if not 0 <= value <= 1:
            raise ValueError("write a share from 0 to 1")
        return value

    @field_validator("delete_rows")
    @classmethod
    def _is_count(cls, value: int) -> int:
        if value < 0:
            raise ValueError("write a number of records, 0 or more")
        return value


class QuotaSpec(_Strict):
    """What our calls leave to the account's people and other apps."""

    reserve: float = 0.05
    """Of limits per hour or day: a share from 0 to below 1, or a number of calls."""
    warn_from: float = 0.9
    """From which share of a limit per hour or day on the check warns; it fails when the limit is used up."""
    single_changes: float = 0.04
    """Which share of a limit per hour or day may go into bringing the CRM's changes at once, one by one; beyond it
    they are gathered, for up to ten minutes."""

    @field_validator("reserve")
    @classmethod
    def _is_amount(cls, value: float) -> float:
        if value < 0:
            raise ValueError("write a share from 0 to below 1, or a number of calls")
        return value

    @field_validator("warn_from", "single_changes")
    @classmethod
    def _is_share(cls, value: float) -> float:
        if not 0 < value <= 1:
            raise ValueError("write a share above 0, up to 1")
        return value


class ReconcileSpec(_Strict):
    """How both ends are compared, and what is done about what differs."""

    repair: str = "auto"
    """auto: what differs is repaired; ask: after a person's approval; report: it is only listed."""
    fields_every_hours: float = 24
    """How old a comparison of every field may become; in between, counts are compared, which costs a call or two."""
    ask_from: int = 20_000
    """More repairs than this (and than a fifth of the object's records) wait for a person's approval."""
    fail_from: int = 1
    """From how many different records on the check fails as an error; below that it warns."""

    @field_validator("repair")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value not in ("auto", "ask", "report"):
            raise ValueError(f"there is no repair policy {value!r}; write auto, ask or report")
        return value

    @property
    def fields_every(self) -> timedelta:
        return timedelta(hours=self.fields_every_hours)


class ObjectSpec(_Strict):
    """What to do with one object of the CRM."""

    write: bool = False
    """Whether the product's changes are written back."""
    external_id: str | None = None
    """API name of the unique external-id field that carries our row_id."""
    fields: Literal["*"] | list[str] = "*"
    where: str | None = None
    """Restriction of the records, in the vendor's query language."""
    conflict: str | dict[str, str] = {}
    """The object's policy, or policies of single fields by API name; the connection's policy is for the others."""
    guard: GuardSpec = GuardSpec()
    whole_every_hours: float = 24
    """How often associations, and lines of records, are read as a whole: some changes of theirs leave no trace."""

    calculated_every_hours: float = 24
    """How often the columns that the CRM calculates (formulas, roll-ups) are read for all records; 0: never."""

    @field_validator("whole_every_hours", "calculated_every_hours")
    @classmethod
    def _is_time(cls, value: float) -> float:
        if value < 0:
            raise ValueError("write a number of hours, 0 or more")
        return value

    @field_validator("conflict")
    @classmethod
    def _are_policies(cls, value: str | dict[str, str]) -> str | dict[str, str]:
        for name in [value] if isinstance(value, str) else value.values():
            _policy(name)
        return value


class ConnectionSpec(_Strict):
    """The attributes of one connection in defs.yaml."""

    # Bounds are checked by validators: Dagster also checks the types before the templates are resolved.
    connection: str
    """Schema, group and asset prefix."""
    connector: str
    url: str
    enabled: bool = True
    """False: the connection is left out, as if it were not defined."""
    credentials: dict[str, str] = {}
    """Names of environment variables, by credential."""
    schedule: str = "* * * * *"
    """When Dagster reads what changed, as a cron expression."""
    conflict: str = "hold"
    """What happens when both sides changed the same field: both values are kept and a person decides."""
    objects: dict[str, ObjectSpec]
    owners: list[str] = ["team:data-platform"]
    """Of the assets: e-mail addresses or ``team:name``."""
    options: dict[str, str | int | float | bool] = {}
    """Settings of the connector's own."""
    quota: QuotaSpec = QuotaSpec()
    reconcile: ReconcileSpec = ReconcileSpec()
    call_timeout_seconds: float = 120
    """After this long without a reply a call counts as lost."""
    longest_call_seconds: float = 600
    """The longest that the vendor may still work on a call whose caller is gone."""

    @field_validator("connection")
    @classmethod
    def _is_schema_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError(
                "a name is at most 48 lower case letters, digits and underscores, and starts with a letter"
            )
        return value

    @field_validator("conflict")
    @classmethod
    def _is_policy(cls, value: str) -> str:
        return _policy(value).value

    @field_validator("call_timeout_seconds", "longest_call_seconds")
    @classmethod
    def _is_positive(cls, value: float) -> float:
        if value <= 0:
            raise ValueError("write a number of seconds above 0")
        return value

    @field_validator("objects")
    @classmethod
    def _tables_differ(cls, value: dict[str, ObjectSpec]) -> dict[str, ObjectSpec]:
        by_table: dict[str, str] = {}
        for name in value:
            if (other := by_table.setdefault(snake(name), name)) != name:
                raise ValueError(f"{other} and {name} would share the table {snake(name)}; remove one of them")
        return value

    def config(self) -> ConnectionConfig:
        return ConnectionConfig(
            name=self.connection,
            connector=self.connector,
            url=self.url.rstrip("/"),
            credentials=dict(self.credentials),
            options=dict(self.options),
            call_timeout=timedelta(seconds=self.call_timeout_seconds),
            longest_call=timedelta(seconds=self.longest_call_seconds),
        )

    def rules(self, obj: Object) -> Rules:
        """What these settings decide about an object, by column. Fields it does not have are left out."""
        choice = self.objects[obj.name]
        whole, fields = (choice.conflict, {}) if isinstance(choice.conflict, str) else (self.conflict, choice.conflict)
        return Rules(
            conflict=Policy(whole),
            fields=tuple((obj.by_name[name].column, Policy(p)) for name, p in fields.items() if name in obj.by_name),
            guard=Guard(choice.guard.delete_share, choice.guard.delete_rows),
            whole_every=timedelta(hours=choice.whole_every_hours),
            calculated_every=timedelta(hours=choice.calculated_every_hours),
        )

    @staticmethod
    def table(name: str) -> str:
        """The table of an object."""
        return snake(name)

    def tables(self) -> dict[str, ObjectSpec]:
        """The objects by table name."""
        return {snake(name): spec for name, spec in self.objects.items()}


def load_connections(defs_dir: Path) -> dict[str, ConnectionSpec]:
    """All enabled connections below ``defs_dir``, by name. ConfigurationError names file, line, key and remedy."""
    found: dict[str, tuple[Path, ConnectionSpec]] = {}
    for path in sorted(defs_dir.rglob("defs.yaml")):
        for document, lines in _documents(path):
            if document.get("type") != COMPONENT:
                continue
            spec = parse(document.get("attributes") or {}, path, lines)
            if spec.connection in found:
                raise ConfigurationError(
                    f"{_where(('connection',), path, lines)}: {spec.connection} is defined in "
                    f"{found[spec.connection][0]} already; give one of them another name"
                )
            found[spec.connection] = path, spec
    return {name: spec for name, (_, spec) in found.items() if spec.enabled}


def parse(attributes: Mapping[str, Any], path: Path, lines: Lines) -> ConnectionSpec:
    """Attributes with their templates resolved and checked."""
    try:
        return ConnectionSpec.model_validate(_rendered(attributes, (), path, lines))
    except ValidationError as error:
        raise ConfigurationError("; ".join(_explained(item, path, lines) for item in error.errors())) from error


def unknown_object(spec: ConnectionSpec, name: str, known: Iterable[str]) -> str:
    """What to say of an object of defs.yaml that the CRM does not have."""
    near = difflib.get_close_matches(name, list(known), n=1)
    remedy = f"did you mean {near[0]}?" if near else "correct its API name, or let the account read it"
    return f"defs.yaml of {spec.connection}: objects.{name}: the CRM has no such object; {remedy}"


class Env:
    """``env('NAME', 'default')`` and ``env.NAME`` in templates. A missing variable is an error that names it."""

    def __call__(self, name: str, default: str | None = None) -> str:
        value = os.environ.get(name, default)
        if value is None:
            raise ConfigurationError(
                f"environment variable {name} is not set; export it, or write env('{name}', 'a default')"
            )
        return value

    def __getattr__(self, name: str) -> str:
        # Jinja probes its globals for attributes of its own; those are lower case, variables are not.
        if name != name.upper():
            raise AttributeError(name)
        return self(name)


def _rendered(value: Any, at: Place, path: Path, lines: Lines) -> Any:
    if isinstance(value, dict):
        return {key: _rendered(item, (*at, str(key)), path, lines) for key, item in value.items()}
    if isinstance(value, list):
        return [_rendered(item, at, path, lines) for item in value]
    if not isinstance(value, str) or "{{" not in value:
        return value
    try:
        environment = NativeEnvironment(undefined=jinja2.StrictUndefined)
        return environment.from_string(value).render(env=Env())
    except ConfigurationError as error:
        raise ConfigurationError(f"{_where(at, path, lines)}: {error}") from error
    except jinja2.TemplateError as error:
        raise ConfigurationError(
            f"{_where(at, path, lines)}: the template {value!r} cannot be read: {error}; "
            "write {{ env('NAME', 'a default') }}"
        ) from error


def _documents(path: Path) -> list[tuple[dict[str, Any], Lines]]:
    try:
        text = path.read_text(encoding="utf-8")
        nodes = [node for node in yaml.compose_all(text, yaml.SafeLoader) if node is not None]
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigurationError(
            f"{path}:{line}: this is no YAML: {error.problem}; check indentation, quotes and colons there"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path}:1: this is no YAML: {' '.join(str(error).split())}; save it as UTF-8"
        ) from error
    result: list[tuple[dict[str, Any], Lines]] = []
    for node, document in zip(nodes, documents, strict=True):
        attributes = document.get("attributes") if isinstance(document, dict) else None
        if not isinstance(document, dict) or not isinstance(attributes or {}, dict):
            raise ConfigurationError(
                f"{path}:{node.start_mark.line + 1}: a component is written as `type:` and `attributes:` with keys"
            )
        lines: dict[Place, int] = {}
        _lines(node, (), lines)
        result.append((document, lines))
    return result


def _lines(node: yaml.Node, at: Place, lines: dict[Place, int]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            place = (*at, str(key.value))
            lines[place] = key.start_mark.line + 1
            _lines(value, place, lines)


def _where(place: Place, path: Path, lines: Lines) -> str:
    """File, line and key; the line of the nearest key above if this one is not in the file."""
    keys = [("attributes", *place[:length]) for length in range(len(place), -1, -1)]
    line = next((lines[key] for key in keys if key in lines), 1)
    return f"{path}:{line}: {'.'.join(place) or 'attributes'}"


def _model(above: Place) -> type[BaseModel]:
    """What the keys below this place belong to."""
    match above:
        case ():
            return ConnectionSpec
        case ("quota",):
            return QuotaSpec
        case ("reconcile",):
            return ReconcileSpec
        case ("objects", _, "guard"):
            return GuardSpec
        case _:
            return ObjectSpec


def _explained(error: Any, path: Path, lines: Lines) -> str:
    """One line: file, line, key, what is wrong, what to do."""
    place = tuple(str(part) for part in error["loc"])
    where = _where(place, path, lines)
    match error["type"]:
        case "extra_forbidden":
            known = list(_model(place[:-1]).model_fields)
            near = difflib.get_close_matches(place[-1], known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known keys are {', '.join(known)}"
            return f"{where}: there is no such key; {hint}"
        case "missing":
            return f"{where}: this key is required; add it"
        case "value_error":
            return f"{where}: {error['ctx']['error']}"
        case kind:
            wanted = _KINDS.get(kind, error["msg"])
            return f"{where}: {wanted}, not {error['input']!r}"


_KINDS = {
    "bool_parsing": "write true or false",
    "bool_type": "write true or false",
    "dict_type": "write keys below it",
    "float_parsing": "write a number",
    "float_type": "write a number",
    "int_parsing": "write a whole number",
    "list_type": "write a list",
    "literal_error": 'write "*" or a list',
    "model_type": "write keys below it, or {}",
    "string_type": "write text (in quotes if it looks like a number)",
}
