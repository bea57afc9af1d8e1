"""Graded findings for each motion segment of the spine, read from radiology reports.

>>> import foramen
>>> rows = foramen.label(["L4-5: disc bulge, severe canal stenosis."])
>>> rows.select(["level", "disc", "canal_stenosis"]).to_pylist()
[{'level': 'L4-L5', 'disc': 'bulge', 'canal_stenosis': 'severe'}]

`label` takes texts and gives finding rows as a `pyarrow.Table`, one a motion segment. `register` gives a
`datafusion.SessionContext` the SQL functions, which `functions` lists.

Not a medical device: what it says is a machine's reading of a report's text.
"""

from __future__ import annotations

import functools as _functools
import importlib.util as _importlib_util
import os as _os
import pathlib as _pathlib
from typing import TYPE_CHECKING, Any, Iterable, NamedTuple

import pyarrow as _pyarrow

from . import _native
from ._native import ModelError, __version__

if TYPE_CHECKING:
    import datafusion

__all__ = ["Function", "ModelError", "VersionError", "__version__", "functions", "label", "register"]

#: Names under which a platform's ONNX Runtime lies in the wheel of that name.
_LIBRARIES = ("libonnxruntime.so*", "libonnxruntime*.dylib", "onnxruntime.dll")


class VersionError(ImportError):
    """The package `datafusion` that is installed is not one that functions can be handed to."""


class Function(NamedTuple):
    """A SQL function."""

    name: str
    #: `scalar` or `aggregate`.
    kind: str
    #: How it is called, such as `embed_segments(text [, layer])`.
    syntax: str
    description: str


def label(
    texts: Iterable[str | None] | Any,
    *,
    ids: Iterable[Any] | Any | None = None,
    model: str | _os.PathLike[str] | None = None,
    arithmetic: str = "auto",
    min_score: float = 0.0,
) -> _pyarrow.Table:
    """Finding rows of reports: one a motion segment that a report speaks of.

    Args:
        texts: The reports, in English: a list of str and None, a pandas or polars Series, a pyarrow Array, or anything else
            with Arrow's C interface. A report that is missing, empty or speaks of no motion segment has no row.
        ids: The reports' ids, as many, of any type that can be written as text. By default, and where one is missing, a report
            is known by its number, "1" being the first.
        model: The folder of a model package. By default that of $FORAMEN_MODEL, else the model that comes with this package.
        arithmetic: What large products are computed in: "float32", "int8" (on processors with VNNI), or "auto", which takes
            int8 where it can be had.
        min_score: Grades with a lower score are NULL; 0 gives every grade.

    Returns:
        A table with `report_id`, `region`, `level`, two columns a task (the grade as a dictionary, and `<task>_score`, its
        calibrated probability), `evidence` and `model`, in the order of the reports. `to_pandas()` makes a pandas DataFrame of
        it, `polars.from_arrow` a polars one. A report's rows do not depend on the reports beside it.

    Raises:
        TypeError: What was given is no texts.
        ValueError: An argument is not one that can be: a score, an arithmetic, fewer ids than texts, a text of more than 64 MB.
        ModelError: The model can't be opened, or fails on a text, whose position the error tells.
    """
    table = _pyarrow.table({"text": _column("texts", texts)})
    if ids is not None:
        known = _column("ids", ids)
        if len(known) != table.num_rows:
            raise ValueError(f"there are {table.num_rows} texts and {len(known)} ids; give each text its id")
        table = table.append_column("id", known)
    return _pyarrow.table(_model(model, arithmetic, min_score).label(table))


def register(
    ctx: datafusion.SessionContext,
    *,
    model: str | _os.PathLike[str] | None = None,
    arithmetic: str = "auto",
    min_score: float = 0.0,
) -> None:
    """Gives a DataFusion session every SQL function of foramen, and tables that are `STORED AS HL7`.

    Args:
        ctx: The session.
        model: As in `label`.
        arithmetic: As in `label`.
        min_score: As in `label`.

    Raises:
        VersionError: The package `datafusion` is missing, or of another major version than functions can be handed to.
        TypeError: `ctx` is no session.
        ValueError: An argument is not one that can be.
        ModelError: The model can't be opened.
    """
    package = _datafusion()
    if not isinstance(ctx, package.SessionContext):
        raise TypeError(f"functions are registered in a datafusion.SessionContext, and {type(ctx).__name__} is given")
    for function in _model(model, arithmetic, min_score).functions():
        ctx.register_udf(package.udf(function))
    for aggregate in _native.aggregate_functions():
        ctx.register_udaf(package.udaf(aggregate))
    for table in _native.table_functions():
        ctx.register_udtf(package.user_defined.TableFunction(table.name, table, ctx))
    ctx.register_table_factory("HL7", _native.Hl7Tables())


def functions() -> list[Function]:
    """The SQL functions that `register` gives a session, with what each does. Needs no model and no `datafusion`."""
    return [Function(*about) for about in _native.functions()]


def _datafusion() -> Any:
    """The package `datafusion`, of the version that holds functions in the same memory as this one."""
    wanted = _native.DATAFUSION
    remedy = f"run pip install 'datafusion>={wanted},<{wanted + 1}'"
    try:
        import datafusion
    except ImportError as error:
        raise VersionError(f"SQL functions want the package datafusion, which can't be imported ({error}); {remedy}") from error
    found = str(getattr(datafusion, "__version__", "unknown"))
    if found.partition(".")[0] != str(wanted):
        raise VersionError(
            f"foramen {__version__} hands its SQL functions to datafusion {wanted}, and datafusion {found} is installed; {remedy}"
        )
    return datafusion


def _column(name: str, values: Any) -> _pyarrow.ChunkedArray | _pyarrow.Array:
    if isinstance(values, (str, bytes)):
        raise TypeError(f"{name} is one {type(values).__name__}, and many are expected: give [{name.rstrip('s')}]")
    try:
        if hasattr(values, "__arrow_c_stream__"):
            return _pyarrow.chunked_array(values)
        if hasattr(values, "__arrow_c_array__"):
            return _pyarrow.array(values)
        # pandas has its own ways of saying that a value is missing.
        return _pyarrow.array(values if hasattr(values, "__len__") else list(values), from_pandas=True)
    except (_pyarrow.ArrowException, TypeError):
        # What pyarrow says could quote a value.
        raise TypeError(f"{name} are {type(values).__name__} that can't be read as one column; give str and None") from None


def _model(model: str | _os.PathLike[str] | None, arithmetic: str, min_score: float) -> _native.Model:
    own = _pathlib.Path(__file__).parent / "spine"
    folder = _pathlib.Path(model or _os.environ.get("FORAMEN_MODEL") or own)
    return _open(str(folder.absolute()), arithmetic).with_min_score(float(min_score))


@_functools.lru_cache(maxsize=4)
def _open(folder: str, arithmetic: str) -> _native.Model:
    """A model that stays open: opening one takes longer than reading many reports."""
    library = _library()
    if library is not None:
        _native.load_runtime(library)
    return _native.Model(folder, arithmetic)


def _library() -> str | None:
    """ONNX Runtime's library in the wheel `onnxruntime`, which is found without importing it; None where foramen is to look."""
    if _os.environ.get("ORT_DYLIB_PATH"):
        return None
    found = _importlib_util.find_spec("onnxruntime")
    for package in (found.submodule_search_locations or []) if found else []:
        for pattern in _LIBRARIES:
            for path in sorted(_pathlib.Path(package, "capi").glob(pattern)):
                return str(path)
    return None
