"""The calls that a connection may make, and has made."""
