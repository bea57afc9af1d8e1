import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def root():
    """The repository, whose examples the tests read."""
    return ROOT


@pytest.fixture
def ctx():
    """A DataFusion session with foramen's functions, which reads in several partitions."""
    import datafusion
    import foramen

    context = datafusion.SessionContext(datafusion.SessionConfig().with_target_partitions(3).with_batch_size(2))
    foramen.register(context, arithmetic="float32")
    return context
