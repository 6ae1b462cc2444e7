"""Online stores: one packed row per table and key; one protocol, and one package per product."""
