"""The control schema: outbox, inbox, cursors, tombstones and what a person calls."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    for part in ("uuidv7", "tables", "outbox", "functions"):
        script = (Path(__file__).parent / f"r0001_{part}.sql").read_text(encoding="utf-8")
        op.get_bind().exec_driver_sql(script.replace("%", "%%"))
