//! Report text → motion segments, each with the sentences that speak of it.
//!
//! The way of a report: `section` drops what is not read, undoes hard wraps and, with `table`, takes tables apart; `sentence` cuts
//! lines into sentences; `mention` and `group` find the levels that a sentence names; `evidence` and `clause` decide which text
//! belongs to which level, and `input` writes it down for the model.

mod clause;
mod evidence;
mod group;
mod input;
mod level;
mod mention;
mod section;
mod sentence;
mod table;

pub use level::{Level, Region, UnknownLevel};
use std::fmt;
use std::ops::Range;

/// Stands in [`Segment::input`] for a mention of the segment itself.
pub const TARGET: &str = "[TARGET]";
/// Stands in [`Segment::input`] for a mention of other segments.
pub const OTHER: &str = "[OTHER]";
/// Leads in a sentence that names no level and belongs to the segment by what stood before it.
pub const CARRIED: &str = "[CARRIED]";

/// One motion segment that a report speaks of, with what it says about it; `Debug` shows where, and none of the text.
#[derive(Clone, PartialEq, Eq)]
pub struct Segment {
    /// The part of the spine.
    pub region: Region,
    /// The segment.
    pub level: Level,
    /// Byte ranges of the sentences that were read, in the report's text, in order.
    pub spans: Vec<Range<usize>>,
    /// Those sentences as written, white space tidied, joined by one space: the column `evidence`.
    pub evidence: String,
    /// The same for the model: this segment's mentions replaced by [`TARGET`], every other segment's by [`OTHER`], a sentence
    /// that has no level of its own led in by [`CARRIED`], sides written out as left, right and bilateral.
    pub input: String,
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment")
            .field("level", &format_args!("{}", self.level))
            .field("spans", &self.spans)
            .finish_non_exhaustive()
    }
}

/// The motion segments that a report names, top to bottom, one each.
///
/// What stands under history, indication, technique and comparison is not read. Any text is accepted; one that names no
/// segment gives none. Takes time linear in the text's length.
pub fn segments(text: &str) -> Vec<Segment> {
    readings(text).into_iter().map(|reading| reading.segment).collect()
}

/// A segment that can be read again without some of its sentences, to see which of them a grade hangs on.
pub struct Reading<'a> {
    /// The segment, read in full.
    pub segment: Segment,
    text: &'a str,
    pieces: Vec<evidence::Piece>,
}

impl Reading<'_> {
    /// Byte ranges of the sentences, or clauses of sentences, that the segment is read by, in the order of the report.
    pub fn pieces(&self) -> impl ExactSizeIterator<Item = &Range<usize>> {
        self.pieces.iter().map(|piece| &piece.range)
    }

    /// [`Segment::input`] without the pieces of these numbers; empty where none is left.
    pub fn input_without(&self, left_out: &[usize]) -> String {
        let kept = self.pieces.iter().enumerate().filter(|(at, _)| !left_out.contains(at));
        input::render(self.text, self.segment.level, kept.map(|(_, piece)| piece))
    }
}

