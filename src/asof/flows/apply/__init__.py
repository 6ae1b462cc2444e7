"""From a repository's definitions to applied ones: plan, checks, apply, teardown."""
