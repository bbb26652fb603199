"""Discriminative process reward models: a token-classification head that judges each step at its last token."""

from genprm.training.prm.job import PrmProgress, PrmReport, train_discriminative

__all__ = ["PrmProgress", "PrmReport", "train_discriminative"]
