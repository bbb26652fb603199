"""Self-contained worlds with a computable truth, for demonstrations and tests."""
