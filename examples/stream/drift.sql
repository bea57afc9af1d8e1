-- Does a site still write as the model was trained for? Run it with: foramen sql -f examples/stream/drift.sql
-- Over the folder of a stream by examples/stream/drift.toml, and the reports that the model learnt from.

CREATE EXTERNAL TABLE written (id VARCHAR, text VARCHAR) STORED AS JSON LOCATION 'corpus/written.jsonl';

-- The training set as the model sees it. Another model, another table: embeddings of two models cannot be compared row by row.
CREATE TABLE training AS
SELECT id, e['level'] AS level, e['embedding'] AS embedding,
  concat_ws('/', f['disc'], f['canal_stenosis'], f['thecal_sac'], f['nerve_root']) AS grades,
  row_number() OVER (ORDER BY reverse(id), e['level']) % 2 AS half
FROM (SELECT id, unnest(embed_segments(text)) AS e, unnest(extract_findings(text)) AS f FROM written);

-- What is compared: each site's weeks, and one half of the training set, which says how alike they are when nothing has changed.
CREATE VIEW live AS
SELECT site, date_trunc('week', reported_at) AS week, report_id AS id, level, embedding, grades
FROM 'out/embeddings/' WHERE change = 'report' AND level IS NOT NULL
UNION ALL SELECT '(training set)', NULL, id, level, embedding, grades FROM training WHERE half = 1;

-- Rows must be pairs. The n-th segment of some grades is paired with the n-th of the training set that has the same grades: where a site's
-- embeddings say the grades as the training set's do, the similarity is that of the training set's halves; it falls with other words.
WITH numbered AS (
  SELECT *, row_number() OVER (PARTITION BY site, week, grades ORDER BY id, level) AS n FROM live
), known AS (
  SELECT embedding, grades, row_number() OVER (PARTITION BY grades ORDER BY reverse(id), level) AS n FROM training WHERE half = 0
)
SELECT site, week, count(*) AS pairs,
  round(linear_cka_debiased(numbered.embedding, known.embedding), 3) AS similarity,
  round(linear_cka_interval(numbered.embedding, known.embedding)['lower'], 3) AS lower,
  round(linear_cka_interval(numbered.embedding, known.embedding)['upper'], 3) AS upper
FROM numbered JOIN known ON numbered.grades = known.grades AND numbered.n = known.n
GROUP BY site, week ORDER BY week NULLS FIRST, site;
