"""The HTTP server: Feast's routes and Asof's own over one store. It has no feature logic."""
