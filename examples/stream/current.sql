-- What holds now, out of the folder of a stream that writes Parquet. Run it with: foramen sql -f examples/stream/current.sql

-- A stream appends every version of a report: late ones (version is NULL), changes of status without text, and retractions too.
-- Of each report, the rows of its last text hold, under its last status, unless it was taken back. A report that speaks of no motion
-- segment has one row without a level.
CREATE VIEW current AS
WITH versions AS (
  SELECT *, max(version) OVER (PARTITION BY report_id) AS last,
    max(CASE WHEN change = 'report' THEN version END) OVER (PARTITION BY report_id) AS last_text
  FROM 'out/rows/'
  WHERE version IS NOT NULL
), statuses AS (
  SELECT DISTINCT report_id, report_status FROM versions WHERE version = last AND change <> 'retraction'
)
SELECT versions.* EXCEPT (report_status, last, last_text), statuses.report_status
FROM versions JOIN statuses ON versions.report_id = statuses.report_id
WHERE version = last_text AND change = 'report';

SELECT report_id, report_status, level, version FROM current ORDER BY report_id, level LIMIT 20;
