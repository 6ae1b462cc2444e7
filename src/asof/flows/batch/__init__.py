"""From batch sources to the online store and the archives."""
