# foramen in a notebook: run the cells one after another, or the whole as a program in the repository's folder.
# pip install 'foramen[datafusion]' pandas polars

# %% Reports in, finding rows out: one a motion segment.
import foramen

rows = foramen.label(["L4-5: disc bulge, severe canal stenosis. L5-S1: normal."])
print(rows.select(["report_id", "level", "disc", "canal_stenosis"]).to_pandas())

# %% A column of pandas, with the reports' own ids.
import pandas

reports = pandas.read_csv("examples/reports/reports.csv")
findings = foramen.label(reports["report"], ids=reports["report_id"]).to_pandas()
print(findings[["report_id", "level", "disc", "disc_score"]])

# %% Of polars; grades that are less sure than 0.9 are missing.
import polars

column = polars.read_csv("examples/reports/reports.csv")["report"]
print(polars.from_arrow(foramen.label(column, min_score=0.9)).select("report_id", "level", "canal_stenosis"))

# %% SQL: the same model as functions of DataFusion.
import datafusion

ctx = datafusion.SessionContext()
foramen.register(ctx)
ctx.register_csv("reports", "examples/reports/reports.csv")
ctx.sql("""
    SELECT report_id, f['level'] AS level, f['disc'] AS disc
    FROM (SELECT report_id, unnest(extract_findings(report)) AS f FROM reports)
    WHERE f['canal_stenosis'] = 'severe'
""").show()

# %% A folder of HL7 messages is a table.
ctx.sql("CREATE EXTERNAL TABLE messages STORED AS HL7 LOCATION 'examples/messages/'")
ctx.sql("""
    SELECT r['report_id'] AS report_id, r['report_status'] AS status, cardinality(extract_findings(r['text'])) AS segments
    FROM (SELECT unnest(hl7_reports(message)) AS r FROM messages)
""").show()

# %% How alike are two layers of the model, on these reports?
ctx.sql("""
    WITH states AS (SELECT report_id, unnest(embed_segments(report, 1)) AS early, unnest(embed_segments(report, 3)) AS late FROM reports)
    SELECT early['region'] AS region, count(*) AS segments, linear_cka(early['embedding'], late['embedding']) AS linear_cka
    FROM states GROUP BY region
""").show()

# %% What else there is.
for function in foramen.functions():
    print(f"{function.kind:9}  {function.syntax}")
