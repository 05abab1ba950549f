"""Salesforce: REST, Bulk API 2.0 and sObject Collections."""

from crm_assets.connectors.salesforce.connector import SalesforceConnector

__all__ = ["SalesforceConnector"]
