//! The pieces of a report's narrative to one text that section and sentence splitting can read.

use std::borrow::Cow;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// The part of a report that a piece of narrative says it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    /// None said: headings in the text decide.
    Narrative,
    Findings,
    Impression,
    Addendum,
    Recommendation,
    /// A technician's note: not a finding.
    Technician,
    History,
    Indication,
    Comparison,
    Technique,
}

impl Section {
    /// By the suffix of OBX-3 (`&GDT`).
    pub(super) fn of_suffix(suffix: &str) -> Option<Self> {
        Some(match suffix.trim().to_ascii_uppercase().as_str() {
            "GDT" => Self::Narrative,
            "IMP" => Self::Impression,
            "ADT" | "ADN" => Self::Addendum,
            "REC" => Self::Recommendation,
            "TCM" => Self::Technician,
            _ => return None,
        })
    }

    /// By a LOINC code.
    pub(super) fn of_code(code: &str) -> Option<Self> {
        Some(match code.trim() {
            "59776-5" | "18782-3" => Self::Findings,
            "19005-8" | "55110-1" => Self::Impression,
            "18783-1" => Self::Recommendation,
            "11329-0" | "55752-0" => Self::History,
            "55115-0" | "18785-6" | "59768-2" => Self::Indication,
            "18834-2" => Self::Comparison,
            "55111-9" => Self::Technique,
            _ => return None,
        })
    }

    /// By the words of a short title: `Findings`, `Radiology impression`, `Indications for procedure`.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        const WORDS: &[(&str, Section)] = &[
            ("addend", Section::Addendum),
            ("impression", Section::Impression),
            ("conclusion", Section::Impression),
            ("finding", Section::Findings),
            ("résultat", Section::Findings),
            ("recommendation", Section::Recommendation),
            ("indication", Section::Indication),
            ("reason for", Section::Indication),
            ("history", Section::History),
            ("clinical information", Section::History),
            ("comparison", Section::Comparison),
            ("comparaison", Section::Comparison),
            ("technique", Section::Technique),
        ];
        if name.is_empty() {
            return None;
        }
        let name = name.to_lowercase();
        let found = WORDS.iter().find(|(word, _)| name.contains(word)).filter(|_| name.chars().count() <= 40);
        found.map(|(_, section)| *section)
    }

    fn heading(self) -> &'static str {
        match self {
            // Only where another section stood before it.
            Self::Narrative | Self::Findings => "FINDINGS:",
            Self::Impression => "IMPRESSION:",
            Self::Addendum => "ADDENDUM:",
            Self::Recommendation => "RECOMMENDATION:",
            Self::Technician => "TECHNICIAN'S NOTE:",
            Self::History => "CLINICAL HISTORY:",
            Self::Indication => "INDICATION:",
            Self::Comparison => "COMPARISON:",
            Self::Technique => "TECHNIQUE:",
        }
    }
}

/// A report's narrative, line by line, in order of appearance.
#[derive(Default)]
pub(super) struct Narrative {
    /// The lines, one after the other.
    text: String,
    /// The section of each line, and where it ends in `text`.
    ends: Vec<(Section, usize)>,
}

impl Narrative {
    /// Adds decoded text; an empty one is an empty line.
    pub(super) fn push(&mut self, section: Section, text: &str) {
        for line in text.split('\n') {
            self.text.push_str(&clean(line));
            self.ends.push((section, self.text.len()));
        }
    }

    fn lines(&self) -> impl Iterator<Item = (Section, &str)> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        let lines = starts.zip(&self.ends);
        lines.map(|(start, (section, end))| (*section, self.text.get(start..*end).unwrap_or_default()))
    }

    /// Whether there is anything to read. A technician's notes alone are nothing.
    pub(super) fn is_empty(&self) -> bool {
        !self.lines().any(|(section, line)| section != Section::Technician && !line.is_empty())
    }

    /// The whole text: the body in order, then the addenda; headings where only OBX-3 or a document's codes gave the section;
    /// hard-wrapped lines joined.
    pub(super) fn into_text(self) -> String {
        let body = self.lines().filter(|(section, _)| !matches!(section, Section::Technician | Section::Addendum));
        let addenda = self.lines().filter(|(section, _)| *section == Section::Addendum);
        let lines: Vec<(Section, &str)> = body.chain(addenda).collect();
        let mut out = String::with_capacity(self.text.len() + self.ends.len());
        let mut current = Section::Narrative;
        for run in lines.chunk_by(|a, b| a.0 == b.0) {
            let blank = run.iter().take_while(|(_, line)| line.is_empty()).count();
            let run = run.get(blank..).unwrap_or_default();
            let Some((section, first)) = run.first() else { continue };
            if *section != current && !starts_with_heading(first) {
                push_line(&mut out, section.heading());
            }
            current = *section;
            unwrap(run, &mut out);
        }
        out.truncate(out.trim_end().len());
        out
    }
}

