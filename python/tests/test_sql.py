"""Every function through DataFusion's FFI, in the released wheel `datafusion`."""

import math
import random

import datafusion
import foramen
import pyarrow
import pyarrow.parquet
import pytest

TEXT = "L4-5: disc bulge, severe canal stenosis. L5-S1: normal."


def ask(ctx, query):
    return ctx.sql(query).to_arrow_table().to_pylist()


def test_findings_of_a_column_with_nulls(ctx):
    ctx.from_pydict({"id": [1, 2, 3, 4, 5], "text": [TEXT, None, "", "Brain: normal.", "C5-6: mild canal narrowing."]}, "r")
    found = ask(ctx, "SELECT id, f['level'] AS level, f['canal_stenosis'] AS canal, f['disc_score'] AS score "
                     "FROM (SELECT id, unnest(extract_findings(text)) AS f FROM r) ORDER BY id, level")
    assert [(row["id"], row["level"], row["canal"]) for row in found] == [
        (1, "L4-L5", "severe"), (1, "L5-S1", "none"), (5, "C5-C6", "mild")]
    assert all(0 < row["score"] <= 1 for row in found)
    lists = ask(ctx, "SELECT id, extract_findings(text) AS f FROM r ORDER BY id")
    assert [None if row["f"] is None else len(row["f"]) for row in lists] == [2, None, 0, 0, 1]


def test_findings_are_those_of_label(ctx):
    texts = [TEXT, None, "C5-6: mild canal narrowing."]
    ctx.from_pydict({"id": ["1", "2", "3"], "text": texts}, "r")
    found = ask(ctx, "SELECT id, unnest(extract_findings(text)) AS f FROM r ORDER BY id, f['level']")
    rows = foramen.label(texts, arithmetic="float32").drop_columns("model").to_pylist()
    assert [{"report_id": row["id"], **row["f"]} for row in found] == rows


@pytest.mark.parametrize("kind", ["Utf8", "LargeUtf8", "Utf8View", "Dictionary(Int32, Utf8)"])
def test_every_string_type_and_constants(ctx, kind):
    ctx.from_pydict({"text": [TEXT, None]}, "r")
    counts = ask(ctx, f"SELECT cardinality(report_segments(arrow_cast(text, '{kind}'))) AS n FROM r ORDER BY n")
    assert [row["n"] for row in counts] == [2, None]
    assert ask(ctx, f"SELECT cardinality(report_segments(arrow_cast('{TEXT}', '{kind}'))) AS n") == [{"n": 2}]


def test_explanations_and_the_model(ctx):
    found = ask(ctx, "SELECT e['task'] AS task, e['sentences'][1]['text'] AS because "
                     f"FROM (SELECT unnest(explain_findings('{TEXT}')) AS e) WHERE e['task'] = 'canal_stenosis'")
    assert len(found) == 1 and "severe canal stenosis" in found[0]["because"]
    model = ask(ctx, "SELECT foramen_model() AS model")[0]["model"]
    assert model == foramen.label([TEXT]).column("model")[0].as_py()


def test_embeddings_by_a_constant_layer_and_a_column_of_layers(ctx):
    last = ask(ctx, f"SELECT unnest(embed_segments('{TEXT}')) AS e")
    assert [len(row["e"]["embedding"]) for row in last] == [384, 384]
    assert ask(ctx, f"SELECT unnest(embed_segments('{TEXT}', 3)) AS e") == last
    ctx.from_pydict({"text": [TEXT] * 2, "layer": [3, None]}, "r")
    assert ask(ctx, "SELECT unnest(embed_segments(text, layer)) AS e FROM r") == last
    with pytest.raises(Exception, match="embed_segments: argument 2 is layer 4; .* has layers 0 to 3"):
        ctx.sql(f"SELECT embed_segments('{TEXT}', 4)")


