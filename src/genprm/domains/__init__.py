"""What is special about a subject: extracting, grading and splitting. Mathematics comes first.

`load_domain(name)` makes a domain by name; a plugin adds one with `register_domain`.
"""

from __future__ import annotations

import difflib

from genprm.domains.base import Domain, Extracted, Graded, Role
from genprm.errors import ConfigError
from genprm.plugins import load_plugins, resolve

DOMAINS: dict[str, str] = {
    "math": "genprm.domains.math.domain:MathDomain",
    "math-announced": "genprm.domains.math.domain:AnnouncedMathDomain",
    "math-last-number": "genprm.domains.math.domain:LastNumberMathDomain",
}

__all__ = ["DOMAINS", "Domain", "Extracted", "Graded", "Role", "load_domain", "register_domain"]


def register_domain(name: str, target: str) -> None:
    """Make a domain known; `target` is `"package.module:Class"`, imported when first used."""
    DOMAINS[name] = target


def load_domain(name: str) -> Domain:
    """The domain of that name. Raises `ConfigError` for an unknown one, or one that cannot be made."""
    if name not in DOMAINS:
        load_plugins()
    if name not in DOMAINS:
        near = difflib.get_close_matches(name, DOMAINS, n=1)
        meant = f"did you mean '{near[0]}'? " if near else ""
        raise ConfigError(
            f"there is no domain '{name}'", hint=f"{meant}known: {', '.join(sorted(DOMAINS))}"
        )
    domain = resolve(DOMAINS[name], "the domain")()
    if not isinstance(domain, Domain):
        raise ConfigError(
            f"the domain '{DOMAINS[name]}' lacks a part of the protocol",
            hint="genprm.domains.Domain lists what a domain offers",
        )
    return domain
