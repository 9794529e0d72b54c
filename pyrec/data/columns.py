"""What a column holds: ids, ratings or times; errors name what came instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

# Below these, each integer has a floating-point number of its own.
_EXACT = {"Float16": 2**11, "Float32": 2**24, "Float64": 2**53}


def typed(column: pl.Series, is_id: bool) -> pl.Series:
    """A column of a text file as numbers, where each value is one; an id must also print the same.

    What stays text has no spaces around it.
    """
    numbers = _numbers(column, is_id)
    if numbers is None:
        column = column.str.strip_chars().replace("", None)
        numbers = _numbers(column, is_id)
    return column if numbers is None else numbers


def _numbers(column: pl.Series, is_id: bool) -> pl.Series | None:
    import polars as pl

    for dtype in (pl.Int64,) if is_id else (pl.Int64, pl.Float64):
        numbers = column.cast(dtype, strict=False)
        if numbers.null_count() == column.null_count() and (
            not is_id or (numbers.cast(pl.String) == column).all()
        ):
            return numbers
    return None


def as_ids(column: pl.Series) -> pl.Series:
    import polars as pl

    dtype = column.dtype
    if isinstance(dtype, (pl.Categorical, pl.Enum)):
        column = column.cast(pl.String)
    if column.dtype == pl.String:
        if column.str.contains("\ufffd", literal=True).any():
            raise TypeError("ids are not UTF-8")
        return column
    if dtype.is_float():
        column = column.fill_nan(None)
        if not (column == column.round()).all():
            raise TypeError("ids must be integers or text, got fractions")
        exact, largest = _EXACT[dtype.base_type().__name__], column.abs().max()
        if (column.abs() >= exact).any():
            raise ValueError(
                f"ids must be integers or text; {dtype} does not tell integers from {exact:,} on "
                f"apart, got {largest!r}"
            )
    elif not (dtype.is_integer() or dtype == pl.Null or getattr(dtype, "scale", None) == 0):
        raise TypeError(f"ids must be integers or text, got {_kind(column)}")
    # What is left and wide, decimals without a fraction included, is checked for fitting int64.
    narrow = dtype in (pl.Int8, pl.Int16, pl.Int32, pl.UInt8, pl.UInt16, pl.UInt32)
    return column if narrow else column.cast(pl.Int64)


def as_ratings(column: pl.Series) -> pl.Series:
    import polars as pl

    dtype = column.dtype
    if dtype.is_float() or dtype.is_integer():
        return column
    if dtype.is_numeric() or dtype in (pl.String, pl.Boolean, pl.Null):
        return column.cast(pl.Float64)
    raise TypeError(f"ratings must be numbers, got {_kind(column)}")


def as_times(column: pl.Series) -> pl.Series:
    import polars as pl

    if column.dtype == pl.String:
        column = _dates(column)
    if column.dtype == pl.Date:
        column = column.cast(pl.Datetime("us"))
    dtype = column.dtype
    if isinstance(dtype, pl.Datetime):
        micro = column.dt.epoch("us")
        whole = (micro % 1_000_000 == 0).all()
        return micro // 1_000_000 if whole else micro / 1e6
    if dtype.is_integer() or dtype == pl.Null:
        return column.cast(pl.Int64)
    if dtype.is_float():
        if column.is_infinite().any():
            raise ValueError("timestamps must be numbers or dates, got an infinite one")
        return column.fill_nan(None).cast(pl.Float64)
    raise TypeError(f"timestamps must be numbers or dates, got {_kind(column)}")


def _dates(column: pl.Series) -> pl.Series:
    import polars as pl

    try:
        dates = column.str.to_datetime(time_unit="us", strict=False)
    except pl.exceptions.PolarsError:  # no format fits
        dates = column.clear(len(column)).cast(pl.Datetime("us"))
    wrong = column.filter(dates.is_null() & column.is_not_null())
    if len(wrong):
        raise ValueError(f"timestamps must be numbers or dates, got {wrong[0][:80]!r}")
    return dates


def _kind(column: pl.Series) -> str:
    import polars as pl

    if column.dtype != pl.Object:
        return str(column.dtype)
    return " and ".join(sorted({type(value).__name__ for value in column if value is not None}))
