-- An archive of HL7 messages, asked in SQL. Run it with: foramen sql -f examples/sql/archive.sql

-- One table over a file of messages and a file of MLLP frames. A row is a message, or bytes that are none.
CREATE EXTERNAL TABLE m STORED AS HL7 LOCATION 'examples/messages/sql-*';

-- What is in it? hl7_error says why a message has no report, and never shows what is in it.
SELECT hl7_field(message, 'MSH-9.1') AS type, split_part(hl7_error(message), ':', 1) AS error, count(*) AS messages
FROM m GROUP BY type, error ORDER BY messages DESC, type;
--> +------+-----------------------+----------+
--> | type | error                 | messages |
--> +------+-----------------------+----------+
--> | ORU  |                       | 7        |
--> | ADT  | not-a-report at MSH-9 | 1        |
--> |      | no-msh at byte 0      | 1        |
--> +------+-----------------------+----------+

-- Each study's report, with its ids and its status.
SELECT r['report_id'] AS report_id, r['report_status'] AS status, r['reported_at'] AS reported_at, r['exam'] AS exam
FROM (SELECT unnest(hl7_reports(message)) AS r FROM m)
ORDER BY report_id, reported_at;
--> +-----------+-------------+----------------------+-------------------------------------+
--> | report_id | status      | reported_at          | exam                                |
--> +-----------+-------------+----------------------+-------------------------------------+
--> | S26-1001  | final       | 2026-03-02T08:15:00Z | MRI LUMBAR SPINE WITHOUT CONTRAST   |
--> | S26-1002  | final       | 2026-03-02T09:20:00Z | MRI LUMBAR SPINE WITHOUT CONTRAST   |
--> | S26-1003  | final       | 2026-03-02T09:20:00Z | MRI CERVICAL SPINE WITHOUT CONTRAST |
--> | S26-1004  | preliminary | 2026-03-02T10:10:00Z | MRI LUMBAR SPINE WITHOUT CONTRAST   |
--> | S26-1004  | corrected   | 2026-03-03T07:45:00Z | MRI LUMBAR SPINE WITHOUT CONTRAST   |
--> | S26-1005  | final       | 2026-03-02T11:30:00Z | MRI KNEE LEFT                       |
--> | S26-1006  | final       | 2026-03-02T12:00:00Z | MRI LUMBAR SPINE WITHOUT CONTRAST   |
--> | S26-1101  | final       | 2026-03-03T07:30:00Z | MRI CERVICAL SPINE WITHOUT CONTRAST |
--> +-----------+-------------+----------------------+-------------------------------------+

-- Which motion segments are spoken of? This needs no model.
SELECT s['level'] AS level, count(*) AS reports
FROM (SELECT unnest(report_segments(r['text'])) AS s FROM (SELECT unnest(hl7_reports(message)) AS r FROM m))
GROUP BY level ORDER BY level;
--> +-------+---------+
--> | level | reports |
--> +-------+---------+
--> | C3-C4 | 1       |
--> | C4-C5 | 1       |
--> | C5-C6 | 1       |
--> | C6-C7 | 1       |
--> | L3-L4 | 1       |
--> | L4-L5 | 4       |
--> | L5-S1 | 3       |
--> +-------+---------+
