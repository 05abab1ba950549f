"""The command line: ``crm-assets``.

Commands import what they need when they run, so that ``--help`` and a mistyped option answer at once.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, ParamSpec

import typer

from crm_assets.up.options import DAGSTER_PORT, GRPC_PORT, RELAY_PORT, ROWS, SANDBOX_PORT, Options

P = ParamSpec("P")

app = typer.Typer(
    name="crm-assets",
    help="Your CRM as Postgres tables that your product reads and writes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConnectionName = Annotated[str, typer.Argument(metavar="CONNECTION", help="Name of the connection in defs.yaml.")]
ObjectNames = Annotated[
    list[str] | None, typer.Argument(metavar="[OBJECT]...", help="API or table names; without any: all objects.")
]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")]
SeedDir = Annotated[Path | None, typer.Option(help="<connection>/<Object>.csv for the sandbox's first start.")]
Rows = Annotated[int, typer.Option(min=1, help="Records that the sandbox makes up without seed files.")]


def _command(body: Callable[P, int]) -> Callable[P, None]:
    """Turn a function that returns its exit code into a command; what a person can mend is one line, exit 2."""

    @wraps(body)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        from crm_assets.up.failures import explained

        with explained():
            code = body(*args, **kwargs)
        raise typer.Exit(code)

    return run


@app.command()
@_command
def up(
    once: Annotated[bool, typer.Option("--once", help="Sync, reconcile, print the status, stop.")] = False,
    no_relay: Annotated[bool, typer.Option("--no-relay", help="Leave single changes to Dagster's schedules.")] = False,
    seed_dir: SeedDir = None,
    rows: Rows = ROWS,
    dagster_port: Port = DAGSTER_PORT,
    sandbox_port: Port = SANDBOX_PORT,
    relay_port: Port = RELAY_PORT,
    grpc_port: Annotated[int, typer.Option(min=0, max=65535, help="Of the sandbox's Pub/Sub.")] = 0,
) -> int:
    """Start everything: Postgres, sandbox, relay and Dagster, with the first sync; prints `ready`.

    Without SALESFORCE_URL it works against a local sandbox, without CRM_ASSETS_DATABASE_URL on a Postgres of its own.
    Ctrl-C stops what it started.
    """
    from crm_assets.settings import Settings
    from crm_assets.up.run import run

    options = Options(once, not no_relay, seed_dir, rows, dagster_port, sandbox_port, relay_port, grpc_port)
    return run(Settings(), options)


@app.command()
@_command
def sandbox(
    port: Port = SANDBOX_PORT,
    grpc_port: Annotated[int, typer.Option(min=0, max=65535, help="For Pub/Sub. 0 takes a free one.")] = GRPC_PORT,
    seed_dir: SeedDir = None,
    rows: Rows = ROWS,
    push: Annotated[
        list[str] | None, typer.Option(metavar="[VENDOR=]URL", help="Tell this address of a vendor's changes.")
    ] = None,
    vendor: Annotated[list[str] | None, typer.Option(help="Only this one; may be repeated.")] = None,
) -> int:
    """Run the local sandbox alone: it speaks the CRMs' wire protocols and keeps their records."""
    from crm_assets.sandbox.room import VENDORS
    from crm_assets.sandbox.server import serve
    from crm_assets.settings import Settings

    directory = Settings().home.absolute() / "sandbox"
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    return serve(directory, port, seed_dir, rows, push or [], vendors=vendor or VENDORS, grpc_port=grpc_port)


@app.command()
@_command
def relay(port: Port = RELAY_PORT) -> int:
    """Run the relay alone: webhooks, re-reads and write-back of single changes.

    Starts the embedded Postgres for its own duration if no database is configured and none runs.
    """
    from crm_assets.relay import main
    from crm_assets.up import proc
    from crm_assets.up.working import prepared

    # As a child of `up` it leaves the server to that: one it had started itself would end with it.
    with prepared(start=proc.MARK not in os.environ) as (settings, _):
        main(port, settings)
    return 0


@app.command()
@_command
def status(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> int:
    """Whether anything needs a person: exit 0 if not, 1 if so."""
    from crm_assets.quota.state import forecast
    from crm_assets.store.status import status as read
    from crm_assets.up.report import print_status
    from crm_assets.up.working import prepared

    with prepared() as (_, db):
        found = read(db)
        with db.transaction() as conn:
            for name, connection in found["connections"].items():
                for quota, at in forecast(conn, name).items():
                    connection["quota"][quota]["used_up_at"] = at.isoformat()
    if as_json:
        print(json.dumps(found, indent=2, default=str))
    else:
        print_status(found)
    return 0 if found["ok"] else 1


@app.command()
@_command
def url(
    role: Annotated[str, typer.Option(metavar="[writer|reader|owner]", help="Whose rights.")] = "writer",
) -> int:
    """Print the database URL of the running set-up, for psql and for your product."""
    from crm_assets.settings import Settings
    from crm_assets.up.addresses import database_url

    found = database_url(Settings(), role)
    print(found.url)
    if found.note:
        print(found.note, file=sys.stderr)
    return 0


@app.command()
@_command
def describe(connections: Annotated[list[str] | None, typer.Argument(metavar="[CONNECTION]...")] = None) -> int:
    """Ask the CRM again what its objects look like, and bring the tables to it."""
    from crm_assets.up import work

    return work.describe(connections or [])


@app.command()
@_command
def sync(
    connection: ConnectionName,
    objects: ObjectNames = None,
    full: Annotated[bool, typer.Option("--full", help="Read everything, not only what changed.")] = False,
) -> int:
    """Bring mirror tables up to the CRM now; exit 1 if an object could not be finished."""
    from crm_assets.up import work

    return work.sync(connection, objects or [], full=full)


@app.command()
@_command
def reconcile(connection: ConnectionName, objects: ObjectNames = None) -> int:
    """Compare both ends record by record and repair; exit 1 if an object is not complete."""
    from crm_assets.up import work

    return work.reconcile(connection, objects or [])


@app.command()
@_command
def check(connection: Annotated[str | None, typer.Argument(metavar="[CONNECTION]")] = None) -> int:
    """Whether the configuration is valid, credentials are present and the database can be reached.

    With a CONNECTION its account is looked at, without changing anything: permissions for each object and field,
    limits, push channels, and what to fix in the CRM's menus; exit 1 if there is something.
    """
    from crm_assets.up import check as run

    return run.check() if connection is None else run.account(connection)


if __name__ == "__main__":
    app()
