"""Internals of `genprm.engines.http`."""
