-- Why a grade: the sentences that each one hangs on, found by leaving them out and reading again.
-- foramen sql -f examples/sql/explain.sql

SELECT e['level'] AS level, e['task'] AS task, e['grade'] AS grade, e['sentences'][1]['text'] AS sentence, e['grade_without'] AS without
FROM (SELECT unnest(explain_findings(
  'L4-5: Broad-based disc bulge. Together with facet hypertrophy it narrows the canal severely. The left foramen is mildly narrowed, the right is patent. L5-S1: Normal.')) AS e)
ORDER BY level, task;
--> +-------+-------------------------+--------+----------------------------------------------------------------+---------+
--> | level | task                    | grade  | sentence                                                       | without |
--> +-------+-------------------------+--------+----------------------------------------------------------------+---------+
--> | L4-L5 | canal_stenosis          | severe | Together with facet hypertrophy it narrows the canal severely. | none    |
--> | L4-L5 | disc                    | bulge  | L4-5: Broad-based disc bulge.                                  | normal  |
--> | L4-L5 | foraminal_stenosis_left | mild   | The left foramen is mildly narrowed, the right is patent.      | none    |
--> +-------+-------------------------+--------+----------------------------------------------------------------+---------+

-- Where the grade stands in the report, for whoever wants to mark it: characters from 0.
SELECT report_id, e['level'] AS level, e['task'] AS task, s['start'] AS "from", s['end'] AS "to"
FROM (SELECT report_id, e, unnest(e['sentences']) AS s
      FROM (SELECT report_id, unnest(explain_findings(text)) AS e FROM 'examples/reports/sql-reports.csv'))
ORDER BY report_id, level, task, s['start'];
--> +-----------+-------+----------------+------+----+
--> | report_id | level | task           | from | to |
--> +-----------+-------+----------------+------+----+
--> | R1        | L4-L5 | canal_stenosis | 0    | 46 |
--> | R1        | L4-L5 | disc           | 0    | 46 |
--> | R3        | C5-C6 | disc           | 0    | 62 |
--> | R3        | C6-C7 | cord           | 0    | 62 |
--> | R3        | C6-C7 | disc           | 0    | 62 |
--> +-----------+-------+----------------+------+----+
