"""Connections as defs.yaml describes them, read without Dagster.

The relay and the command line read the same files as Dagster's component does, with the same meaning.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import jinja2
import yaml
from jinja2.nativetypes import NativeEnvironment
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from crm_assets.connectors.base import ConnectionConfig
from crm_assets.core.errors import ConfigurationError
from crm_assets.core.naming import snake

COMPONENT = "crm_assets.components.CrmConnection"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ObjectSpec(_Strict):
    """What to do with one object of the CRM."""

    write: bool = False
    """Whether the product's changes are written back."""
    external_id: str | None = None
    """API name of the unique external-id field that carries our row_id."""
    fields: Literal["*"] | list[str] = "*"
    where: str | None = None
    """Restriction of the records, in the vendor's query language."""


class ConnectionSpec(_Strict):
    """The attributes of one connection in defs.yaml."""

    connection: str = Field(pattern=r"^[a-z][a-z0-9_]{0,47}$")
    """Schema, group and asset prefix."""
    connector: str
    url: str
    credentials: dict[str, str] = Field(default_factory=dict)
    """Names of environment variables, by credential."""
    schedule: str = "* * * * *"
    conflict: Literal["hold"] = "hold"
    objects: dict[str, ObjectSpec]
    owners: list[str] = Field(default_factory=lambda: ["team:data-platform"])
    options: dict[str, str | int | float | bool] = Field(default_factory=dict)
    call_timeout_seconds: float = Field(default=120, gt=0)
    longest_call_seconds: float = Field(default=600, gt=0)

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

    def tables(self) -> dict[str, ObjectSpec]:
        """The objects by table name."""
        return {snake(name): spec for name, spec in self.objects.items()}


def load_connections(defs_dir: Path) -> dict[str, ConnectionSpec]:
    """All connections below ``defs_dir``, by name. ConfigurationError names file, line, key and remedy."""
    found: dict[str, tuple[Path, ConnectionSpec]] = {}
    for path in sorted(defs_dir.rglob("defs.yaml")):
        for document, lines in _documents(path):
            if document.get("type") != COMPONENT:
                continue
            spec = parse(document.get("attributes") or {}, path, lines)
            if spec.connection in found:
                raise ConfigurationError(
                    f"{path}: connection {spec.connection!r} is defined in {found[spec.connection][0]} already; "
                    "give one of them another name"
                )
            found[spec.connection] = path, spec
    return {name: spec for name, (_, spec) in found.items()}


def parse(attributes: Mapping[str, Any], path: Path, lines: Mapping[tuple[str, ...], int]) -> ConnectionSpec:
    """Attributes with their templates resolved and checked."""
    try:
        return ConnectionSpec.model_validate(_rendered(attributes, path))
    except ValidationError as error:
        raise ConfigurationError("; ".join(_explained(item, path, lines) for item in error.errors())) from error


def unknown_object(name: str, known: list[str]) -> str:
    """What to say of an object that the CRM does not have."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"the CRM has no object {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")


class _Env:
    """``env('NAME', 'default')`` and ``env.NAME`` in templates."""

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


def _rendered(value: Any, path: Path) -> Any:
    if isinstance(value, dict):
        return {key: _rendered(item, path) for key, item in value.items()}
    if isinstance(value, list):
        return [_rendered(item, path) for item in value]
    if not isinstance(value, str) or "{{" not in value:
        return value
    try:
        environment = NativeEnvironment(undefined=jinja2.StrictUndefined)
        return environment.from_string(value).render(env=_Env())
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: in {value!r}: {error}") from error
    except jinja2.TemplateError as error:
        raise ConfigurationError(f"{path}: the template {value!r} cannot be read: {error}") from error


def _documents(path: Path) -> list[tuple[dict[str, Any], dict[tuple[str, ...], int]]]:
    text = path.read_text(encoding="utf-8")
    try:
        nodes = [node for node in yaml.compose_all(text, yaml.SafeLoader) if node is not None]
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}: this is no YAML: {' '.join(str(error).split())}") from error
    result = []
    for node, document in zip(nodes, documents, strict=True):
        if not isinstance(document, dict):
            raise ConfigurationError(f"{path}: a component starts with `type:` and `attributes:`")
        lines: dict[tuple[str, ...], int] = {}
        _lines(node, (), lines)
        result.append((document, lines))
    return result


def _lines(node: yaml.Node, at: tuple[str, ...], lines: dict[tuple[str, ...], int]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            place = (*at, str(key.value))
            lines[place] = key.start_mark.line + 1
            _lines(value, place, lines)


def _explained(error: Any, path: Path, lines: Mapping[tuple[str, ...], int]) -> str:
    """One line: file, line, key, what is wrong, what to do."""
    place = tuple(str(part) for part in error["loc"])
    key = ".".join(place)
    line = lines.get(("attributes", *place)) or lines.get(("attributes", *place[:-1])) or lines.get(("attributes",), 1)
    where = f"{path}:{line}: {key}"
    match error["type"]:
        case "extra_forbidden":
            model = ObjectSpec if place[0] == "objects" else ConnectionSpec
            near = difflib.get_close_matches(place[-1], model.model_fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys are {', '.join(model.model_fields)}"
            return f"{where}: there is no such key; {hint}"
        case "missing":
            return f"{where}: this key is required; add it"
        case "string_pattern_mismatch":
            return f"{where}: a name is lower case letters, digits and underscores, and starts with a letter"
        case _:
            return f"{where}: {error['msg']} (found {error['input']!r})"
