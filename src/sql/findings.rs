//! The query whose rows `foramen label` writes.

use crate::labels::Task;

/// A query for finding rows: one row a motion segment of every report in `table`, which has the columns `source` and `message`
/// as HL7 tables do. Columns are those of `foramen label`, in its order; a retraction has no row.
pub fn finding_rows(table: &str, tasks: &[Task]) -> String {
    let report = ["report_id", "message_control_id", "patient_id", "exam", "report_status", "reported_at"];
    let from_report = report.iter().map(|column| format!("r['{column}'] AS {column}"));
    let grades = tasks.iter().flat_map(|Task { name, .. }| [name.clone(), format!("{name}_score")]);
    let columns = ["region", "level"].map(str::to_owned).into_iter().chain(grades).chain(["evidence".to_owned()]);
    let from_finding = columns.map(|column| format!("f['{column}'] AS {column}"));
    let selected: Vec<String> = from_report
        .chain(["source".to_owned()])
        .chain(from_finding)
        .chain(["foramen_model() AS model".to_owned()])
        .collect();
    format!(
        "SELECT\n  {}\nFROM (\n  SELECT source, r, unnest(extract_findings(r['text'])) AS f\n  FROM (SELECT source, unnest(hl7_reports(message)) AS r FROM {table})\n  WHERE r['report_status'] <> 'retracted'\n)",
        selected.join(",\n  ")
    )
}
