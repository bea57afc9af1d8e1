"""The wheel: its version guard, what it holds, and the example."""

import os
import pathlib
import subprocess
import sys
import types

import foramen
import pytest


@pytest.mark.parametrize("version", ["54.0.0", "56.0.0", "5.5.0", "unknown"])
def test_another_datafusion_is_refused_with_a_sentence(monkeypatch, version):
    other = types.ModuleType("datafusion")
    other.__version__ = version
    monkeypatch.setitem(sys.modules, "datafusion", other)
    with pytest.raises(foramen.VersionError) as caught:
        foramen.register(object())
    assert str(caught.value) == (
        f"foramen {foramen.__version__} hands its SQL functions to datafusion 55, and datafusion {version} is installed; "
        "run pip install 'datafusion>=55,<56'"
    )
    assert isinstance(caught.value, ImportError)


def test_no_datafusion_is_said_with_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "datafusion", None)
    with pytest.raises(foramen.VersionError, match="want the package datafusion.*run pip install 'datafusion>=55,<56'"):
        foramen.register(object())
    assert foramen.label(["L4-5: bulge."]).num_rows == 1
    assert len(foramen.functions()) == 18


def run(*code, **environment):
    environment = {key: value for key, value in os.environ.items() if key not in ("ORT_DYLIB_PATH", "FORAMEN_MODEL")} | environment
    return subprocess.run([sys.executable, "-c", "\n".join(code)], capture_output=True, text=True, env=environment, cwd="/")


def test_the_wheel_is_whole_where_nothing_else_is():
    done = run("import foramen, sys", "print(foramen.label(['L4-5: severe canal stenosis.'])['canal_stenosis'])",
               "assert 'onnxruntime' not in sys.modules and 'datafusion' not in sys.modules")
    assert done.returncode == 0, done.stderr
    assert "severe" in done.stdout


def test_another_model_is_asked_for_by_the_environment():
    done = run("import foramen", "foramen.label(['L4-5'])", FORAMEN_MODEL="/no/such/model")
    assert done.returncode == 1 and "foramen.ModelError: the model package /no/such/model has no readable" in done.stderr


def test_a_library_that_is_none_is_an_error_and_no_crash(tmp_path):
    library = tmp_path / "libonnxruntime.so"
    library.write_text("no library")
    done = run("import foramen", "foramen.label(['L4-5'])", ORT_DYLIB_PATH=str(library))
    assert done.returncode == 1 and "foramen.ModelError: ONNX Runtime can't be loaded" in done.stderr


def test_the_package_is_typed():
    folder = pathlib.Path(foramen.__file__).parent
    assert (folder / "py.typed").exists() and (folder / "_native.pyi").exists()
    public = [getattr(foramen, name) for name in foramen.__all__ if name != "__version__"]
    assert all(thing.__doc__ for thing in public)


def test_the_example_runs(root):
    done = subprocess.run([sys.executable, root / "examples/python/quickstart.py"], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr
    assert "C5-C6" in done.stdout and "linear_cka" in done.stdout
