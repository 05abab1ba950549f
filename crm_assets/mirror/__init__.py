"""CRM → stage: windows are read, landed with dlt, and handed to apply."""
