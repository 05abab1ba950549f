"""A NetSuite account: SuiteTalk REST, SuiteQL, the metadata catalog and asynchronous jobs."""
