"""From the configuration to the products: which there are, which servers they use, and when they are opened."""
