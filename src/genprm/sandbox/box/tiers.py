"""Import tiers: which packages a zygote holds ready, and how it is warmed."""

from __future__ import annotations

TIERS = ("plain", "sympy", "numpy", "scipy")

# Top-level packages a tier may import; `name.libs` beside a package belongs to it.
PACKAGES: dict[str, tuple[str, ...]] = {
    "plain": (),
    "sympy": ("sympy", "mpmath", "gmpy2"),
    "numpy": ("sympy", "mpmath", "gmpy2", "numpy"),
    "scipy": ("sympy", "mpmath", "gmpy2", "numpy", "scipy"),
}
REQUIRED = frozenset({"sympy", "mpmath", "numpy", "scipy"})

_PLAIN = """
import bisect, cmath, collections, copy, dataclasses, datetime, decimal, enum, fractions, functools, heapq
import inspect, io, itertools, json, math, numbers, operator, os, random, re, resource, statistics, string
import sys, textwrap, time, traceback, typing
decimal.Decimal(1) / 3, fractions.Fraction(1, 3), statistics.mean([1, 2])
"""

_SYMPY = """
import sympy, mpmath
x, y = sympy.symbols("x y")
sympy.solve([x + y - 3, x - y - 1], [x, y]), sympy.solve(x**2 - 5 * x + 6, x)
str(sympy.simplify(sympy.sin(x) ** 2 + sympy.cos(x) ** 2))
str(sympy.expand((x + 1) ** 3))
sympy.factor(x**2 - 1)
sympy.sympify("2*x + 1/3").subs(x, 2), sympy.N(sympy.sqrt(2), 20), sympy.diff(x**3, x)
sympy.integrate(x**2, (x, 0, 1))
sympy.Rational(1, 3) + sympy.Rational(1, 6), sympy.factorint(360), sympy.gcd(12, 18)
sympy.Eq(x, 1), str(sympy.pi)
sympy.Matrix([[1, 2], [3, 4]]).det(), sympy.limit(sympy.sin(x) / x, x, 0), sympy.nsimplify(0.5)
sympy.latex(x**2)
sympy.solveset(x**2 - 4, x, sympy.S.Reals), sympy.binomial(5, 2), sympy.simplify((x**2 - 1) / (x - 1))
sympy.pretty(x)
"""

_NUMPY = """
import numpy
numpy.linalg.solve(numpy.eye(2), numpy.ones(2)), numpy.roots([1, -3, 2]), str(numpy.arange(3))
numpy.random.rand()
"""

_SCIPY = """
import scipy.optimize, scipy.integrate, scipy.special, scipy.stats, scipy.linalg
scipy.optimize.brentq(lambda v: v - 1, 0, 3), scipy.integrate.quad(lambda v: v, 0, 1)
scipy.special.comb(5, 2)
"""

WARMUP: dict[str, str] = {
    "plain": _PLAIN,
    "sympy": _PLAIN + _SYMPY,
    "numpy": _PLAIN + _SYMPY + _NUMPY,
    "scipy": _PLAIN + _SYMPY + _NUMPY + _SCIPY,
}
