"""The HTTP server: Feast's routes and Asof's own over one store; it decides nothing about features itself."""