def test_messages(ctx, root):
    messages = sorted((root / "examples/messages").glob("*.hl7"))
    ctx.from_pydict({"source": [path.name for path in messages], "message": [path.read_bytes() for path in messages]}, "m")
    reports = ask(ctx, "SELECT source, r['report_id'] AS id, r['reported_at'] AS at, r['text'] AS text "
                       "FROM (SELECT source, unnest(hl7_reports(message)) AS r FROM m)")
    assert len(reports) > len(messages) and all(row["id"] for row in reports)
    one = ask(ctx, "SELECT hl7_report(message)['report_status'] AS status, hl7_field(message, 'OBR-4.2') AS exam, "
                   "hl7_error(message) AS error FROM m WHERE source = 'oru-lumbar.hl7'")
    assert one[0]["status"] == "final" and one[0]["exam"] and one[0]["error"] is None
    wrong = ask(ctx, "SELECT hl7_report('no message') AS r, hl7_error('no message') AS error, hl7_error(NULL) AS none")
    assert wrong[0]["r"] is None and wrong[0]["error"].startswith("no-msh") and wrong[0]["none"] is None
    findings = ask(ctx, "SELECT f['level'] AS level FROM (SELECT unnest(extract_findings(r['text'])) AS f "
                        "FROM (SELECT unnest(hl7_reports(message)) AS r FROM m))")
    assert len(findings) > len(reports)


def test_messages_as_tables(ctx, root):
    ctx.sql(f"CREATE EXTERNAL TABLE m STORED AS HL7 LOCATION '{root}/examples/messages/'")
    sources = ask(ctx, "SELECT source, count(hl7_reports(message)) AS reports FROM m GROUP BY source ORDER BY source")
    assert any(row["source"].endswith("feed.mllp#2") for row in sources) and any(row["reports"] == 0 for row in sources)
    with pytest.raises(Exception, match="there is no file at file:///no/such/place"):
        ctx.sql("CREATE EXTERNAL TABLE none STORED AS HL7 LOCATION '/no/such/place'")


def test_table_functions_over_a_stored_run(ctx, tmp_path):
    draw = random.Random(7)
    gradient = [draw.gauss(0, 1) for _ in range(4)]
    turned = [-value for value in gradient]
    rows = [(task, vector) for task, vector in (("disc", gradient), ("canal", gradient), ("root", turned)) for _ in range(2)]
    table = pyarrow.table({
        "run": ["r"] * 6, "step": pyarrow.array([0, 1] * 3, pyarrow.int64()), "task": [task for task, _ in rows],
        "layer": pyarrow.array([3] * 6, pyarrow.int32()),
        "gradient": pyarrow.array([vector for _, vector in rows], pyarrow.list_(pyarrow.float32())),
    })
    (tmp_path / "gradients").mkdir()
    pyarrow.parquet.write_table(table, tmp_path / "gradients/part.parquet")
    found = ask(ctx, f"SELECT task, other, cosine FROM task_alignment('{tmp_path}') WHERE task < other ORDER BY 1, 2")
    assert [(row["task"], row["other"], round(row["cosine"], 5)) for row in found] == [
        ("canal", "disc", 1.0), ("canal", "root", -1.0), ("disc", "root", -1.0)]
    groups = ask(ctx, f"SELECT model, task FROM task_groups('{tmp_path}', 2) ORDER BY model, task")
    assert sorted(row["task"] for row in groups) == ["canal", "disc", "root"] and len({row["model"] for row in groups}) == 2
    assert ask(ctx, f"SELECT count(*) AS n FROM sharing_verdict('{tmp_path}', -0.1)")[0]["n"] > 0
    with pytest.raises(Exception, match="has neither embeddings/ nor gradients/"):
        ask(ctx, "SELECT * FROM task_alignment('/no/such/run')")
    with pytest.raises(Exception, match="the number of models is 1 or more"):
        ctx.sql(f"SELECT * FROM task_groups('{tmp_path}')")


@pytest.fixture
def pairs(ctx):
    """Two representations of 40 rows in two groups: in `same` the second is the first, turned; in `other` it has nothing to do with it."""
    draw = random.Random(7)
    x = [[draw.gauss(0, 1) for _ in range(3)] for _ in range(80)]
    y = [[-row[1], row[0], row[2]] if at < 40 else [draw.gauss(0, 1) for _ in range(3)] for at, row in enumerate(x)]
    kind = ["same" if at < 40 else "other" for at in range(80)]
    # A row of which a side is missing is passed over.
    x.append(None)
    y.append([1.0, 2.0, 3.0])
    kind.append("same")
    table = pyarrow.table({"kind": kind, "x": x, "y": y})
    ctx.from_arrow(table, "p")
    return ctx


