"""The units of a query's result: those of the columns that it passes on, as far as they follow from its text.

A computed value gets the unit of its argument only where that is certain: a mean of percentages is in percent, while a
product could be anything. Where a unit is not certain, none is given; where the columns themselves are not certain,
no column gets one.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

import duckdb
import pyarrow as pa

Node: TypeAlias = Mapping[str, Any]
"""A part of a statement, as returned by DuckDB's parser."""

_KEEP = {
    *("min", "max", "avg", "mean", "median", "mode", "any_value", "first", "last", "mad"),
    *("quantile", "quantile_cont", "quantile_disc", "stddev", "stddev_samp", "stddev_pop"),
    *("round", "round_even", "trunc", "abs", "ceil", "ceiling", "floor"),
}
"""Functions whose result has the unit of their first argument."""
_NUMBERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL"}
_VISIBLE_JOINS = {"INNER", "LEFT"}
"""In other joins, columns of USING may come from either side, or one side is not visible."""
_MOST_COLUMNS = 10_000
"""Most columns of a part of a statement: a short WITH clause can double them in each of its queries."""


class _Uncertain(Exception):
    """The columns do not follow from the text alone."""


class _Column(NamedTuple):
    name: str
    """In lower case, as SQL compares names; empty where DuckDB generates the name."""
    unit: str
    """Empty where there is none or it is not certain."""


_Table: TypeAlias = Sequence[_Column]
_Views: TypeAlias = Mapping[str, _Table | pa.Schema]
"""Tables that a FROM clause may name, in lower case: queries of a WITH clause, and all views."""


def units(schema: pa.Schema) -> dict[str, str]:
    """Return the units in the fields of a schema, by name."""
    by_name = {field.name: (field.metadata or {}).get(b"unit", b"").decode() for field in schema}
    return {name: unit for name, unit in by_name.items() if unit}


def with_units(table: pa.Table, known: Sequence[str]) -> pa.Table:
    """Return the table with these units, one per column, in the metadata of its fields; an empty string is no unit."""
    if not any(known):
        return table
    fields = [
        field.with_metadata({"unit": unit}) if unit else field for field, unit in zip(table.schema, known, strict=True)
    ]
    return pa.Table.from_arrays(table.columns, schema=pa.schema(fields, table.schema.metadata))


def units_of(connection: duckdb.DuckDBPyConnection, sql: str, views: Mapping[str, pa.Schema]) -> list[str]:
    """Return the unit of each column of a SELECT's result, empty where it has none or the unit is not certain.

    The list is empty where the columns do not follow from the text.

    Args:
        views: the schemas that the query may read, by name.
    """
    known = {name.lower(): schema for name, schema in views.items()}
    try:
        parsed = json.loads(connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchall()[0][0])
        if parsed["error"]:  # DuckDB can run it but not serialize it: a PIVOT
            return []
        return [column.unit for column in _answer(parsed["statements"][0]["node"], known)]
    except (_Uncertain, RecursionError, KeyError):  # KeyError: the parser of another DuckDB version has other parts
        return []


def _answer(node: Node, views: _Views) -> list[_Column]:
    """Return the columns of a query, in order."""
    for entry in node["cte_map"]["map"]:
        own = entry["value"]
        columns_of_entry = _answer(own.get("query_node") or own["query"]["node"], views)
        views = {**views, entry["key"].lower(): _renamed(columns_of_entry, own["aliases"])}
    match node["type"]:
        case "SET_OPERATION_NODE":
            if "BY_NAME" in node["setop_type"]:
                raise _Uncertain
            parts = [_answer(child, views) for child in node.get("children") or [node["left"], node["right"]]]
            if len({len(part) for part in parts}) > 1:
                raise _Uncertain
            return [
                _Column(columns[0].name, columns[0].unit if len({column.unit for column in columns}) == 1 else "")
                for columns in zip(*parts, strict=True)
            ]
        case "SELECT_NODE":
            tables = _tables(node["from_table"], views)
            return _limited(column for item in node["select_list"] for column in _columns(item, tables))
    raise _Uncertain


def _limited(columns: Iterable[_Column]) -> list[_Column]:
    """Return the columns if there are at most ``_MOST_COLUMNS``; more are uncertain."""
    found = list(islice(columns, _MOST_COLUMNS + 1))
    if len(found) > _MOST_COLUMNS:
        raise _Uncertain
    return found


def _columns_of(view: pa.Schema) -> _Table:
    known = units(view)
    return [_Column(name.lower(), known.get(name, "")) for name in view.names]


def _renamed(columns: _Table, names: Sequence[str]) -> list[_Column]:
    """Rename the columns to the names given after an alias, as far as there are any."""
    new = [*(name.lower() for name in names), *(column.name for column in columns[len(names) :])]
    return [_Column(name, column.unit) for name, column in zip(new, columns, strict=False)]


def _tables(source: Node, views: _Views) -> list[tuple[str, _Table]]:
    """Return the tables in a FROM clause, in order, each with its columns."""
    match source["type"]:
        case "EMPTY":
            return []
        case "JOIN":
            left, right = _tables(source["left"], views), _tables(source["right"], views)
            if source["join_type"] not in _VISIBLE_JOINS or source["ref_type"] not in ("REGULAR", "CROSS"):
                raise _Uncertain
            # a column of USING appears once: that of the left side
            using = {name.lower() for name in source["using_columns"]}
            right = [(name, [column for column in of if column.name not in using]) for name, of in right]
            tables = [*left, *right]
            _limited(column for _, of in tables for column in of)
            return tables
        case "BASE_TABLE" if source["table_name"].lower() in views:
            view = views[source["table_name"].lower()]
            columns = _columns_of(view) if isinstance(view, pa.Schema) else view
        case "SUBQUERY":
            columns = _answer(source["subquery"]["node"], views)
        case _:
            raise _Uncertain
    name = source["alias"] or source.get("table_name", "")
    return [(name.lower(), _renamed(columns, source["column_name_alias"]))]


def _columns(item: Node, tables: Sequence[tuple[str, _Table]]) -> list[_Column]:
    """Return the columns of one item in a SELECT list."""
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
            candidates = [
                column.unit
                for table, columns in tables
                if qualified in ([], [table])
                for column in columns
                if column.name == name
            ]
            return candidates[0] if len(candidates) == 1 else ""
        case "CAST":
            return _unit(item["child"], tables) if item["type_expr"]["type_name"] in _NUMBERS else ""
        case "FUNCTION" if item["function_name"].lower() in _KEEP:
            arguments = item.get("arguments") or item["children"]
            return _unit(arguments[0].get("expression", arguments[0]), tables) if arguments else ""
    return ""
