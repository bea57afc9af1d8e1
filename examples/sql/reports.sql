-- Reports in a CSV file, graded in SQL. Run it with: foramen sql -f examples/sql/reports.sql

-- A file is a table by its name. extract_findings answers with a list; unnest makes a row of each finding.
SELECT report_id, f['level'] AS level, f['disc'] AS disc, f['canal_stenosis'] AS canal_stenosis, f['cord'] AS cord
FROM (SELECT report_id, unnest(extract_findings(text)) AS f FROM 'examples/reports/sql-reports.csv')
ORDER BY report_id, level;
--> +-----------+-------+------------+----------------+-------------+
--> | report_id | level | disc       | canal_stenosis | cord        |
--> +-----------+-------+------------+----------------+-------------+
--> | R1        | L4-L5 | bulge      | moderate       | none        |
--> | R1        | L5-S1 | normal     | none           | none        |
--> | R3        | C5-C6 | protrusion | none           | none        |
--> | R3        | C6-C7 | protrusion | none           | compression |
--> +-----------+-------+------------+----------------+-------------+

-- Grades are filtered and grouped like text.
SELECT f['disc'] AS disc, count(*) AS levels
FROM (SELECT unnest(extract_findings(text)) AS f FROM 'examples/reports/sql-reports.csv')
GROUP BY disc ORDER BY levels DESC, disc;
--> +------------+--------+
--> | disc       | levels |
--> +------------+--------+
--> | protrusion | 2      |
--> | bulge      | 1      |
--> | normal     | 1      |
--> +------------+--------+
