"""The component that a defs.yaml names: one CRM account."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from crm_assets.connections import ConnectionSpec, Env, ObjectSpec
from crm_assets.core.errors import ConfigurationError


class CrmObject(ObjectSpec, dg.Resolvable):
    """What to do with one object; its values may be templates, as for the relay."""


class CrmConnection(ConnectionSpec, dg.Component, dg.Resolvable):
    """One CRM account as Postgres tables: a mirror asset per object, write-back for those the product may change,
    checks of completeness, a schedule, a dispatcher sensor, and jobs for full refresh and backfill."""

    objects: dict[str, CrmObject]  # type: ignore[assignment]  # frozen: nobody puts a plain ObjectSpec in

    @classmethod
    def get_spec(cls) -> dg.ComponentTypeSpec:
        return dg.ComponentTypeSpec(
            description="A CRM account as Postgres tables, two-way.",
            owners=["team:data-platform"],
            produces=["asset", "asset_check", "job", "schedule", "sensor"],
        )

    @classmethod
    def get_additional_scope(cls) -> Mapping[str, Any]:
        """``env`` as the relay and the command line read it: a missing variable is named instead of being None."""
        return {"env": Env()}

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        # Late, so that `dg check yaml` and `dg list components` do not load the engine.
        from crm_assets.orchestration.build import build

        if not self.enabled:
            return dg.Definitions()
        if not self.objects:
            raise ConfigurationError(f"connection {self.connection}: objects is empty; name at least one object")
        return build(self)
