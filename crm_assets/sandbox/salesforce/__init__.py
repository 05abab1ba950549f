"""A CRM that speaks Salesforce's REST, Bulk 2.0 and OAuth protocols on a SQLite file."""
