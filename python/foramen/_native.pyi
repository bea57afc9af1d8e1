"""The native half of foramen. Its names are for `foramen/__init__.py`, and may change."""

from typing import Any, final

__all__: list[str]
__version__: str
#: The major version of DataFusion whose structures functions are handed over in.
DATAFUSION: int

class ModelError(RuntimeError):
    """The model can't be opened or run."""

@final
class Model:
    """A model package that is open."""

    def __new__(cls, folder: str, arithmetic: str) -> Model: ...
    def with_min_score(self, min_score: float) -> Model:
        """The same model, its sessions and answers shared, that gives no grade with a lower score."""
    @property
    def id(self) -> str:
        """`name@version` and the first 12 hex digits of the package's sha256."""
    def label(self, reports: Any) -> Findings:
        """The finding rows of a table with the columns `text` and, where there is one, `id`."""
    def functions(self) -> list[ScalarFunction]:
        """The scalar functions of SQL, answered by this model."""

@final
class Findings:
    """Finding rows, for whatever reads Arrow's C stream interface."""

    def __arrow_c_stream__(self, requested_schema: Any | None = None) -> Any:
        """A stream of the rows. Another schema than theirs can't be requested."""

@final
class ScalarFunction:
    """A scalar function."""

    def __datafusion_scalar_udf__(self) -> Any:
        """What `datafusion.udf` asks for."""

@final
class AggregateFunction:
    """An aggregate."""

    def __datafusion_aggregate_udf__(self) -> Any:
        """What `datafusion.udaf` asks for."""

@final
class TableFunction:
    """A table function."""

    @property
    def name(self) -> str:
        """Its name in SQL."""
    def __datafusion_table_function__(self, session: Any) -> Any:
        """What `datafusion.user_defined.TableFunction` asks for."""

@final
class Hl7Tables:
    """What makes tables of `STORED AS HL7`."""

    def __new__(cls) -> Hl7Tables: ...
    def __datafusion_table_provider_factory__(self, session: Any) -> Any:
        """What `SessionContext.register_table_factory` asks for."""

def load_runtime(library: str) -> None:
    """Loads ONNX Runtime from a file. It is loaded once in a process: what was loaded before stays."""

def functions() -> list[tuple[str, str, str, str]]:
    """Name, kind, syntax and description of every function."""

def aggregate_functions() -> list[AggregateFunction]:
    """The aggregates, which no model answers."""

def table_functions() -> list[TableFunction]:
    """The table functions."""
