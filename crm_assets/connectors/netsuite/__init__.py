"""NetSuite: entities, items and transactions of one account, with the lines of transactions."""

from crm_assets.connectors.netsuite.connector import NetsuiteConnector

__all__ = ["NetsuiteConnector"]
