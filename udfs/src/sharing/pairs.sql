-- How alike two tasks are at one layer of one run: of the networks' embeddings of the same motion segments, and of the gradients at the same steps.
WITH e AS (SELECT task, report_id, level, embedding FROM embeddings WHERE run = $run AND layer = $layer),
g AS (SELECT task, step, gradient FROM gradients WHERE run = $run AND layer = $layer),
s AS (
  SELECT a.task AS task, b.task AS other, linear_cka_debiased(a.embedding, b.embedding) AS similarity
  FROM e AS a JOIN e AS b ON a.report_id = b.report_id AND a.level = b.level AND a.task < b.task
  GROUP BY a.task, b.task
),
c AS (
  SELECT a.task AS task, b.task AS other, gradient_cosine(a.gradient, b.gradient) AS cosine,
    gradient_conflict_rate(a.gradient, b.gradient) AS conflict_rate
  FROM g AS a JOIN g AS b ON a.step = b.step AND a.task < b.task
  GROUP BY a.task, b.task
),
p AS (
  SELECT coalesce(s.task, c.task) AS task, coalesce(s.other, c.other) AS other, similarity, cosine, conflict_rate
  FROM s FULL OUTER JOIN c ON s.task = c.task AND s.other = c.other
)
SELECT $run AS run, $layer AS layer, task, other, similarity, cosine, conflict_rate FROM p
UNION ALL
SELECT $run AS run, $layer AS layer, other AS task, task AS other, similarity, cosine, conflict_rate FROM p
ORDER BY task, other
