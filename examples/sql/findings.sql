-- The rows of `foramen label`, by SQL. Run it with: foramen sql -f examples/sql/findings.sql

CREATE EXTERNAL TABLE m STORED AS HL7 LOCATION 'examples/messages/sql-*';

-- One row a motion segment of every report.
CREATE VIEW findings AS
SELECT
  r['report_id'] AS report_id,
  r['message_control_id'] AS message_control_id,
  r['patient_id'] AS patient_id,
  r['exam'] AS exam,
  r['report_status'] AS report_status,
  r['reported_at'] AS reported_at,
  source,
  f['region'] AS region,
  f['level'] AS level,
  f['disc'] AS disc,
  f['disc_score'] AS disc_score,
  f['canal_stenosis'] AS canal_stenosis,
  f['canal_stenosis_score'] AS canal_stenosis_score,
  f['foraminal_stenosis_left'] AS foraminal_stenosis_left,
  f['foraminal_stenosis_left_score'] AS foraminal_stenosis_left_score,
  f['foraminal_stenosis_right'] AS foraminal_stenosis_right,
  f['foraminal_stenosis_right_score'] AS foraminal_stenosis_right_score,
  f['subarticular_stenosis_left'] AS subarticular_stenosis_left,
  f['subarticular_stenosis_left_score'] AS subarticular_stenosis_left_score,
  f['subarticular_stenosis_right'] AS subarticular_stenosis_right,
  f['subarticular_stenosis_right_score'] AS subarticular_stenosis_right_score,
  f['thecal_sac'] AS thecal_sac,
  f['thecal_sac_score'] AS thecal_sac_score,
  f['cord'] AS cord,
  f['cord_score'] AS cord_score,
  f['nerve_root'] AS nerve_root,
  f['nerve_root_score'] AS nerve_root_score,
  f['evidence'] AS evidence,
  foramen_model() AS model
FROM (
  SELECT source, r, unnest(extract_findings(r['text'])) AS f
  FROM (SELECT source, unnest(hl7_reports(message)) AS r FROM m)
  WHERE r['report_status'] <> 'retracted'
);

SELECT report_id, report_status AS status, level, disc, canal_stenosis, thecal_sac, cord, nerve_root
FROM findings ORDER BY report_id, status, level;
--> +-----------+-------------+-------+------------+----------------+-------------+---------+------------+
--> | report_id | status      | level | disc       | canal_stenosis | thecal_sac  | cord    | nerve_root |
--> +-----------+-------------+-------+------------+----------------+-------------+---------+------------+
--> | S26-1001  | final       | L3-L4 | normal     | none           | none        | none    | none       |
--> | S26-1001  | final       | L4-L5 | bulge      | mild           | none        | none    | none       |
--> | S26-1001  | final       | L5-S1 | protrusion | none           | none        | none    | contact    |
--> | S26-1002  | final       | L4-L5 | normal     | none           | none        | none    | none       |
--> | S26-1002  | final       | L5-S1 | extrusion  | severe         | compression | none    | none       |
--> | S26-1003  | final       | C5-C6 | bulge      | none           | none        | none    | none       |
--> | S26-1003  | final       | C6-C7 | normal     | none           | none        | none    | none       |
--> | S26-1004  | corrected   | L4-L5 | bulge      | none           | none        | none    | none       |
--> | S26-1004  | preliminary | L4-L5 | bulge      | none           | none        | none    | none       |
--> | S26-1006  | final       | L5-S1 | protrusion | none           | contact     | none    | none       |
--> | S26-1101  | final       | C3-C4 | bulge      | mild           | none        | contact | none       |
--> | S26-1101  | final       | C4-C5 | normal     | none           | none        | none    | none       |
--> +-----------+-------------+-------+------------+----------------+-------------+---------+------------+

-- Severe or compressing, with the sentences that say so.
SELECT report_id, level, evidence
FROM findings
WHERE canal_stenosis = 'severe' OR 'compression' IN (thecal_sac, cord, nerve_root)
ORDER BY report_id, level;
--> +-----------+-------+---------------------------------------------------------------------+
--> | report_id | level | evidence                                                            |
--> +-----------+-------+---------------------------------------------------------------------+
--> | S26-1002  | L5-S1 | L5-S1: Extrusion compressing the thecal sac. Severe canal stenosis. |
--> +-----------+-------+---------------------------------------------------------------------+
