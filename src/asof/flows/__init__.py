"""The flows: apply, reads, materialize, streams, pushes. They use protocols, never products."""
