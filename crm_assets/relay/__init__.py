"""The relay: the long-running process that moves single changes, in both directions, in milliseconds.

It receives webhooks and runs three workers per connection: ``events`` (inbox → re-read → mirror), ``writeback``
(outbox → CRM) and ``apply`` (what is left in the stage). NOTIFY wakes them; each also polls, so a lost wake-up costs
a moment and never a change. Everything it does can be done by any other process at the same time, because work is
claimed in the database: a second relay, or Dagster's runs, need no coordination.
"""

from __future__ import annotations

from crm_assets.relay.process import main

__all__ = ["main"]
