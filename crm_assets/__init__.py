"""Your CRM as Postgres tables that your product reads and writes, every CRM object a Dagster asset."""

__version__ = "0.1.0"
