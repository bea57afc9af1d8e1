//! Group statements ("the remaining lumbar levels", "at any level") and the region that they speak of.

use super::level::{Levels, Region};
use regex::Regex;
use std::ops::Range;
use std::sync::LazyLock;

/// Words that speak of all segments of a region at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// Bytes of the sentence.
    pub(super) range: Range<usize>,
    /// Whether it leaves out what the report names otherwise ("other", "remaining", "rest").
    pub(super) remaining: bool,
    /// How many there are by its own words ("the other three levels").
    pub(super) count: Option<usize>,
    /// The regions that its own words name.
    pub(super) regions: Vec<Region>,
}

static GROUP: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?ix)\b(?:
        (?P<rest>
            (?:all\s+|any\s+|each\s+|every\s+|none\s+|no\s+)?(?:of\s+)?(?:the\s+)?
            (?: (?:rest|remainder)(?:\s+of)?(?:\s+the)? | (?:all\s+|any\s+)?(?:the\s+)?(?:other|remaining|remainig|remaning|remianing) )
        )
        | (?P<all> (?:all|any|each|every|none|every\s+one|each\s+one)(?:\s+of)?(?:\s+the)? )
        )
        \s+
        (?P<middle>(?:(?:cervical|thoracic|dorsal|lumbar|lumber|lumabr|lumbosacral|visuali[sz]ed|imaged|intervertebral|inter-vertebral|vertebral|spinal|examined|included|scanned|three|two|four|five|disc|disk|motion|remaining|c|t|l)[\s\-]+){0,3})
        (?P<noun>levels?|levles|dis[ck]s?|dis[ck]\s+spaces?|(?:motion\s+)?segments?|inter-?spaces?|inter-?vertebral\s+spaces?|spaces?)\b",
    )
    .expect("a fixed pattern")
});
static REGION: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?ix)(?P<c>\bcervical|\bc[\s.\-]{0,2}spine\b|\bcspine\b)|(?P<t>\bthoracic|\bdorsal|\b[td][\s.\-]{0,2}spine\b|\b[td]spine\b|\bdorso)|(?P<l>\blumb[ae]r|\blumbo|\blss\b|\bl[\s.\-]{0,2}s[\s.\-]{0,2}(?:spine|mri)\b|\bl[\s.\-]{0,2}spine\b|\bl/s\b|\blspine\b|\bls\s+spine\b)|(?P<w>\bwhole[\s\-]spine|\bentire\s+spine|\bfull\s+spine|\btotal\s+spine)",
    )
    .expect("a fixed pattern")
});
static FINDING: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)^s?\s*-?(?:herniat|protru|bulg|extru|prolaps|lesion|disease|patholog|abnormal|degenerat|desiccat|material|fragment|osteophyt|narrowing|displace)\w*")
        .expect("a fixed pattern")
});
static BULGE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?i)^\s+(?:bulge|protrude|herniate|prolapse)\b").expect("a fixed pattern"));
static ALL_AFTER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)\b((?:(?:the|intervertebral|cervical|thoracic|dorsal|lumbar)\s+)*(?:levels|dis[ck]s|segments|dis[ck] spaces))\s+(?:are|were|appear|look|remain)\s+all\b")
        .expect("a fixed pattern")
});
static REST: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?i)^((?:the |all )?(?:rest|others|remainder))\s*(?:[:\-\u{2013}=]|,|\b(?:is|are|appear|look|show|normal|unremarkable|preserved|maintained|intact|ok|wnl|neg|negative|patent|widely|of normal|within|well|clear|free)\b)",
    )
    .expect("a fixed pattern")
});
static ANAPHOR: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?ix)(?P<words>
        \b(?:both|either|neither)\s+(?:of\s+)?(?:(?:the|these|those)\s+)?(?:above\s+)?(?:levels?|dis[ck]s|segments|interspaces)\b
        | \b(?:(?:all|each|every\s+one|any|none)\s+(?:of\s+)?)?(?:these|those)\s+(?:(?:two|three|four|five)\s+)?(?:levels|dis[ck]s|segments|interspaces)\b
        | \b(?:all|each|every\s+one)\s+(?:of\s+)?(?:(?:the|these|those)\s+)?(?:two|three|four|five)\s+(?:of\s+(?:the|these|those)\s+)?(?:levels|dis[ck]s|segments|interspaces)\b
        | \b(?:each|all|both)\s+of\s+(?:the\s+above|these|those|them)\b
        )
        | \bat\s+(?P<both>both|each)\s*(?:[.,;]|$)
        | ^(?P<start>both)\s+(?:have|show|demonstrate)\b",
    )
    .expect("a fixed pattern")
});
static PICK: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?ix)(?P<named>\b(?:the\s+)?(?:former|latter)(?:\s+(?:level|disc|one)\b)?
            | \bthe\s+(?:first|second|third|last|uppermost|lowermost|lowest|highest|middle)\s+of\s+(?:these|them|the\s+(?:two|three|four))(?:\s+(?:levels|discs)\b)?
            | \bthe\s+(?:uppermost|lowermost|middle)\s+(?:one|level|disc|segment)\b)
        | \bat\s+(?P<order>the\s+(?:first|second|third|last|upper|lower|uppermost|lowermost|lowest|highest|middle)(?:\s+(?:level|one|of\s+the\s+two|of\s+these)\b)?)\s*(?:[,.;):]|$|\band\b|\bonly\b)
        | ^(?P<start>the\s+(?:first|second|third|last|upper|lower|uppermost|lowermost|lowest|highest|middle)(?:\s+(?:one|of\s+these|of\s+the\s+two))?)\s+
            (?:has|is|shows|with|also|only|merely|just|alone|does|touches|contacts|indents|compresses|flattens|narrows|reaches|abuts|causes|produces|extends|deforms|displaces|effaces)\b",
    )
    .expect("a fixed pattern")
});
/// What makes a region word the title of what follows rather than a passing one ("lumbar lordosis").
static TITLE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?i)\bmri?\b|\bspine\b|screening|\blss\b|:|region").expect("a fixed pattern"));

