"""Who may use the server, and who did: keys, tokens, certificates, roles, TLS, and the audit log."""
