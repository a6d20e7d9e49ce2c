"""What every table shares: the names of its constraints and the Python types of its columns."""

from datetime import date, datetime
from typing import Annotated, Any, ClassVar

from sqlalchemy import Date, Float, MetaData, Text
from sqlalchemy.orm import DeclarativeBase, mapped_column

from store.types import CleanText, Id, Json, UtcDateTime, utc_now

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

RowId = Annotated[int, mapped_column(Id, primary_key=True)]
PublicId = Annotated[str, mapped_column(Text, primary_key=True)]
CreatedAt = Annotated[datetime, mapped_column(UtcDateTime, default=utc_now)]


class Base(DeclarativeBase):
    """The base class of all models."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        int: Id,
        str: CleanText,
        float: Float(53),
        date: Date,
        datetime: UtcDateTime,
        dict[str, Any]: Json,
        list[Any]: Json,
    }


def one_of(column: str, values: tuple[str, ...]) -> str:
    """The SQL text of a check that a column holds one of some words."""
    return f"{column} IN ({', '.join(repr(value) for value in values)})"