/// Appends a line; of several empty ones in a row, one.
fn push_line(out: &mut String, line: &str) {
    if line.is_empty() && (out.is_empty() || out.ends_with("\n\n")) {
        return;
    }
    out.push_str(line);
    out.push('\n');
}

/// Control characters to spaces, NFC, no white space at the end.
fn clean(line: &str) -> Cow<'_, str> {
    if line.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t')) {
        return Cow::Borrowed(line.trim_end());
    }
    let unwanted = |c: char| c.is_control() && c != '\t';
    let mut text: String = line.chars().map(|c| if unwanted(c) { ' ' } else { c }).collect();
    if is_nfc_quick(text.chars()) != IsNormalized::Yes {
        text = text.nfc().collect();
    }
    text.truncate(text.trim_end().len());
    Cow::Owned(text)
}

/// Words that headings of reports are made of.
const HEADING_WORDS: &[&str] = &[
    "addenda",
    "addendum",
    "clinical",
    "comparison",
    "comparisons",
    "complications",
    "conclusion",
    "conclusions",
    "contrast",
    "details",
    "dictation",
    "exam",
    "examination",
    "final",
    "finding",
    "findings",
    "history",
    "impression",
    "impressions",
    "indication",
    "indications",
    "information",
    "interpretation",
    "narrative",
    "opinion",
    "preliminary",
    "procedure",
    "recommendation",
    "recommendations",
    "report",
    "result",
    "results",
    "summary",
    "technique",
];
const HEADING_FILLERS: &[&str] = &["and", "for", "of", "the", "reason", "study", "/", "&", "test", "type"];

/// Whether a line begins with the heading of a report's section: its words up to a colon, or its words alone.
fn starts_with_heading(line: &str) -> bool {
    let head = line.split(':').next().unwrap_or_default();
    let mut known = false;
    let all = head.split([' ', '\t', '*']).filter(|word| !word.is_empty()).all(|word| {
        let word = word.to_lowercase();
        known |= HEADING_WORDS.contains(&word.as_str());
        HEADING_WORDS.contains(&word.as_str()) || HEADING_FILLERS.contains(&word.as_str())
    });
    // Without a colon it must look like one: `IMPRESSION`, not `Findings` at the end of a wrapped sentence.
    let shaped = line.contains(':') || !head.chars().any(char::is_lowercase);
    known && shaped && (all || (line.contains(':') && head.len() <= 40 && !head.chars().any(char::is_lowercase)))
}

/// Appends lines, those joined that clearly go on in the next one; a list, a heading or a label is left alone.
fn unwrap(lines: &[(Section, &str)], out: &mut String) {
    let width = wrap_width(lines);
    let mut paragraph = out.len();
    let mut before = "";
    for (_, line) in lines {
        if continues(out.get(paragraph..).unwrap_or_default(), before, line, width) {
            out.pop();
            // `L4-` and `5`, `para-` and `central`, `C5/` and `6` are one word.
            let glued = before.ends_with(['-', '/']) && !before.ends_with(" -") && !before.ends_with(" /");
            if !glued {
                out.push(' ');
            }
            out.push_str(line.trim_start());
            out.push('\n');
        } else {
            paragraph = out.len();
            push_line(out, line);
        }
        before = line;
    }
}

/// The column that lines are wrapped at, where several end near it.
fn wrap_width(lines: &[(Section, &str)]) -> Option<usize> {
    let lengths = || lines.iter().map(|(_, line)| line.chars().count()).filter(|length| *length <= 132);
    let width = lengths().max().filter(|width| *width >= 50)?;
    (lengths().filter(|length| length + 14 >= width).count() >= 3).then_some(width)
}

