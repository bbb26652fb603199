"""Prompt profiles: how requests to the models read, kept as data files beside this package.

`load_profile(name_or_path)` reads a built-in profile (`list_profiles()` has their names) or a user's own YAML or JSON
file with the same fields; `extends: NAME` starts from a built-in one.
"""

from genprm.text.prompts.load import CARD, list_profiles, load_profile
from genprm.text.prompts.models import (
    PolicyProfile,
    Profile,
    RefineProfile,
    TeacherProfile,
    VerifierProfile,
    fill,
)

__all__ = [
    "CARD",
    "PolicyProfile",
    "Profile",
    "RefineProfile",
    "TeacherProfile",
    "VerifierProfile",
    "fill",
    "list_profiles",
    "load_profile",
]
