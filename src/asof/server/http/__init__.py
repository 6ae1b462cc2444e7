"""HTTP: connections, routes, request bodies, errors, and the OpenAPI document."""
