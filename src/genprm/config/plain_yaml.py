"""YAML as configs use it: plain JSON values, and no key twice."""

from __future__ import annotations

from collections import Counter
from typing import Any

import yaml


def read_yaml(text: str) -> Any:
    """The value of one YAML document. Dates stay text; mappings, lists, text, numbers, truth values and null are all.

    Raises:
        ValueError: with one sentence: not YAML, a key that stands twice, a value that contains itself, a number
            with thousands of digits.
    """
    try:
        # A subclass of yaml.SafeLoader: it makes no objects.
        return yaml.load(text, Loader=_PlainLoader)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


class _PlainLoader(yaml.SafeLoader):
    """Makes nothing that JSON cannot hold: a resolved config is written to the run directory, and read again."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors = {  # noqa: RUF012
        tag: make
        for tag, make in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in ("null", "bool", "int", "float", "str", "seq", "map")
    }


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
    twice = [key for key, count in keys.items() if count > 1]
    if twice:
        raise yaml.constructor.ConstructorError(
            None, None, f"the key '{twice[0]}' stands twice", node.start_mark
        )
    # Made at once, not when first used, a mapping that contains itself is an error.
    return loader.construct_mapping(node, deep=True)


def _whole_number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    if len(node.value) > 1000:
        raise yaml.constructor.ConstructorError(
            None, None, "a number has thousands of digits", node.start_mark
        )
    return loader.construct_yaml_int(node)


_PlainLoader.add_constructor("tag:yaml.org,2002:map", _mapping)
_PlainLoader.add_constructor("tag:yaml.org,2002:int", _whole_number)
