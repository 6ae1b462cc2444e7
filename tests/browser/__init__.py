"""The catalog in a real browser: Chromium, a server of the demo, and what is checked of each page."""
