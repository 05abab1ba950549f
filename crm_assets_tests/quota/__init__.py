"""Budgets shared by processes."""
