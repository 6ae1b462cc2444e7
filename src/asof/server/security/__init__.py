"""Authentication and authorization: keys, tokens, certificates, roles, TLS, and the audit log."""
