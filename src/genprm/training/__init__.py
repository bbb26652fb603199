"""Training: chat samples with their loss masks, and supervised fine-tuning of verifiers."""

from genprm.training.chat_data import ChatEncoder, EncodedSample, as_form, build_samples, encode
from genprm.training.folder import MARKER
from genprm.training.prompt_check import PromptCheck, require_components
from genprm.training.report import TrainProgress, TrainReport
from genprm.training.sft import check_model, train, training_key

__all__ = [
    "MARKER",
    "ChatEncoder",
    "EncodedSample",
    "PromptCheck",
    "TrainProgress",
    "TrainReport",
    "as_form",
    "build_samples",
    "check_model",
    "encode",
    "require_components",
    "train",
    "training_key",
]
