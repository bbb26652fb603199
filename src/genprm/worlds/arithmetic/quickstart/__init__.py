"""All six parts in the built-in arithmetic world, with tiny real models, and a report."""

from genprm.config import EvaluationConfig, QuickstartConfig
from genprm.worlds.arithmetic.quickstart.run import run_quickstart
from genprm.worlds.arithmetic.quickstart.settings import quickstart_defaults

__all__ = ["EvaluationConfig", "QuickstartConfig", "quickstart_defaults", "run_quickstart"]
