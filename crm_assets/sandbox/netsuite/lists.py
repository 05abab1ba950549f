"""The account's lists: what references to no record type point to."""

from __future__ import annotations

LISTS: dict[str, tuple[str, ...]] = {
    "customerCategory": ("Corporate", "Individual", "Government"),
    "customerStatus": ("CUSTOMER-Closed Won", "PROSPECT-In Discussion", "LEAD-Qualified"),
    "vendorCategory": ("Supplier", "Contractor", "Tax Agency"),
    "term": ("Net 15", "Net 30", "Net 60", "Due on receipt"),
    "priceLevel": ("Base Price", "Corporate Discount", "Online Price"),
    "salesTaxItem": ("Standard Rate", "Zero Rate"),
    "leadSource": ("Web", "Partner Referral", "Trade Show", "Advertisement"),
    "location": ("Main Warehouse", "North Depot"),
    "department": ("Sales", "Services", "Finance"),
    "classification": ("Hardware", "Software"),
}
"""By name; ids count from 1 in this order. A seed file may add entries."""
