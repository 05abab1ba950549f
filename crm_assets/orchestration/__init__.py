"""The Dagster layer: from a connection to assets, checks, jobs, schedules and sensors."""
