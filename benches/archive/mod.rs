//! The texts of `corpus/written.jsonl`, and HL7 v2 messages of them.
#![allow(dead_code, reason = "no bench uses all of it")]

use std::fmt::Write;

/// Every `step`th report.
pub(crate) fn texts(step: usize) -> Vec<String> {
    let corpus = std::fs::read_to_string("corpus/written.jsonl").unwrap();
    let text = |line: &str| {
        let report: serde_json::Value = serde_json::from_str(line).unwrap();
        report["text"].as_str().unwrap().to_owned()
    };
    corpus.lines().step_by(step).map(text).collect()
}

/// What stands for a separator within a text is escaped.
pub(crate) fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\E\\").replace('|', "\\F\\").replace('^', "\\S\\");
    text.replace('&', "\\T\\").replace('~', "\\R\\")
}

/// An ORU^R01 of a report, a line an OBX, its number as control id and as report id.
pub(crate) fn message(number: usize, text: &str) -> String {
    let mut message = format!(
        "MSH|^~\\&|RIS|SITE|FORAMEN|SITE|20260102030405+0000||ORU^R01|C{number}|P|2.5\rPID|1||P{number}^^^SITE||DOE^JANE\r\
         OBR|1||R{number}|MRLSPINE^MRI lumbar spine|||20260102030000|||||||||||||||20260102030400|||F\r"
    );
    for (line, text) in escaped(text).lines().enumerate() {
        write!(message, "OBX|{}|TX|GDT^Report||{text}||||||F\r", line + 1).unwrap();
    }
    message
}

/// An ADT^A08, which carries no report.
pub(crate) fn admission(number: usize) -> String {
    format!(
        "MSH|^~\\&|ADT|SITE|FORAMEN|SITE|20260102030405+0000||ADT^A08|A{number}|P|2.5\rEVN|A08|20260102030405\r\
         PID|1||P{number}^^^SITE^MR||DOE^JANE^^^^||19500101|F|||1 EXAMPLE ST^^TOWN^^12345||5550100\r\
         PV1|1|O|RAD^1^1||||1234^ROE^RICHARD|||RAD||||||||V{number}|||||||||||||||||||||||||20260102\r"
    )
}
