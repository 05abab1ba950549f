"""HubSpot: CRM objects, properties, associations, search and webhooks, as one account."""
