"""Internals of `genprm.engines.local`; imports torch, so nothing here is loaded before it is needed."""
