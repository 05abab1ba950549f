"""HubSpot: CRM objects, associations, owners and pipelines of one account."""

from crm_assets.connectors.hubspot.connector import HubspotConnector

__all__ = ["HubspotConnector"]