/// As [`segments`], each with the pieces of text that it is read by.
pub fn readings(text: &str) -> Vec<Reading<'_>> {
    let read = |(level, pieces): (Level, Vec<evidence::Piece>)| {
        let spans = evidence::spans(&pieces);
        let evidence = evidence::written(text, &spans);
        let input = input::render(text, level, &pieces);
        Reading { segment: Segment { region: level.region(), level, spans, evidence, input }, text, pieces }
    };
    evidence::collect(text).into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each segment as "level: input".
    fn read(text: &str) -> Vec<String> {
        segments(text).iter().map(|segment| format!("{}: {}", segment.level, segment.input)).collect()
    }

    #[test]
    fn documented_example() {
        assert_eq!(
            read("L3-4 and L4/5: bulges, Lt > Rt. Canal narrow."),
            [
                "L3-L4: [TARGET] and [OTHER]: bulges, left > right. [CARRIED] Canal narrow.",
                "L4-L5: [OTHER] and [TARGET]: bulges, left > right. [CARRIED] Canal narrow.",
            ]
        );
    }

    #[test]
    fn unread_sections() {
        for text in [
            "HISTORY: prior L4-5 surgery.\n\nFINDINGS: L3-4 bulge.",
            "Clinical history L4-5 pain.\nTECHNIQUE: axial L1-S1.\nFINDINGS\nL3-4 bulge.",
            "Pain. INDICATION: L4-5. FINDINGS: L3-4 bulge. COMPARISON: L2-3.",
            "Clinical Details\nPrevious L4-5 fusion.\n\nReport\nL3-4 bulge.",
            "Hx: L4-5 surgery\nL3-4: bulge.",
            "CLINICAL HISTORY: Fusion two years ago at L4-5 and\nL5-S1.\n\nL3-4 bulge.",
            "History: L4-5.\r\n\r\nFindings: L3-4 bulge.",
        ] {
            let levels: Vec<String> = segments(text).iter().map(|segment| segment.level.to_string()).collect();
            assert_eq!(levels, ["L3-L4"], "{text}");
        }
    }

    #[test]
    fn headings_own_what_stands_under_them() {
        assert_eq!(read("L4-5\nBulge.\nCanal: narrow."), ["L4-L5: [TARGET] [CARRIED] Bulge. Canal: [CARRIED] narrow."]);
        assert_eq!(
            read("L4-5: bulge. Larger than at L3-4. Canal narrow.\n\nConus normal."),
            [
                "L3-L4: Larger than at [TARGET].",
                "L4-L5: [TARGET]: bulge. Larger than at [OTHER]. [CARRIED] Canal narrow. [CARRIED] Conus normal.",
            ]
        );
        assert_eq!(
            read("FORAMINA\nSevere: L4-5 left.\nMild: L3-4."),
            ["L3-L4: FORAMINA: Mild: [TARGET].", "L4-L5: FORAMINA: Severe: [TARGET] left."]
        );
        assert_eq!(read("FINDINGS: L4-5 bulge.\nIMPRESSION: Canal narrow."), ["L4-L5: [TARGET] bulge."]);
    }

    #[test]
    fn clauses_go_to_their_level() {
        assert_eq!(
            read("L3-4 bulge, L4-5 protrusion; canal narrow."),
            ["L3-L4: [TARGET] bulge", "L4-L5: [TARGET] protrusion; canal narrow."]
        );
        assert_eq!(
            read("Stenosis is mild at L3-4; severe at L4-5."),
            ["L3-L4: Stenosis is mild at [TARGET]", "L4-L5: Stenosis is mild at [OTHER]; severe at [TARGET]."]
        );
    }

    #[test]
    fn words_that_take_up_levels() {
        assert_eq!(
            read("Bulges at L3-4 and L4-5. The former touches the cord. At both levels the canal is narrow."),
            [
                "L3-L4: Bulges at [TARGET] and [OTHER]. [TARGET] touches the cord. At [TARGET] the canal is narrow.",
                "L4-L5: Bulges at [OTHER] and [TARGET]. At [TARGET] the canal is narrow.",
            ]
        );
        assert_eq!(
            read("L3-4: bulge.\nL4-5: as L3-4 but milder."),
            ["L3-L4: [TARGET]: bulge.", "L4-L5: [TARGET]: bulge. [TARGET]: as [OTHER] but milder."]
        );
        let named = read("MRI lumbar spine\nL5-S1 bulge. Remaining levels normal.");
        assert_eq!(named.first().map(String::as_str), Some("L1-L2: [TARGET] normal."));
        assert_eq!(named.len(), 5);
    }

    #[test]
    fn lines_that_became_commas() {
        let text =
            "HISTORY: Fall, L1-2.,FINDINGS:,L4-5: Bulge.,L5-S1: normal.,IMPRESSION:,1. Bulge at L4-5.,2. Cord normal.";
        assert_eq!(
            read(text),
            ["L4-L5: [TARGET]: Bulge. Bulge at [TARGET]. [CARRIED] Cord normal.", "L5-S1: [TARGET]: normal."]
        );
        assert_eq!(read("L4-5: bulge, 5 mm., narrow.").len(), 1);
    }

    #[test]
    fn a_title_that_is_all_the_heading_there_is() {
        let text = "EXAM: MRI CERVICAL SPINE. There is a bulge at C3-4.";
        assert_eq!(read(text), ["C3-C4: There is a bulge at [TARGET]."]);
        assert_eq!(read("EXAM: MRI spine. Compared with C5-6.\nFINDINGS: C3-4 bulge."), ["C3-C4: [TARGET] bulge."]);
    }

    #[test]
    fn structures_set_off_by_a_full_stop() {
        assert_eq!(
            read("SPINAL CANAL. L4-5: severe. L3-4: mild.\n\nDISCS. L4-5 bulges."),
            ["L3-L4: SPINAL CANAL: [TARGET]: mild.", "L4-L5: SPINAL CANAL: [TARGET]: severe. DISCS: [TARGET] bulges."]
        );
        assert_eq!(
            read("L4-5: bulge. Comment: canal narrow."),
            ["L4-L5: [TARGET]: bulge. [CARRIED] Comment: canal narrow."]
        );
    }

    #[test]
    fn ordinals_pick_of_the_last_list() {
        assert_eq!(
            read("Ridges at C4-5, C5-6 and C6-7. The first of these touches the cord. The last narrows the canal."),
            [
                "C4-C5: Ridges at [TARGET], [OTHER]. [TARGET] touches the cord.",
                "C5-C6: Ridges at [OTHER], [TARGET] and [OTHER].",
                "C6-C7: Ridges at [OTHER] and [TARGET]. [TARGET] narrows the canal.",
            ]
        );
    }

    #[test]
    fn a_list_of_levels_with_a_colon_and_without() {
        assert_eq!(
            read("C4-5: bulge. Canal mild.\nC5-6 protrusion. Foramina severe.\nC6-7: normal."),
            [
                "C4-C5: [TARGET]: bulge. [CARRIED] Canal mild.",
                "C5-C6: [TARGET] protrusion. [CARRIED] Foramina severe.",
                "C6-C7: [TARGET]: normal.",
            ]
        );
        assert_eq!(
            read("At L4-L5, there is a bulge.\nThere is moderate stenosis,\nAt L3-L4, there is a protrusion.")[1],
            "L4-L5: At [TARGET], there is a bulge. [CARRIED] There is moderate stenosis,"
        );
    }

    #[test]
    fn a_level_opens_a_clause() {
        assert_eq!(
            read("Discs normal at L2-3 and L3-4, at L4-5 there is a write paracentral bulge."),
            [
                "L2-L3: Discs normal at [TARGET] and [OTHER]",
                "L3-L4: Discs normal at [OTHER] and [TARGET]",
                "L4-L5: at [TARGET] there is a right paracentral bulge.",
            ]
        );
    }

    #[test]
    fn a_segment_is_read_again_without_a_sentence() {
        let text = "FORAMINA\nSevere: L4-5 left. Disc at L4-5 bulges. Canal narrow.";
        let readings = readings(text);
        let [reading] = readings.as_slice() else { panic!("one segment") };
        let pieces: Vec<&str> = reading.pieces().map(|range| &text[range.clone()]).collect();
        assert_eq!(pieces.len(), 3);
        assert_eq!(reading.input_without(&[]), reading.segment.input);
        for (at, piece) in pieces.iter().enumerate() {
            let word = piece.trim_end_matches('.').rsplit(' ').next().unwrap();
            assert!(reading.segment.input.contains(word) && !reading.input_without(&[at]).contains(word), "{piece}");
        }
        assert_eq!(reading.input_without(&[0, 1, 2]), "");
    }

    #[test]
    fn tables_are_read_by_cell() {
        for text in [
            "Level | Disc | Canal\nL4-5 | bulge | mild",
            "Level   L4-5   L5-S1\nDisc    bulge  none\nCanal   mild   none",
        ] {
            assert_eq!(
                read(text).first().map(String::as_str),
                Some("L4-L5: Disc: [TARGET] bulge Canal: [TARGET] mild"),
                "{text}"
            );
        }
    }
}