/// Whether `next` goes on where `line` ends; `paragraph` is what `line` was joined to.
fn continues(paragraph: &str, line: &str, next: &str, width: Option<usize>) -> bool {
    let next = next.trim_start();
    let words = |line: &str| line.contains(char::is_alphanumeric);
    let (Some(end), Some(start)) = (line.trim_end().chars().next_back(), next.chars().next()) else { return false };
    let heading_alone = || starts_with_heading(line) && !line.contains(':');
    let ended = matches!(end, '.' | '!' | '?' | ':') || !words(line) || !words(next);
    if ended || is_item(next) || is_label(next) || starts_with_heading(next) || heading_alone() {
        return false;
    }
    let last_word = line.split_whitespace().next_back().unwrap_or_default();
    if matches!(end, ',' | '-' | '/' | '&' | '(') || CONNECTIVES.contains(&last_word.to_lowercase().as_str()) {
        return true;
    }
    let length = line.chars().count();
    let first_word = next.split_whitespace().next().unwrap_or_default().chars().count();
    // The next word would not have fitted: that is why the line ends here.
    let full = width.is_some_and(|width| length + 1 + first_word > width && length + 20 >= width);
    if is_level(next) || next.strip_prefix("At ").is_some_and(is_level) {
        // A sentence that names a level, or a list of levels: there a line is not several sentences long.
        let leads = is_level(paragraph) || paragraph.starts_with("At ");
        return full && !(leads && paragraph.len() < 400 && !paragraph.contains(". "));
    }
    full || (start.is_lowercase() && (length >= 40 || is_item(paragraph) || is_label(paragraph)))
}

/// Words that end no sentence.
const CONNECTIVES: &[&str] = &[
    "a", "an", "and", "are", "as", "at", "between", "by", "for", "from", "has", "in", "into", "is", "of", "on", "or",
    "the", "through", "to", "versus", "was", "were", "which", "with", "without",
];

/// `1. `, `2) `, `- `, `• `
fn is_item(line: &str) -> bool {
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    let after = |prefix: usize| line.get(prefix..).and_then(|rest| rest.chars().next()).is_none_or(char::is_whitespace);
    match line.as_bytes().get(digits) {
        Some(b'.' | b')') if (1..=2).contains(&digits) => after(digits + 1),
        Some(b'-' | b'*' | b'#' | b'>') if digits == 0 => after(1) || line.starts_with("**"),
        _ => line.starts_with(['•', '–', '·', '‣']),
    }
}

/// `L4-5:`, `Alignment: `
fn is_label(line: &str) -> bool {
    // Not further: the line may be a long paragraph.
    let Some(at) = line.bytes().take(41).position(|b| b == b':') else { return false };
    let Some((label, rest)) = line.split_at_checked(at) else { return false };
    let rest = rest.trim_start_matches(':');
    let first = label.chars().next();
    label.split_whitespace().count() <= 5
        && first.is_some_and(|c| c.is_uppercase() || c.is_ascii_digit() || is_level(label))
        && !label.contains(['.', ',', ';', '('])
        && rest.chars().next().is_none_or(char::is_whitespace)
}

