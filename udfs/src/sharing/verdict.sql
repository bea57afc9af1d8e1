-- A task is compared with the middle of the others, so that one odd task among them moves no verdict.
WITH layers AS (
  SELECT run, task, layer,
    median(similarity) FILTER (WHERE other <> 'multi') AS similarity,
    max(similarity) FILTER (WHERE other = 'multi') AS to_shared,
    median(cosine) AS cosine,
    avg(conflict_rate) AS conflict_rate
  FROM pairs WHERE task <> 'multi' GROUP BY run, task, layer
),
judged AS (
  SELECT *, cosine < $min_cosine AS opposed, similarity < $min_similarity AS unlike FROM layers
),
parted AS (
  SELECT *, min(CASE WHEN coalesce(opposed, false) OR coalesce(unlike, false) THEN layer END) OVER (PARTITION BY run, task) AS parts_at
  FROM judged
),
reasoned AS (
  SELECT run, task, layer, similarity, to_shared, cosine, conflict_rate, parts_at,
    max(CASE WHEN layer = parts_at THEN
      CASE WHEN coalesce(opposed, false) THEN 'gradients part at layer ' || parts_at || ': cosine ' || round(cosine, 3) || ' is below ' || $min_cosine
      ELSE 'representations part at layer ' || parts_at || ': similarity ' || round(similarity, 3) || ' is below ' || $min_similarity END
    END) OVER (PARTITION BY run, task) AS parting,
    min(cosine) OVER (PARTITION BY run, task) AS lowest_cosine,
    min(similarity) OVER (PARTITION BY run, task) AS lowest_similarity
  FROM parted
)
SELECT run, task, layer, similarity, to_shared, cosine, conflict_rate,
  CASE WHEN parts_at IS NULL THEN 'share' WHEN parts_at = 0 THEN 'keep apart' ELSE 'share lower layers up to ' || (parts_at - 1) END AS verdict,
  CASE WHEN parts_at IS NULL THEN 'aligned at every layer: '
      || coalesce('cosine at least ' || round(lowest_cosine, 3), 'no gradients')
      || coalesce(', similarity at least ' || round(lowest_similarity, 3), ', no embeddings')
    ELSE parting END AS reason
FROM reasoned ORDER BY run, task, layer
