-- Questions to the rows that `make demo` writes. Run it with: foramen sql -f examples/demo.sql

-- The narrowest canals, each with the sentences that were read.
SELECT report_id, level, canal_stenosis AS canal, round(canal_stenosis_score, 2) AS score, disc, cord, left(evidence, 64) AS evidence
FROM 'out/findings.parquet'
WHERE canal_stenosis = 'severe'
ORDER BY report_id, level;

-- How often is which disc finding, by region?
SELECT region, disc, count(*) AS segments
FROM 'out/findings.parquet'
GROUP BY region, disc ORDER BY region, segments DESC, disc;
