"""``crm-assets up``: starts what a working set-up consists of, watches it, and takes it down again.

The parts are processes of their own: Postgres, the sandbox, the relay and Dagster's two. None of them depends on this
one for correctness; it keeps them running.
"""
