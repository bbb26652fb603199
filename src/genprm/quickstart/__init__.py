"""All six parts in the built-in arithmetic world, with tiny real models, and a report."""

from genprm.quickstart.run import run_quickstart
from genprm.quickstart.settings import EvaluationConfig, QuickstartConfig, quickstart_defaults

__all__ = ["EvaluationConfig", "QuickstartConfig", "quickstart_defaults", "run_quickstart"]
