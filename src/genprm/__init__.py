"""genprm: train, run and serve generative process reward models."""

__version__ = "0.1.0"
