"""The front door: what Dagster loads. Importing it asks neither the CRM nor the database anything."""

from __future__ import annotations

import warnings
from pathlib import Path

import dagster as dg

from crm_assets.settings import Settings


@dg.definitions
def defs() -> dg.Definitions:
    """Every connection below the defs folder, steps run in the process of their run."""
    import crm_assets.defs

    package = Path(crm_assets.defs.__file__).parent
    folder = Settings().defs
    return dg.Definitions.merge(
        _of_package(package) if folder.resolve() == package.resolve() else _of_folder(folder),
        # A process of its own per step would cost more than most steps take.
        dg.Definitions(executor=dg.in_process_executor),
    )


def _of_package(package: Path) -> dg.Definitions:
    """Components of the project. Not by searching for a pyproject.toml: an installed wheel has none above it."""
    import crm_assets.defs

    tree = dg.ComponentTree.from_module(defs_module=crm_assets.defs, project_root=package.parents[1])
    with warnings.catch_warnings():
        # Dagster's loader warns of its own functions, hundreds of times.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        warnings.simplefilter("ignore", dg.BetaWarning)
        return tree.build_defs()


def _of_folder(folder: Path) -> dg.Definitions:
    """A folder elsewhere (CRM_ASSETS_DEFS) is no module: its connections are read as the relay reads them."""
    from crm_assets.connections import load_connections
    from crm_assets.orchestration.build import build

    return dg.Definitions.merge(*(build(spec) for spec in load_connections(folder).values()))
