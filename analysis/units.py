"""The units of an answer: those of the columns that a query hands on, as far as its text alone says it.

What is computed has the unit of what it was computed from only where that is certain: a mean of percent is percent, a
product is anything. Where nothing is certain, nothing is said.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import duckdb
import pyarrow as pa

Units: TypeAlias = dict[str, str]
"""Column to unit; without those that have none, or whose unit is not certain."""
Node: TypeAlias = Mapping[str, Any]
"""A part of a statement, as DuckDB's parser gives it."""

_KEEPS_UNIT = {
    *("min", "max", "avg", "mean", "median", "mode", "sum", "any_value", "first", "last", "mad"),
    *("quantile", "quantile_cont", "quantile_disc", "stddev", "stddev_samp", "stddev_pop"),
    *("round", "round_even", "trunc", "abs", "ceil", "ceiling", "floor"),
}
"""Functions whose result has the unit of their first argument."""


def units(schema: pa.Schema) -> Units:
    """The units that a schema's fields say."""
    found = {field.name: (field.metadata or {}).get(b"unit", b"").decode() for field in schema}
    return {name: unit for name, unit in found.items() if unit}


def with_units(table: pa.Table, known: Mapping[str, str]) -> pa.Table:
    """The table with these units in the metadata of its fields; names in any case, as in SQL."""
    by_name = {name.lower(): unit for name, unit in known.items()}
    fields = [
        field.with_metadata({"unit": by_name[field.name.lower()]}) if field.name.lower() in by_name else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields, table.schema.metadata))


def units_of(connection: duckdb.DuckDBPyConnection, sql: str, views: Mapping[str, Units]) -> Units:
    """The units of the columns of a SELECT's answer.

    Args:
        views: by name, the units of the columns of what it may read.
    """
    text = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchall()[0][0]
    said = json.loads(text)
    if said["error"]:  # what DuckDB runs and does not serialize: a PIVOT
        return {}
    names: dict[str, set[str]] = {}
    for name, unit in _answer(said["statements"][0]["node"], {key.lower(): value for key, value in views.items()}):
        names.setdefault(name, set()).add(unit)
    return {name: unit for name, found in names.items() for unit in found if unit and len(found) == 1}


def _answer(node: Node, views: Mapping[str, Units]) -> list[tuple[str, str]]:
    """Name and unit (empty: none, or not certain) of each column that a query gives."""
    for entry in node["cte_map"]["map"]:
        own = entry["value"]
        found = [] if own["aliases"] else _answer(own.get("query_node") or own["query"]["node"], views)
        views = {**views, entry["key"].lower(): {name: unit for name, unit in found if unit}}
    if node["type"] == "SET_OPERATION_NODE":
        return _united([_answer(child, views) for child in _children(node)], by_name="BY_NAME" in node["setop_type"])
    if node["type"] != "SELECT_NODE":
        return []
    tables = dict(_tables(node["from_table"], views))
    return [column for item in node["select_list"] for column in _columns(item, tables)]


def _children(node: Node) -> list[Node]:
    children: list[Node] = node.get("children") or [node["left"], node["right"]]
    return children


def _united(parts: list[list[tuple[str, str]]], by_name: bool) -> list[tuple[str, str]]:
    if by_name or len({len(part) for part in parts}) > 1:
        return [column for part in parts for column in part]
    return [
        (columns[0][0], columns[0][1] if len({unit for _, unit in columns}) == 1 else "")
        for columns in zip(*parts, strict=True)
    ]


def _tables(source: Node, views: Mapping[str, Units]) -> Iterator[tuple[str, Units]]:
    """What a FROM names, each with the units of its columns; of what is none of ours, nothing is known."""
    match source["type"]:
        case "JOIN":
            yield from _tables(source["left"], views)
            yield from _tables(source["right"], views)
        case "BASE_TABLE":
            renamed = bool(source["column_name_alias"])
            known = {} if renamed else views.get(source["table_name"].lower(), {})
            yield (source["alias"] or source["table_name"]).lower(), known
        case "SUBQUERY":
            renamed = bool(source["column_name_alias"])
            found = [] if renamed else _answer(source["subquery"]["node"], views)
            yield source["alias"].lower(), {name: unit for name, unit in found if unit}


def _columns(item: Node, tables: Mapping[str, Units]) -> Iterator[tuple[str, str]]:
    """What one item of a SELECT's list gives."""
    if item["class"] != "STAR":
        yield item["alias"] or _own_name(item), _unit(item, tables)
        return
    if item["columns"] or item["rename_list"]:
        return
    changed = {entry["key"].lower() for entry in item["replace_list"]}
    for table, known in tables.items():
        if item["relation_name"].lower() in ("", table):
            yield from ((name, unit) for name, unit in known.items() if name.lower() not in changed)


def _own_name(item: Node) -> str:
    return str(item["column_names"][-1]) if item["class"] == "COLUMN_REF" else ""


def _unit(item: Node, tables: Mapping[str, Units]) -> str:
    if item["class"] == "COLUMN_REF":
        *table, name = item["column_names"]
        asked = [known for alias, known in tables.items() if not table or [alias] == [part.lower() for part in table]]
        found = {unit for known in asked for column, unit in known.items() if column.lower() == name.lower()}
        return found.pop() if len(found) == 1 else ""
    if item["class"] == "CAST":
        return _unit(item["child"], tables)
    if item["class"] == "FUNCTION" and item["function_name"].lower() in _KEEPS_UNIT:
        arguments = item.get("arguments") or item["children"]
        return _unit(arguments[0].get("expression", arguments[0]), tables) if arguments else ""
    return ""
