"""Benchmarks as data, and metrics with intervals."""
