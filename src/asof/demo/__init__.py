"""The demo: a simulated shop, and the story that `asof demo` tells with it."""
