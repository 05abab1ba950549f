"""What a defs.yaml may name."""

from crm_assets.orchestration.component import CrmConnection

__all__ = ["CrmConnection"]
