"""From the configuration to open products: find their classes, their servers, and open them on first use."""
