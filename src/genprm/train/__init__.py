"""Training: chat samples with their loss masks, and supervised fine-tuning of verifiers."""

from genprm.train.chat_data import ChatEncoder, EncodedSample, as_form, build_samples, encode
from genprm.train.sft import MARKER, TrainProgress, TrainReport, fingerprint, train

__all__ = [
    "MARKER",
    "ChatEncoder",
    "EncodedSample",
    "TrainProgress",
    "TrainReport",
    "as_form",
    "build_samples",
    "encode",
    "fingerprint",
    "train",
]