def test_aggregates_in_groups_over_partitions(pairs):
    names = [function.name for function in foramen.functions() if function.kind == "aggregate"]
    assert len(names) == 9
    columns = ", ".join(f"{name}(x, y) AS {name}" for name in names)
    answers = ask(pairs, f"SELECT kind, {columns} FROM (SELECT kind, x, y FROM p ORDER BY random()) GROUP BY kind")
    same, other = (next(row for row in answers if row["kind"] == kind) for kind in ("same", "other"))
    for name in ("linear_cka", "linear_cka_debiased", "svcca", "pwcca", "procrustes_similarity", "rbf_cka"):
        assert math.isclose(same[name], 1, abs_tol=1e-9), name
        assert other[name] < 0.6, name
    interval = other["linear_cka_interval"]
    assert interval["lower"] < interval["estimate"] < interval["upper"]
    assert 0 <= other["gradient_conflict_rate"] <= 1 and -1 <= other["gradient_cosine"] <= 1


def test_aggregates_give_one_answer_whatever_the_partitions(pairs):
    one = datafusion.SessionContext(datafusion.SessionConfig().with_target_partitions(1))
    foramen.register(one)
    one.from_arrow(pairs.table("p").to_arrow_table(), "p")
    query = "SELECT kind, linear_cka(x, y) AS cka, svcca(x, y, 0.9) AS svcca FROM p GROUP BY kind ORDER BY kind"
    for ours, theirs in zip(ask(pairs, query), ask(one, query), strict=True):
        assert ours["cka"] == pytest.approx(theirs["cka"], abs=1e-12)
        assert ours["svcca"] == pytest.approx(theirs["svcca"], abs=1e-12)


def test_a_constant_argument_of_an_aggregate(pairs):
    shares = ask(pairs, "SELECT svcca(x, y, 0.3) AS few, svcca(x, y, 1) AS all FROM p WHERE kind = 'other'")[0]
    assert shares["few"] != shares["all"]
    with pytest.raises(Exception, match="svcca: argument 3 is 2.*expected a share above 0 and up to 1"):
        ask(pairs, "SELECT svcca(x, y, 2) FROM p")
    with pytest.raises(Exception, match="svcca: argument 3 is not a constant"):
        ask(pairs, "SELECT svcca(x, y, x[1]) FROM p")


def test_a_wrong_argument_is_an_error_of_the_query(ctx):
    for query, said in [
        ("extract_findings(5)", "extract_findings: argument 1 is Int64, expected text"),
        ("extract_findings()", "extract_findings"),
        ("hl7_field('x', 'OBR')", "OBX-5"),
        ("linear_cka(1, 2)", "linear_cka: argument 1 is Int64"),
    ]:
        with pytest.raises(Exception, match=said):
            ask(ctx, f"SELECT {query}")


def test_functions_in_data_frames(ctx):
    frame = ctx.from_pydict({"text": [TEXT]})
    findings = ctx.udf("extract_findings")(datafusion.col("text"))
    assert len(frame.select(findings.alias("f")).to_pydict()["f"][0]) == 2


def test_the_list_has_every_function_and_each_is_registered(ctx):
    listed = foramen.functions()
    assert len(listed) == 18 and len({function.name for function in listed}) == 18
    for function in listed:
        assert function.syntax.startswith(function.name + "(") and len(function.description) > 20
        (ctx.udf if function.kind == "scalar" else ctx.udaf)(function.name)


def test_only_a_session_is_given_functions():
    with pytest.raises(TypeError, match="a datafusion.SessionContext, and str is given"):
        foramen.register("ctx")
    with pytest.raises(foramen.ModelError, match="package.toml"):
        foramen.register(datafusion.SessionContext(), model="no/such/model")