/// The group statements of a sentence.
pub(super) fn groups(sentence: &str) -> Vec<Group> {
    let mut out: Vec<Group> = GROUP
        .captures_iter(sentence)
        .filter_map(|found| {
            let all = found.get(0)?;
            let noun = found.name("noun")?.as_str().to_lowercase();
            let middle = found.name("middle").map_or("", |m| m.as_str()).to_lowercase();
            let remaining = found.name("rest").is_some();
            let count = ["two", "three", "four", "five"].iter().zip(2..).find(|(word, _)| middle.contains(**word));
            let spaces = noun.starts_with("space") && !middle.contains("vertebral") && !middle.contains("dis");
            // "no other disc herniation" and "any disc bulge" speak of the finding
            let after = sentence.get(all.end()..)?;
            // … but "the remaining discs bulge" of the discs.
            let finding =
                noun.starts_with("dis") && FINDING.is_match(after) && !(noun.ends_with('s') && BULGE.is_match(after));
            // "all three levels" are those being spoken of
            if finding || (count.is_some() && !remaining) || spaces {
                return None;
            }
            let count = count.map(|(_, count)| count);
            Some(Group { range: all.range(), remaining, count, regions: regions(all.as_str()) })
        })
        .collect();
    if out.is_empty() {
        out.extend(all_after(sentence));
    }
    out
}

/// "Discs are all normal": the statement of the word "all" after its noun.
fn all_after(sentence: &str) -> Option<Group> {
    let range = ALL_AFTER.captures(sentence)?.get(1)?.range();
    let regions = regions(sentence.get(range.clone())?);
    Some(Group { range, remaining: false, count: None, regions })
}

/// "Others normal", "the rest are preserved" at the start of a sentence: a group statement where discs are listed.
pub(super) fn rest(sentence: &str) -> Option<Range<usize>> {
    let found = REST.captures(sentence)?.get(1)?;
    Some(found.range())
}

/// Words that take up several levels named before ("both levels", "each of these levels") and how many, if they say so.
pub(super) fn anaphors(sentence: &str) -> Vec<(Range<usize>, Option<usize>)> {
    ANAPHOR
        .captures_iter(sentence)
        .filter_map(|found| {
            let words = found.name("words").or(found.name("both")).or(found.name("start"))?;
            let lower = words.as_str().to_lowercase();
            let count =
                [("both", 2), ("neither", 2), ("either", 2), ("two", 2), ("three", 3), ("four", 4), ("five", 5)];
            let count = count.iter().find(|(word, _)| lower.contains(word)).map(|(_, count)| *count);
            Some((words.range(), count))
        })
        .collect()
}

/// Which of two levels a word picks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pick {
    /// "the former": the one named first.
    First,
    Second,
    Third,
    /// "the latter", "the last": the one named last.
    Last,
    Middle,
    Upper,
    Lower,
    Uppermost,
    Lowermost,
}

