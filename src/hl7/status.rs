//! What OBX-11, OBR-25 and TXA-17 say about a report (tables 0085, 0123, 0271).

use std::collections::BTreeMap;

use serde::Deserialize;

/// How far a report has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Preliminary, unverified or partial: a final one will replace it.
    Preliminary,
    /// Final. With no text: the version sent before has become final.
    Final,
    /// Corrected, amended or appended: replaces what was sent before.
    Corrected,
    /// Deleted, wrong or cancelled: what was sent before does not hold.
    Retracted,
}

impl Status {
    /// The name in the column `report_status`.
    pub fn name(self) -> &'static str {
        match self {
            Status::Preliminary => "preliminary",
            Status::Final => "final",
            Status::Corrected => "corrected",
            Status::Retracted => "retracted",
        }
    }
}

/// What a status code means. Ordered: of several, the greatest decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Meaning {
    /// No result (yet), or not asked for: there is no narrative.
    Nothing,
    /// Final.
    Final,
    /// Now final, and the text is not sent again.
    Finalised,
    /// Preliminary.
    Preliminary,
    /// Corrected.
    Corrected,
    /// Retracted.
    Retracted,
}

/// A site's own readings of status codes, before the standard's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct StatusTable {
    /// For OBX-11.
    pub obx_11: BTreeMap<String, Meaning>,
    /// For OBR-25.
    pub obr_25: BTreeMap<String, Meaning>,
    /// For TXA-17.
    pub txa_17: BTreeMap<String, Meaning>,
}

/// OBX-11; `None` where the code is not known.
pub(super) fn obx_11(code: &str, table: &StatusTable) -> Option<Meaning> {
    site(code, &table.obx_11).or_else(|| standard(code)).or(match code {
        "A" | "B" => Some(Meaning::Corrected),
        _ => None,
    })
}

/// OBR-25; `None` where the code is not known.
pub(super) fn obr_25(code: &str, table: &StatusTable) -> Option<Meaning> {
    site(code, &table.obr_25).or_else(|| standard(code)).or(match code {
        "A" | "M" => Some(Meaning::Preliminary),
        _ => None,
    })
}

/// TXA-17; `None` where the code is not known.
pub(super) fn txa_17(code: &str, table: &StatusTable) -> Option<Meaning> {
    site(code, &table.txa_17).or(match code {
        "AU" | "LA" => Some(Meaning::Final),
        "DI" | "DO" | "IN" | "IP" | "PA" => Some(Meaning::Preliminary),
        _ => None,
    })
}

fn site(code: &str, table: &BTreeMap<String, Meaning>) -> Option<Meaning> {
    table.iter().find(|(known, _)| known.eq_ignore_ascii_case(code)).map(|(_, meaning)| *meaning)
}

/// Codes that mean the same in both tables, and the words that senders write instead.
fn standard(code: &str) -> Option<Meaning> {
    Some(match code {
        "F" | "V" | "FINAL" | "FINAL REPORT" | "VERIFIED" | "SIGNED" => Meaning::Final,
        "P" | "R" | "S" | "PRELIM" | "PRELIMINARY" | "PRELIMINARY REPORT" | "WET READ" | "PARTIAL" => {
            Meaning::Preliminary
        }
        "C" | "CORRECTED" | "CORRECTION" | "ADDENDUM" | "ADDENDED" | "AMENDED" => Meaning::Corrected,
        "U" => Meaning::Finalised,
        "D" | "W" | "X" | "DELETED" | "CANCELLED" | "CANCELED" | "RETRACTED" => Meaning::Retracted,
        "I" | "O" | "N" | "Y" | "Z" => Meaning::Nothing,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_both_tables() {
        let table = StatusTable::default();
        for (codes, meaning) in [
            ("F V FINAL", Meaning::Final),
            ("P R S PRELIM PRELIMINARY", Meaning::Preliminary),
            ("C CORRECTED ADDENDUM", Meaning::Corrected),
            ("U", Meaning::Finalised),
            ("D W X", Meaning::Retracted),
            ("I O N Y Z", Meaning::Nothing),
        ] {
            for code in codes.split(' ') {
                assert_eq!(obx_11(code, &table), Some(meaning), "{code}");
                assert_eq!(obr_25(code, &table), Some(meaning), "{code}");
            }
        }
        assert_eq!(obx_11("WET READ", &table), Some(Meaning::Preliminary));
        assert_eq!((obx_11("A", &table), obr_25("A", &table)), (Some(Meaning::Corrected), Some(Meaning::Preliminary)));
        assert_eq!((obx_11("B", &table), obr_25("M", &table)), (Some(Meaning::Corrected), Some(Meaning::Preliminary)));
        assert_eq!((obx_11("Q", &table), obr_25("HM", &table)), (None, None));
        assert_eq!((txa_17("LA", &table), txa_17("IP", &table)), (Some(Meaning::Final), Some(Meaning::Preliminary)));
    }

    #[test]
    fn a_site_overrides_one_field() {
        let table: StatusTable = toml::from_str("[obr-25]\nr = 'retracted'").unwrap();
        assert_eq!(obr_25("R", &table), Some(Meaning::Retracted));
        assert_eq!(obx_11("R", &table), Some(Meaning::Preliminary));
        assert!(toml::from_str::<StatusTable>("[obr-26]\nr = 'retracted'").is_err());
    }
}
