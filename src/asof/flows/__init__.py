"""What Asof does, each flow read top to bottom; flows know protocols, never products."""
