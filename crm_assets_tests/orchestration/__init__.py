"""The Dagster layer, on an ephemeral instance, between a real sandbox and a real database."""
