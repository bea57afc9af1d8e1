"""`foramen.label`: what may be given, what comes, and what is refused."""

import json
import os
import subprocess
import threading

import foramen
import pandas
import polars
import pyarrow
import pytest

TEXTS = ["L4-5: disc bulge, severe canal stenosis. L5-S1: normal.", None, "", "Brain: normal.", "C5-6: mild canal narrowing."]
ROWS = [("1", "L4-L5", "severe"), ("1", "L5-S1", "none"), ("5", "C5-C6", "mild")]


def rows(table):
    return list(zip(*(table.column(name).to_pylist() for name in ("report_id", "level", "canal_stenosis"))))


SHAPES = {
    "list": lambda: TEXTS,
    "tuple": lambda: tuple(TEXTS),
    "generator": lambda: (text for text in TEXTS),
    "pyarrow array": lambda: pyarrow.array(TEXTS),
    "pyarrow large strings": lambda: pyarrow.array(TEXTS, pyarrow.large_string()),
    "pyarrow views": lambda: pyarrow.array(TEXTS, pyarrow.string_view()),
    "pyarrow dictionary": lambda: pyarrow.array(TEXTS).dictionary_encode(),
    "pyarrow chunks": lambda: pyarrow.chunked_array([TEXTS[:2], TEXTS[2:]]),
    "pandas": lambda: pandas.Series(TEXTS),
    "pandas objects": lambda: pandas.Series(TEXTS, dtype=object),
    "pandas, NaN": lambda: pandas.Series([TEXTS[0], float("nan"), *TEXTS[2:]], dtype=object),
    "pandas, another index": lambda: pandas.Series(TEXTS, index=[9, 8, 7, 6, 5]),
    "pandas categories": lambda: pandas.Series(TEXTS, dtype="category"),
    "polars": lambda: polars.Series(TEXTS),
    "polars categories": lambda: polars.Series(TEXTS, dtype=polars.Categorical),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_texts_has_the_same_rows(shape):
    table = foramen.label(SHAPES[shape](), arithmetic="float32")
    assert rows(table) == ROWS
    assert table == foramen.label(TEXTS, arithmetic="float32")


def test_columns_and_where_they_come_from():
    table = foramen.label(TEXTS)
    assert table.column_names[:3] == ["report_id", "region", "level"]
    assert table.column_names[-2:] == ["evidence", "model"]
    assert table.schema.field("disc").type == pyarrow.dictionary(pyarrow.int8(), pyarrow.string())
    assert table.schema.field("disc_score").type == pyarrow.float32()
    assert set(table.column("model").to_pylist()) == {table.schema.metadata[b"foramen.model"].decode()}
    assert table.schema.metadata[b"foramen.schema"].startswith(b"spine/")
    assert table.column("evidence").to_pylist()[0] == "L4-5: disc bulge, severe canal stenosis."
    for frame in (table.to_pandas(), polars.from_arrow(table).to_pandas()):
        assert list(frame["canal_stenosis"]) == ["severe", "none", "mild"]


def test_nothing_has_no_rows_and_all_columns():
    for texts in ([], [None], pandas.Series([], dtype=object), polars.Series([], dtype=polars.String)):
        table = foramen.label(texts)
        assert table.num_rows == 0 and table.column_names == foramen.label(TEXTS).column_names


@pytest.mark.parametrize("ids", [["a", "b", "c", "d", "e"], pandas.Series(list("abcde")), polars.Series(list("abcde"))])
def test_ids_are_taken_over(ids):
    assert [row[0] for row in rows(foramen.label(TEXTS, ids=ids))] == ["a", "a", "e"]


def test_ids_are_written_as_text_and_numbered_where_one_is_missing():
    assert [row[0] for row in rows(foramen.label(TEXTS, ids=[70, 71, 72, 73, None]))] == ["70", "70", "5"]


def test_a_grade_that_is_not_sure_enough_is_missing_and_its_score_is_not():
    sure, unsure = foramen.label(TEXTS), foramen.label(TEXTS, min_score=1.0)
    assert unsure.column("canal_stenosis").null_count == 3 and sure.column("canal_stenosis").null_count == 0
    assert unsure.column("canal_stenosis_score") == sure.column("canal_stenosis_score")


def test_a_report_has_the_same_rows_among_many():
    many = foramen.label(TEXTS * 300, arithmetic="float32")
    one = foramen.label(TEXTS, arithmetic="float32")
    assert many.num_rows == 300 * one.num_rows
    assert many.slice(3 * 299).drop_columns("report_id").to_pylist() == one.drop_columns("report_id").to_pylist()
    assert many.column("report_id").to_pylist()[-1] == str(5 * 300)


def test_rows_are_those_of_the_command(root, tmp_path):
    command = os.environ.get("FORAMEN")
    if not command:
        pytest.skip("FORAMEN does not name the command to compare with")
    source, output = root / "examples/reports/reports.csv", tmp_path / "findings.jsonl"
    package = root / "models/spine"
    subprocess.run(
        [command, "label", source, "--output", output, "--model", package, "--arithmetic", "float32"],
        check=True, capture_output=True, cwd=root,
    )
    reports = pandas.read_csv(source)
    ours = foramen.label(reports["report"], ids=reports["report_id"], arithmetic="float32").to_pylist()
    theirs = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(ours) == len(theirs) > 10
    for our, their in zip(ours, theirs):
        for name, value in our.items():
            assert value == (pytest.approx(their[name], abs=1e-6) if isinstance(value, float) else their[name]), name


def test_threads_answer_beside_each_other():
    answers = []
    work = lambda: answers.append(rows(foramen.label(TEXTS, arithmetic="float32")))
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [ROWS] * 4


def test_onnxruntime_may_be_used_in_the_same_process():
    import onnxruntime

    assert onnxruntime.get_available_providers()
    assert rows(foramen.label(TEXTS)) == ROWS


SECRET = "Jane Doe, L4-5: bulge."


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"texts": SECRET}, TypeError, "texts is one str, and many are expected: give [text]"),
        ({"texts": [SECRET, 5]}, TypeError, "texts are list that can't be read as one column"),
        ({"texts": [5, SECRET]}, TypeError, "texts are list that can't be read as one column"),
        ({"texts": 5}, TypeError, "texts are int"),
        ({"texts": [5]}, TypeError, "the texts are Int64, and text is expected"),
        ({"texts": [b"\xff"]}, TypeError, "the texts are Binary"),
        ({"texts": pyarrow.table({"a": [SECRET]})}, TypeError, "the texts are Struct"),
        ({"texts": [SECRET], "ids": []}, ValueError, "there are 1 texts and 0 ids"),
        ({"texts": [SECRET], "ids": [{"a": 1}]}, TypeError, "the ids can't be written as text"),
        ({"texts": [SECRET], "min_score": 2}, ValueError, "between 0 and 1"),
        ({"texts": [SECRET], "arithmetic": "fp8"}, ValueError, "write auto"),
        ({"texts": [SECRET], "model": "no/such/model"}, foramen.ModelError, "package.toml"),
    ],
)
def test_what_is_wrong_is_said_without_content(arguments, error, said):
    with pytest.raises(error) as caught:
        foramen.label(**arguments)
    assert said in str(caught.value)
    assert "Jane" not in str(caught.value)


def test_a_text_that_is_too_long_is_told_by_its_position():
    endless = "L4-5: " + "bulge and " * 200_000
    with pytest.raises(foramen.ModelError, match="the text at position 1: .*split the text"):
        foramen.label(["L4-5: bulge.", endless])
    with pytest.raises(ValueError, match="the text at position 0 has more than 64 MB"):
        foramen.label(["L" * (65 << 20)])
