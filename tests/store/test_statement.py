from __future__ import annotations

from dataclasses import dataclass

import pytest

from payments.store.connection import Statement


@pytest.mark.parametrize(
    ("sql", "values", "bound", "parameters"),
    [
        ("SELECT 1", {}, "SELECT 1", ()),
        ("SELECT :a", {"a": 1}, "SELECT $1", (1,)),
        ("SELECT :b, :a", {"a": 1, "b": 2}, "SELECT $1, $2", (2, 1)),
        ("SELECT :a, :b, :a", {"a": 1, "b": 2}, "SELECT $1, $2, $1", (1, 2)),
        ("SELECT :ab, :a", {"a": 1, "ab": 2}, "SELECT $1, $2", (2, 1)),
        ("SELECT :a::uuid, now()::text", {"a": None}, "SELECT $1::uuid, now()::text", (None,)),
        ("SELECT ANY(:ids::uuid[])", {"ids": [1]}, "SELECT ANY($1::uuid[])", ([1],)),
        ("make_interval(secs => :lease_s)", {"lease_s": 2.5}, "make_interval(secs => $1)", (2.5,)),
    ],
)
def test_named_parameters_become_numbers_in_the_order_they_appear(
    sql: str, values: dict[str, object], bound: str, parameters: tuple[object, ...]
) -> None:
    made = Statement(sql)(**values)
    assert (made.sql, made.values) == (bound, parameters)


def test_one_statement_serves_many_executions() -> None:
    statement = Statement("SELECT :a")
    assert [statement(a=number).values for number in range(3)] == [(0,), (1,), (2,)]


@pytest.mark.parametrize("values", [{}, {"a": 1}, {"a": 1, "b": 2, "c": 3}, {"a": 1, "c": 3}])
def test_a_missing_or_surplus_value_is_an_error_and_not_a_null(values: dict[str, object]) -> None:
    with pytest.raises(TypeError, match="parameters differ"):
        Statement("SELECT :a, :b")(**values)


@dataclass(frozen=True)
class Named:
    a: int
    b: int


@dataclass(frozen=True)
class Other:
    b: int
    c: int


def test_a_value_comes_before_a_field_and_a_field_before_the_same_one_of_a_later_record() -> None:
    statement = Statement("SELECT :a, :b, :c")
    assert statement(Named(1, 2), Other(3, 4)).values == (1, 2, 4)
    assert statement(Other(3, 4), Named(1, 2)).values == (1, 3, 4)
    assert statement(Named(1, 2), c=5, a=None).values == (None, 2, 5)