/// Whether a line begins with a motion segment: `L4-5`, `c5/6`, `T12 - L1`; not with a vertebra or root alone.
fn is_level(line: &str) -> bool {
    let mut rest = line.bytes().skip_while(|b| b.is_ascii_whitespace()).peekable();
    let digits = |rest: &mut std::iter::Peekable<_>| {
        let mut found = false;
        while rest.next_if(u8::is_ascii_digit).is_some() {
            found = true;
        }
        found
    };
    let letter = |b: &u8| matches!(b.to_ascii_uppercase(), b'C' | b'T' | b'D' | b'L' | b'S');
    if rest.next_if(letter).is_none() || !digits(&mut rest) {
        return false;
    }
    let mut separated = false;
    while rest.next_if(|b| matches!(b, b' ' | b'-' | b'/')).is_some() {
        separated = true;
    }
    let _ = rest.next_if(letter);
    separated && digits(&mut rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(lines: &[(Section, &str)]) -> String {
        let mut narrative = Narrative::default();
        for (section, line) in lines {
            narrative.push(*section, line);
        }
        narrative.into_text()
    }

    fn plain(lines: &[&str]) -> String {
        text(&lines.iter().map(|line| (Section::Narrative, *line)).collect::<Vec<_>>())
    }

    #[test]
    fn sections_become_headings_unless_the_text_has_its_own() {
        use Section::*;
        assert_eq!(
            text(&[(History, "Pain."), (Narrative, "L4-5: bulge."), (Impression, "Bulge."), (Recommendation, "None.")]),
            "CLINICAL HISTORY:\nPain.\nFINDINGS:\nL4-5: bulge.\nIMPRESSION:\nBulge.\nRECOMMENDATION:\nNone."
        );
        assert_eq!(
            text(&[(Narrative, "EXAM: MRI"), (Impression, "IMPRESSION:"), (Impression, "Bulge.")]),
            "EXAM: MRI\nIMPRESSION:\nBulge."
        );
        assert_eq!(
            text(&[(Impression, "Bulge."), (Narrative, "CLINICAL HISTORY: pain")]),
            "IMPRESSION:\nBulge.\nCLINICAL HISTORY: pain"
        );
    }

    #[test]
    fn the_addendum_comes_last_and_notes_are_left_out() {
        use Section::*;
        assert_eq!(
            text(&[
                (Addendum, "It is L3-4."),
                (Technician, "Patient moved."),
                (Narrative, "Bulge at L4-5."),
                (Impression, "Bulge.")
            ]),
            "Bulge at L4-5.\nIMPRESSION:\nBulge.\nADDENDUM:\nIt is L3-4."
        );
        let mut notes = super::Narrative::default();
        notes.push(Technician, "Patient moved.");
        assert!(notes.is_empty());
    }

    #[test]
    fn hard_wrapped_lines_become_a_paragraph() {
        assert_eq!(
            plain(&[
                "At L4-5 there is a broad based disc bulge with moderate narrowing of",
                "the spinal canal. Both neural foramina are mildly narrowed. At L5-S1",
                "Modic changes are seen, with a small central protrusion that contacts",
                "S1 root on the left. The foraminal narrowing is most severe involving",
                "L3-4 on the right.",
                "",
                "The conus ends at L1.",
            ]),
            "At L4-5 there is a broad based disc bulge with moderate narrowing of the spinal canal. Both neural foramina are \
             mildly narrowed. At L5-S1 Modic changes are seen, with a small central protrusion that contacts S1 root on the left. \
             The foraminal narrowing is most severe involving L3-4 on the right.\n\nThe conus ends at L1."
        );
        assert_eq!(
            plain(&["L2-3: Mild bulge without canal", "narrowing.", "1. Protrusion at the left", "nerve root."]),
            "L2-3: Mild bulge without canal narrowing.\n1. Protrusion at the left nerve root."
        );
    }

    #[test]
    fn motion_segments_are_told_from_vertebrae() {
        for line in ["L4-5 bulge", "L4/L5", "c5-6", "T12 - L1: x", "L5 S1", "D12-L1"] {
            assert!(is_level(line), "{line}");
        }
        for line in ["S1 root", "L4", "L4 5", "Lumbar", "T2 signal", "C", ""] {
            assert_eq!(is_level(line), line == "L4 5", "{line}");
        }
    }

    #[test]
    fn a_word_broken_at_the_line_end_is_whole_again() {
        assert_eq!(plain(&["Broad protrusion at L4-", "5 with narrowing"]), "Broad protrusion at L4-5 with narrowing");
    }

    #[test]
    fn lists_headings_and_labels_stay_lines() {
        for lines in [
            &["1. Bulge at L4-5", "2. Protrusion at L5-S1"][..],
            &["L3-4 mild bulge", "L4-5 moderate protrusion with canal narrowing", "L5-S1 normal"],
            &[
                "L3-4 disc bulge with mild canal narrowing and no foraminal stenosis seen",
                "L4-5 broad based protrusion with moderate canal narrowing and mild facet",
                "L5-S1 small central protrusion without nerve root contact or canal issue",
            ],
            &["DISC BULGE AT L4-5", "----------------------", "Signed"],
            &["FINDINGS", "The alignment is normal"],
            &["Vertebrae: normal", "Discs: normal"],
            &["- bulge at L4-5, abutting the sac", "- normal elsewhere"],
        ] {
            assert_eq!(plain(lines), lines.join("\n"));
        }
    }

    #[test]
    fn text_is_tidy() {
        assert_eq!(plain(&["", "a\u{0}b\u{85}c\td  ", "", "", "e\u{301}", ""]), "a b c\td\n\né");
    }
}