/// Words that pick one of two levels named before ("the former", "at the lower of the two").
pub(super) fn picks(sentence: &str) -> Vec<(Range<usize>, Pick)> {
    PICK.captures_iter(sentence)
        .filter_map(|found| {
            let words = found.name("named").or(found.name("order")).or(found.name("start"))?;
            let lower = words.as_str().to_lowercase();
            let pick = [
                ("former", Pick::First),
                ("first", Pick::First),
                ("second", Pick::Second),
                ("third", Pick::Third),
                ("middle", Pick::Middle),
                ("uppermost", Pick::Uppermost),
                ("highest", Pick::Uppermost),
                ("lowermost", Pick::Lowermost),
                ("lowest", Pick::Lowermost),
                ("upper", Pick::Upper),
                ("lower", Pick::Lower),
            ];
            let pick = pick.iter().find(|(word, _)| lower.contains(word)).map_or(Pick::Last, |(_, pick)| *pick);
            Some((words.range(), pick))
        })
        .collect()
}

/// The regions that a text names, top to bottom.
pub(super) fn regions(text: &str) -> Vec<Region> {
    let mut out = Vec::new();
    for found in REGION.captures_iter(text) {
        if found.name("w").is_some() {
            return vec![Region::Cervical, Region::Thoracic, Region::Lumbar];
        }
        let region = if found.name("c").is_some() {
            Region::Cervical
        } else if found.name("t").is_some() {
            Region::Thoracic
        } else {
            Region::Lumbar
        };
        if !out.contains(&region) {
            out.push(region);
        }
    }
    out.sort();
    out
}

/// The titles in a report that say which region is examined, by position.
pub(super) fn titles(text: &str) -> Vec<(usize, Vec<Region>)> {
    let mut out = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let end = line.find(':').map_or(line.len(), |colon| colon + 1);
        let head = line.get(..end).unwrap_or(line);
        let head = head.split_once(". ").map_or(head, |(first, _)| first);
        let regions = regions(head);
        if !regions.is_empty() && head.len() < 100 && (TITLE.is_match(head) || head.split_whitespace().count() <= 3) {
            out.push((at, regions));
        }
        at += line.len();
    }
    out
}

/// The region's segments that a group statement means, given what the report names.
///
/// `None` where their count shows that it speaks of others ("the other two levels just mentioned").
pub(super) fn members(group: &Group, regions: &[Region], named: Levels) -> Option<Levels> {
    let six = named.has_sixth_lumbar();
    let all = regions.iter().fold(Levels::NONE, |set, region| set.union(Levels::of(*region, six)));
    let meant = if group.remaining { all.without(named) } else { all };
    group.count.is_none_or(|count| count == meant.len()).then_some(meant)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(sentence: &str) -> Option<bool> {
        groups(sentence).first().map(|group| group.remaining)
    }

    #[test]
    fn group_statements() {
        for sentence in [
            "The remaining lumbar levels are normal",
            "All other discs are intact",
            "Rest of the lumbar discs: preserved",
            "No other lumbar level is involved",
            "nothing at the other levels",
            "each of the remaining discs is normal",
            "ALL OTHER LEVELS OK",
            "Other lumbar disc spaces: nothing abnormal",
            "at any of the other levels",
            "remainder of lumbar discs",
            "The remaining lumbar discs bulge slightly",
            "The remianing lumbar levles are normal",
        ] {
            assert_eq!(read(sentence), Some(true), "{sentence}");
        }
        for sentence in [
            "at all levels",
            "no disc herniation at any level",
            "every lumbar disc is dehydrated",
            "at each level",
            "none of the levels",
            "Thoracic discs are all normal",
            "all of the visualized discs",
            "all cervical discs bulge",
        ] {
            assert_eq!(read(sentence), Some(false), "{sentence}");
        }
    }

    #[test]
    fn what_is_no_group_statement() {
        for sentence in [
            "Discs are unremarkable",
            "intervertebral discs: normal height",
            "multilevel disc bulges",
            "the lower levels",
            "mild bulges elsewhere",
            "no other disc herniation",
            "any disc bulge",
            "both levels",
            "these levels",
            "at all four levels",
            "no disc herniation seen",
            "all foramina are patent",
            "at all operated levels",
            "no residual disc material",
        ] {
            assert_eq!(read(sentence), None, "{sentence}");
        }
    }

    #[test]
    fn regions_of_titles() {
        use Region::{Cervical, Lumbar, Thoracic};
        assert_eq!(regions("MRI OF THE CERVICAL AND DORSAL SPINE"), [Cervical, Thoracic]);
        assert_eq!(regions("LSS MRI"), [Lumbar]);
        assert_eq!(regions("C-spine"), [Cervical]);
        assert_eq!(regions("MRI whole spine"), [Cervical, Thoracic, Lumbar]);
        assert_eq!(
            titles("MRI lumbar spine\nMild loss of the lumbar lordosis is seen in this long line of text.\n").len(),
            1
        );
    }
}
