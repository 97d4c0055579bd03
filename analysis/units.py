"""The units of an answer: those of the columns that a query hands on, as far as its text alone says it.

What is computed has the unit of what it was computed from only where that is certain: a mean of percent is percent, a
product is anything. Where something is not certain, nothing is said of it; where the columns themselves are not, of
none.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import duckdb
import pyarrow as pa

Node: TypeAlias = Mapping[str, Any]
"""A part of a statement, as DuckDB's parser gives it."""

_KEEP = {
    *("min", "max", "avg", "mean", "median", "mode", "any_value", "first", "last", "mad"),
    *("quantile", "quantile_cont", "quantile_disc", "stddev", "stddev_samp", "stddev_pop"),
    *("round", "round_even", "trunc", "abs", "ceil", "ceiling", "floor"),
}
"""Functions whose result has the unit of their first argument."""
_NUMBERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL"}
_VISIBLE_JOINS = {"INNER", "LEFT"}
"""Of others, columns of USING are of either side, or a side is not seen at all."""


class _Uncertain(Exception):
    """Which columns there are does not follow from the text alone."""


class _Column(NamedTuple):
    name: str
    """In lower case, as SQL compares names; empty: DuckDB makes one up."""
    unit: str
    """Empty: none, or not certain."""


_Table: TypeAlias = Sequence[_Column]
_Views: TypeAlias = Mapping[str, _Table | pa.Schema]
"""What a FROM may name, in lower case: queries of a WITH, and views, of which most are never asked for."""


def units(schema: pa.Schema) -> dict[str, str]:
    """The units that a schema's fields say, by name."""
    found = {field.name: (field.metadata or {}).get(b"unit", b"").decode() for field in schema}
    return {name: unit for name, unit in found.items() if unit}


def with_units(table: pa.Table, known: Sequence[str]) -> pa.Table:
    """The table with these units, column by column, in the metadata of its fields; empty: none."""
    if not any(known):
        return table
    fields = [
        field.with_metadata({"unit": unit}) if unit else field for field, unit in zip(table.schema, known, strict=True)
    ]
    return pa.Table.from_arrays(table.columns, schema=pa.schema(fields, table.schema.metadata))


def units_of(connection: duckdb.DuckDBPyConnection, sql: str, views: Mapping[str, pa.Schema]) -> list[str]:
    """The unit of each column of a SELECT's answer, empty where it has none or it is not certain; an empty list where
    not even the columns follow from the text.

    Args:
        views: by name, what it may read.
    """
    known = {name.lower(): schema for name, schema in views.items()}
    try:
        said = json.loads(connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchall()[0][0])
        if said["error"]:  # what DuckDB runs and does not serialize: a PIVOT
            return []
        return [column.unit for column in _answer(said["statements"][0]["node"], known)]
    except (_Uncertain, RecursionError, KeyError):  # KeyError: another DuckDB's parser gives other parts
        return []


def _answer(node: Node, views: _Views) -> list[_Column]:
    """The columns that a query gives, in order."""
    for entry in node["cte_map"]["map"]:
        own = entry["value"]
        found = _answer(own.get("query_node") or own["query"]["node"], views)
        views = {**views, entry["key"].lower(): _renamed(found, own["aliases"])}
    match node["type"]:
        case "SET_OPERATION_NODE":
            if "BY_NAME" in node["setop_type"]:
                raise _Uncertain
            parts = [_answer(child, views) for child in node.get("children") or [node["left"], node["right"]]]
            if len({len(part) for part in parts}) > 1:
                raise _Uncertain
            return [
                _Column(columns[0].name, columns[0].unit if len({one.unit for one in columns}) == 1 else "")
                for columns in zip(*parts, strict=True)
            ]
        case "SELECT_NODE":
            tables = _tables(node["from_table"], views)
            return [column for item in node["select_list"] for column in _columns(item, tables)]
    raise _Uncertain


def _columns_of(view: pa.Schema) -> _Table:
    known = units(view)
    return [_Column(name.lower(), known.get(name, "")) for name in view.names]


def _renamed(columns: _Table, names: Sequence[str]) -> list[_Column]:
    """The columns under the names that follow an alias, as far as there are such."""
    new = [*(name.lower() for name in names), *(column.name for column in columns[len(names) :])]
    return [_Column(name, column.unit) for name, column in zip(new, columns, strict=False)]


def _tables(source: Node, views: _Views) -> list[tuple[str, _Table]]:
    """What a FROM names, in order, each with its columns."""
    match source["type"]:
        case "EMPTY":
            return []
        case "JOIN":
            tables = [*_tables(source["left"], views), *_tables(source["right"], views)]
            if source["join_type"] not in _VISIBLE_JOINS or source["ref_type"] not in ("REGULAR", "CROSS"):
                raise _Uncertain
            # a column of USING is there once: that of the left
            using = {name.lower() for name in source["using_columns"]}
            left = len(_tables(source["left"], views))
            return [
                (name, [one for one in columns if number < left or one.name not in using])
                for number, (name, columns) in enumerate(tables)
            ]
        case "BASE_TABLE" if source["table_name"].lower() in views:
            found = views[source["table_name"].lower()]
            columns = _columns_of(found) if isinstance(found, pa.Schema) else found
        case "SUBQUERY":
            columns = _answer(source["subquery"]["node"], views)
        case _:
            raise _Uncertain
    name = source["alias"] or source.get("table_name", "")
    return [(name.lower(), _renamed(columns, source["column_name_alias"]))]


def _columns(item: Node, tables: Sequence[tuple[str, _Table]]) -> list[_Column]:
    """What one item of a SELECT's list gives."""
    if item["class"] != "STAR":
        name = item["alias"] or (item["column_names"][-1] if item["class"] == "COLUMN_REF" else "")
        return [_Column(name.lower(), _unit(item, tables))]
    if item["columns"] or item["rename_list"] or any(not isinstance(name, str) for name in item["exclude_list"]):
        raise _Uncertain
    left_out = {name.lower() for name in item["exclude_list"]}
    changed = {entry["key"].lower() for entry in item["replace_list"]}
    return [
        column if column.name not in changed else _Column(column.name, "")
        for table, columns in tables
        if item["relation_name"].lower() in ("", table)
        for column in columns
        if column.name not in left_out
    ]


def _unit(item: Node, tables: Sequence[tuple[str, _Table]]) -> str:
    match item["class"]:
        case "COLUMN_REF":
            *qualified, name = (part.lower() for part in item["column_names"])
            found = [
                column.unit
                for table, columns in tables
                if qualified in ([], [table])
                for column in columns
                if column.name == name
            ]
            return found[0] if len(found) == 1 else ""
        case "CAST":
            return _unit(item["child"], tables) if item["type_expr"]["type_name"] in _NUMBERS else ""
        case "FUNCTION" if item["function_name"].lower() in _KEEP:
            arguments = item.get("arguments") or item["children"]
            return _unit(arguments[0].get("expression", arguments[0]), tables) if arguments else ""
    return ""
