//! Vertebrae, motion segments and sets of them.

use std::fmt;
use std::str::FromStr;

/// A part of the spine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Region {
    /// `C2-C3` to `C7-T1`.
    Cervical,
    /// `T1-T2` to `T12-L1`.
    Thoracic,
    /// `L1-L2` to `L5-S1`, and the transitional `L5-L6` and `L6-S1`.
    Lumbar,
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cervical => "cervical",
            Self::Thoracic => "thoracic",
            Self::Lumbar => "lumbar",
        })
    }
}

/// The motion segments, top to bottom; a [`Level`] is an index into this table.
const NAMES: [&str; 25] = [
    "C2-C3", "C3-C4", "C4-C5", "C5-C6", "C6-C7", "C7-T1", "T1-T2", "T2-T3", "T3-T4", "T4-T5", "T5-T6", "T6-T7",
    "T7-T8", "T8-T9", "T9-T10", "T10-T11", "T11-T12", "T12-L1", "L1-L2", "L2-L3", "L3-L4", "L4-L5", "L5-L6", "L5-S1",
    "L6-S1",
];
const FIRST_THORACIC: u8 = 6;
const FIRST_LUMBAR: u8 = 18;
const L4_L5: u8 = 21;
const L5_L6: u8 = 22;
const L5_S1: u8 = 23;
const L6_S1: u8 = 24;

/// A motion segment: two neighbouring vertebrae and the disc between them. Ordered from top to bottom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(u8);

impl Level {
    /// The part of the spine that the segment is counted to: that of its upper vertebra.
    pub fn region(self) -> Region {
        match self.0 {
            ..FIRST_THORACIC => Region::Cervical,
            FIRST_THORACIC..FIRST_LUMBAR => Region::Thoracic,
            _ => Region::Lumbar,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES.get(usize::from(self.0)).copied().unwrap_or_default())
    }
}

/// The text is not a level's written-out form, such as `L4-L5`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a motion segment; expected a form such as L4-L5")]
pub struct UnknownLevel;

impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Self, UnknownLevel> {
        NAMES.iter().zip(0..).find(|(name, _)| **name == text).map(|(_, index)| Self(index)).ok_or(UnknownLevel)
    }
}

/// A vertebra, counted from C1 = 0 downwards: C1 to C7, T1 to T12, L1 to L6, S1 and S2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Vertebra(u8);

const L5: u8 = 23;
const L6: u8 = 24;
const S1: u8 = 25;

impl Vertebra {
    pub(super) const T1: Self = Self(7);
    pub(super) const T2: Self = Self(8);

    /// The vertebra of that letter (`C`, `T`, `D`, `L`, `S`) and number, if there is one.
    pub(super) fn new(letter: char, number: u8) -> Option<Self> {
        let (before, count) = match letter {
            'C' => (0, 7),
            'T' | 'D' => (7, 12),
            'L' => (19, 6),
            'S' => (25, 2),
            _ => return None,
        };
        (1..=count).contains(&number).then(|| Self(before + number - 1))
    }

    /// The vertebra that a bare `number` means after this one: "L4-5", "L5-1", "T12-1", "C7-1".
    pub(super) fn inherit(self, number: u8) -> Option<Self> {
        let letter = match (self.0, number) {
            (L5 | L6, 1) => 'S',
            (18, 1) => 'L',
            (6, 1) => 'T',
            _ => self.letter(),
        };
        Self::new(letter, number)
    }

    pub(super) fn letter(self) -> char {
        match self.0 {
            ..7 => 'C',
            7..19 => 'T',
            19..S1 => 'L',
            _ => 'S',
        }
    }

    /// Whether `below` is the next vertebra down; L5 stands on S1 or on L6.
    pub(super) fn is_above(self, below: Self) -> bool {
        below.0 == self.0 + 1 || (self.0 == L5 && below.0 == S1)
    }
}

/// A set of motion segments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Levels(u32);

impl Levels {
    pub(super) const NONE: Self = Self(0);

    /// Every segment between two vertebrae, in either order. Pairs with no disc of interest (C1-C2, S1-S2) are left out.
    pub(super) fn between(a: Vertebra, b: Vertebra) -> Self {
        let (top, bottom) = (a.0.min(b.0), a.0.max(b.0));
        let six = top == L6 || bottom == L6;
        let mut set = Self::NONE;
        for upper in top..bottom {
            match upper {
                1..L5 => set.0 |= 1 << (upper - 1),
                L5 if six => set.0 |= 1 << L5_L6,
                L5 => set.0 |= 1 << L5_S1,
                L6 if six && bottom >= S1 => set.0 |= 1 << L6_S1,
                _ => {}
            }
        }
        set
    }

    /// The segments of a region; with a sixth lumbar vertebra L5 stands on L6.
    pub(super) fn of(region: Region, six: bool) -> Self {
        Self(match region {
            Region::Cervical => (1 << FIRST_THORACIC) - 1,
            Region::Thoracic => (1 << FIRST_LUMBAR) - (1 << FIRST_THORACIC),
            Region::Lumbar if six => ((1 << NAMES.len()) - (1 << FIRST_LUMBAR)) & !(1 << L5_S1),
            Region::Lumbar => ((1 << (L4_L5 + 1)) - (1 << FIRST_LUMBAR)) | (1 << L5_S1),
        })
    }

    /// These and all segments of their region above (`up`) or below them.
    pub(super) fn extended(self, up: bool) -> Self {
        let Some(end) = (if up { self.iter().last() } else { self.iter().next() }) else { return self };
        let region = Self::of(end.region(), self.has_sixth_lumbar());
        let beyond = region.iter().filter(|level| if up { *level <= end } else { *level >= end });
        self.union(beyond.collect())
    }

    /// Whether a segment next to a sixth lumbar vertebra is among them.
    pub(super) fn has_sixth_lumbar(self) -> bool {
        self.0 & ((1 << L5_L6) | (1 << L6_S1)) != 0
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    pub(super) fn contains(self, level: Level) -> bool {
        self.0 >> level.0 & 1 == 1
    }

    /// Whether the two have a segment in common.
    pub(super) fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Top to bottom.
    pub(super) fn iter(self) -> impl Iterator<Item = Level> {
        (0..NAMES.len() as u8).map(Level).filter(move |level| self.contains(*level))
    }
}

impl FromIterator<Level> for Levels {
    fn from_iter<I: IntoIterator<Item = Level>>(levels: I) -> Self {
        Self(levels.into_iter().fold(0, |set, level| set | 1 << level.0))
    }
}
