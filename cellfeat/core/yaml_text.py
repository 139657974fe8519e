"""YAML from elsewhere: plain values only, bounded in size, depth and aliases, and errors of one line with the place.

The dialect is YAML 1.1 as PyYAML reads it, except for what surprises in a config: dates, times and numbers with colons
are texts, and a key that occurs twice is an error.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from cellfeat.core.text import printable, read_text
from cellfeat.errors import CellfeatError

MAX_BYTES = 1 << 18  # the largest config of Detectron2 takes 10 kB; PyYAML reads some 50 kB a second
MAX_DEPTH = 40  # the deepest config of Detectron2 has 5 levels, and PyYAML recurses several calls a level
MAX_NODES = 100_000  # of values, an alias counted as all that it stands for
MAX_DIGITS = 300  # of an integer: as many as a float can hold

_INTEGER = re.compile(r"^(?:[-+]?0b[0-1_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+)$")
_FLOAT = re.compile(
    r"^(?:[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}" for name in ["map", "seq", "str", "int", "float", "bool", "null", "merge"]
)


def read_yaml_file(path: str | Path) -> Any:
    """Read a YAML file of one document; see `parse_yaml`.

    Raises:
        CellfeatError: There is no such file, or `parse_yaml` refuses it.
    """
    path = Path(path)
    if path.is_file() and path.stat().st_size > MAX_BYTES:
        raise CellfeatError(f"{path}: larger than {MAX_BYTES >> 10} KiB, no config is")
    return parse_yaml(read_text(path), str(path))


def parse_yaml(text: str, source: str) -> Any:
    """Parse a YAML text of one document.

    Args:
        text: The text.
        source: Where it comes from, for messages.

    Returns:
        dict, list, str, int, float, bool or None.

    Raises:
        CellfeatError: It is no YAML, too large, nested too deep, expands by aliases, has a key twice, an escape for
            half a character or a control sign, or a tag that asks for more than plain values; the message names the
            line.
    """
    if len(text) > MAX_BYTES:
        raise CellfeatError(f"{source}: larger than {MAX_BYTES >> 10} KiB, no config is")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, {})
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        problem = " ".join(f"{error.context or ''} {error.problem or ''}".split())
        raise CellfeatError(f"{source}: not YAML ({line}{printable(problem)})") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise CellfeatError(f"{source}: not YAML ({printable(' '.join(str(error).split()))})") from None


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with bounds, and without dates."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def fetch_flow_collection_start(self, TokenClass: Any) -> None:
        if self.flow_level >= MAX_DEPTH:  # the scanner takes time by the square of the level
            raise yaml.scanner.ScannerError(None, None, f"nested deeper than {MAX_DEPTH}", self.get_mark())
        super().fetch_flow_collection_start(TokenClass)

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._depth += 1
        if self._depth > MAX_DEPTH + 1:
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, f"nested deeper than {MAX_DEPTH}", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node.tag not in _TAGS:
            raise yaml.composer.ComposerError(None, None, f"the tag {node.tag} is not read", node.start_mark)
        if isinstance(node, yaml.ScalarNode) and self.NON_PRINTABLE.search(node.value):  # no terminal or file takes it
            raise yaml.composer.ComposerError(None, None, "an escape for a sign that is no text", node.start_mark)
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and not key.tag.endswith(":merge"):
                if (key.tag, key.value) in seen:
                    problem = f"the key {key.value[:60]!r} occurs twice"
                    raise yaml.composer.ComposerError(None, None, problem, key.start_mark)
                seen.add((key.tag, key.value))
        return node

    def construct_value(self, node: Any) -> Any:
        """An integer, float or truth value, which by an explicit tag may be written as anything."""
        value = str(self.construct_scalar(node))
        kind = node.tag.rpartition(":")[2]
        try:
            if len(value) > MAX_DIGITS:
                raise ValueError
            return getattr(self, f"construct_yaml_{kind}")(node)
        except (ValueError, LookupError, OverflowError):
            problem = f"{value[:20]!r} of {len(value)} characters is no {kind} that can be read"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag.rpartition(":")[2] in ("bool", "null", "merge")]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", _INTEGER, list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
for _kind in ("int", "float", "bool"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.construct_value)


def _count(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for, aliases written out."""
    if id(node) in known:
        if not known[id(node)]:
            raise yaml.composer.ComposerError(None, None, "holds itself by an alias", node.start_mark)
        return known[id(node)]
    known[id(node)] = 0
    parts: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        parts = node.value
    elif isinstance(node, yaml.MappingNode):
        parts = [part for pair in node.value for part in pair]
    known[id(node)] = count = 1 + sum(_count(part, known) for part in parts)
    if count > MAX_NODES:
        raise yaml.composer.ComposerError(None, None, f"aliases make it more than {MAX_NODES} values", node.start_mark)
    return count
