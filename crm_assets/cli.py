"""The command line: ``crm-assets``.

Commands import what they need when they run, so that ``--help`` and a mistyped option answer at once.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from crm_assets.up.options import Options

app = typer.Typer(
    name="crm-assets",
    help="Your CRM as Postgres tables that your product reads and writes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
