//! The phrases of the synthetic reports, read from `corpus/grammar/*.toml`, and how a phrase becomes text.
//!
//! A phrase is text with `{slots}` and `[one|of|these]`, both nested at will. A slot is filled by what the writer knows (levels,
//! sides, other phrases) or by the word list of that name; `@` in a list's name stands for the grade, `@2` for the second side's.
//! After ` => ` a phrase may state what else it says, `aspect=grade`.

use crate::labels::LabelSchema;
use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Why a grammar could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read the grammar file {path}: {source}")]
    Read {
        /// The file that was asked for.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not TOML of this form.
    #[error("the grammar file {file} is not valid: {source}")]
    Syntax {
        /// Name of the file.
        file: &'static str,
        /// What the parser said.
        source: toml::de::Error,
    },
    /// The grammar contradicts itself or the label schema.
    #[error("the grammar is not valid: {0}")]
    Invalid(String),
}

/// Slots that the writer fills, `a_` and `b_` standing before them in a sentence about two segments; others name word lists.
const OWN_SLOTS: [&str; 25] = [
    "lv",
    "some",
    "pos",
    "upper",
    "lower",
    "s",
    "es",
    "a",
    "is",
    "side",
    "side2",
    "exiting",
    "traversing",
    "region",
    "lead",
    "leadc",
    "leadt",
    "np",
    "ing",
    "clause",
    "tag",
    "neg",
    "calm",
    "sparing",
    "calmt",
];

/// The styles whose sentences the grammar must hold.
pub(super) const STYLES: [&str; 4] = ["prose", "level", "notes", "brief"];

/// What a phrase says of a segment: task and grade number, none being the grade that its family is used for.
pub(super) type Effects = Vec<(usize, Option<u8>)>;

/// Forms that a finding can be put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// "mild canal stenosis"
    Noun,
    /// "narrowing the canal", said of the disc
    Participle,
    /// "the canal is narrowed"
    Clause,
    /// "mod CCS"
    Tag,
    /// "mild", under a heading that names the structure
    Bare,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AspectFile {
    name: String,
    tasks: Vec<String>,
    #[serde(default)]
    lead: bool,
    headings: Vec<String>,
    deny: Vec<String>,
    #[serde(default)]
    regions: BTreeMap<String, f64>,
    family: Vec<FamilyFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FamilyFile {
    grades: Vec<String>,
    /// One side alone, both with one grade, or each with its own; left out where the aspect has no sides.
    side: Option<Side>,
    #[serde(default)]
    np: Vec<String>,
    #[serde(default)]
    ing: Vec<String>,
    #[serde(default)]
    clause: Vec<String>,
    #[serde(default)]
    tag: Vec<String>,
    #[serde(default)]
    bare: Vec<String>,
}

/// Which sides a phrase speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Side {
    One,
    Both,
    Two,
}

/// One question asked of a segment, with or without sides, and the ways to answer it.
#[derive(Debug)]
pub(super) struct Aspect {
    pub(super) name: String,
    /// One task, or the left and the right one.
    pub(super) tasks: Vec<usize>,
    pub(super) grades: Vec<String>,
    /// The finding that others are said to follow from.
    pub(super) lead: bool,
    pub(super) headings: Vec<String>,
    /// What stands after "no".
    pub(super) deny: Vec<String>,
    /// How likely it is in a region, 1 where nothing is said.
    pub(super) regions: BTreeMap<String, f64>,
    families: Vec<Family>,
}

#[derive(Debug)]
struct Family {
    grades: Vec<u8>,
    side: Option<Side>,
    forms: [Vec<Phrase>; 5],
}

/// A phrase and what it says beside its family's grade.
#[derive(Debug)]
pub(super) struct Phrase {
    pub(super) text: String,
    pub(super) extra: Effects,
}

/// Weights of each grade of each aspect in one kind of segment.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Profile {
    pub(super) weight: f64,
    pub(super) aspects: BTreeMap<String, Vec<f64>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Words {
    profile: Vec<Profile>,
    words: BTreeMap<String, Vec<String>>,
}

/// Sentences of one style of report.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Style {
    /// The first sentence about one or several segments; `{lv}` names them.
    pub(super) first: Vec<String>,
    /// Further sentences about the same segments, which they do not name again.
    pub(super) more: Vec<String>,
    /// The whole of a segment with nothing to report.
    pub(super) normal: Vec<String>,
    /// A sentence about two segments that differ.
    #[serde(default)]
    pub(super) pair: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sentences {
    style: BTreeMap<String, Style>,
    /// What is said of all segments of a `{region}` that were not named.
    group: Vec<String>,
}

/// How reports are typed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Typing {
    /// Words in which no letter is touched.
    pub(super) protect: Vec<String>,
    /// Spellings that stand for each other, a report keeping to one.
    pub(super) spelling: Vec<[String; 2]>,
    /// What hurried writers shorten.
    pub(super) short: Vec<[String; 2]>,
}

/// Everything the synthetic reports are made from.
#[derive(Debug)]
pub struct Grammar {
    pub(super) aspects: Vec<Aspect>,
    pub(super) profiles: Vec<Profile>,
    pub(super) styles: BTreeMap<String, Style>,
    pub(super) group: Vec<Phrase>,
    pub(super) typing: Typing,
    words: BTreeMap<String, Vec<String>>,
}

const ASPECTS: [(&str, &str); 7] = [
    ("disc.toml", include_str!("../../../corpus/grammar/disc.toml")),
    ("canal.toml", include_str!("../../../corpus/grammar/canal.toml")),
    ("foramen.toml", include_str!("../../../corpus/grammar/foramen.toml")),
    ("recess.toml", include_str!("../../../corpus/grammar/recess.toml")),
    ("sac.toml", include_str!("../../../corpus/grammar/sac.toml")),
    ("cord.toml", include_str!("../../../corpus/grammar/cord.toml")),
    ("root.toml", include_str!("../../../corpus/grammar/root.toml")),
];
const WORDS: (&str, &str) = ("words.toml", include_str!("../../../corpus/grammar/words.toml"));
const SENTENCES: (&str, &str) = ("sentences.toml", include_str!("../../../corpus/grammar/sentences.toml"));
const TYPING: (&str, &str) = ("typing.toml", include_str!("../../../corpus/grammar/typing.toml"));

impl Grammar {
    /// The grammar that foramen ships.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it speaks of a task or grade that the schema lacks.
    pub fn built_in(schema: &LabelSchema) -> Result<Self, Error> {
        Self::build(schema, |(_, text)| Ok(text.to_string()))
    }

    /// Reads a grammar from a folder that holds the same files as `corpus/grammar`.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Syntax`], and [`Error::Invalid`] as [`Grammar::built_in`] and for a slot that nothing fills.
    pub fn read(dir: &Path, schema: &LabelSchema) -> Result<Self, Error> {
        Self::build(schema, |(file, _)| {
            let path = dir.join(file);
            std::fs::read_to_string(&path).map_err(|source| Error::Read { path: path.display().to_string(), source })
        })
    }

    fn build(
        schema: &LabelSchema,
        text: impl Fn((&'static str, &'static str)) -> Result<String, Error>,
    ) -> Result<Self, Error> {
        let mut files = Vec::new();
        for entry in ASPECTS {
            files.push(parse::<AspectFile>(entry.0, &text(entry)?)?);
        }
        let words: Words = parse(WORDS.0, &text(WORDS)?)?;
        let sentences: Sentences = parse(SENTENCES.0, &text(SENTENCES)?)?;
        let typing = parse(TYPING.0, &text(TYPING)?)?;
        let compiler = Compiler::new(schema, &files, &words.words)?;
        let aspects = files.iter().map(|file| compiler.aspect(file)).collect::<Result<_, _>>()?;
        let group = sentences.group.iter().map(|text| compiler.phrase(text, &[])).collect::<Result<_, _>>()?;
        for style in sentences.style.values() {
            for list in [&style.first, &style.more, &style.normal, &style.pair] {
                list.iter().try_for_each(|text| compiler.check(text, &[]))?;
            }
            if let Some(text) = style.first.iter().chain(&style.normal).find(|text| !always_names(text)) {
                return Err(Error::Invalid(format!("{text:?} may name no segment")));
            }
        }
        for list in words.words.values() {
            // A word list may use the grade only through lists of its own, so its slots are checked without one.
            list.iter().filter(|text| !text.contains('@')).try_for_each(|text| compiler.check(text, &[]))?;
        }
        for (name, weights) in words.profile.iter().flat_map(|profile| &profile.aspects) {
            let aspect = compiler.aspects.get(name.as_str());
            if aspect.is_none_or(|(_, grades)| grades.len() != weights.len()) {
                return Err(Error::Invalid(format!("a profile's weights of {name:?} do not fit its grades")));
            }
        }
        for style in STYLES {
            if !sentences.style.contains_key(style) {
                return Err(Error::Invalid(format!("there is no style {style:?}")));
            }
        }
        Ok(Self { aspects, profiles: words.profile, styles: sentences.style, group, typing, words: words.words })
    }

    /// A way to say that an aspect has these grades (of the left and the right side, where it has sides).
    pub(super) fn phrase(&self, aspect: usize, grades: [u8; 2], form: Form, rng: &mut ChaCha8Rng) -> Option<&Phrase> {
        let aspect = &self.aspects[aspect];
        let side = match (aspect.tasks.len(), grades) {
            (1, _) => None,
            (_, [left, right]) if left == right => Some(Side::Both),
            (_, [0, _] | [_, 0]) => Some(Side::One),
            _ => Some(Side::Two),
        };
        let grade = grades[0].max(grades[1]);
        let families = aspect.families.iter().filter(|f| f.side == side);
        let families = families.filter(|f| side == Some(Side::Two) || f.grades.contains(&grade));
        let phrases: Vec<&Phrase> = families.flat_map(|family| &family.forms[form as usize]).collect();
        phrases.choose(rng).copied()
    }

    /// Makes text of a phrase: slots from `slots`, else from the word lists.
    pub(super) fn expand(&self, template: &str, slots: &Slots, rng: &mut ChaCha8Rng) -> String {
        let mut out = String::new();
        self.expand_into(template, slots, rng, &mut out);
        out
    }

    fn expand_into(&self, template: &str, slots: &Slots, rng: &mut ChaCha8Rng, out: &mut String) {
        let mut rest = template;
        while let Some(start) = rest.find(['{', '[']) {
            out.push_str(&rest[..start]);
            let Some(end) = closing(&rest[start..]) else { break };
            let (inner, next) = (&rest[start + 1..start + end], &rest[start + end + 1..]);
            if rest[start..].starts_with('[') {
                let options = alternatives(inner);
                if let Some(option) = options.choose(rng) {
                    self.expand_into(option, slots, rng, out);
                }
            } else if let Some(value) = slots.values.get(inner) {
                out.push_str(value);
            } else if let Some(option) = self.words.get(&slots.word_list(inner)).and_then(|list| list.choose(rng)) {
                self.expand_into(option, slots, rng, out);
            }
            rest = next;
        }
        out.push_str(rest);
    }
}

/// What the writer knows when it writes a phrase.
#[derive(Debug, Clone, Default)]
pub(super) struct Slots {
    pub(super) values: BTreeMap<&'static str, String>,
    /// Names of the grade, and of the second side's.
    pub(super) grades: [String; 2],
}

impl Slots {
    fn word_list(&self, name: &str) -> String {
        name.replace("@2", &self.grades[1]).replace('@', &self.grades[0])
    }
}

/// Byte position of the bracket that closes the one at the start.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

fn alternatives(inner: &str) -> Vec<&str> {
    let (mut depth, mut start, mut out) = (0, 0, Vec::new());
    for (at, c) in inner.char_indices() {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            '|' if depth == 0 => {
                out.push(&inner[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    out.push(&inner[start..]);
    out
}

fn parse<T: serde::de::DeserializeOwned>(file: &'static str, text: &str) -> Result<T, Error> {
    toml::from_str(text).map_err(|source| Error::Syntax { file, source })
}

/// Turns names into numbers, and refuses what does not fit.
struct Compiler<'a> {
    aspects: BTreeMap<&'a str, (Vec<usize>, Vec<String>)>,
    words: &'a BTreeMap<String, Vec<String>>,
}

impl<'a> Compiler<'a> {
    fn new(
        schema: &LabelSchema,
        files: &'a [AspectFile],
        words: &'a BTreeMap<String, Vec<String>>,
    ) -> Result<Self, Error> {
        let mut aspects = BTreeMap::new();
        for file in files {
            let unknown = || Error::Invalid(format!("{} has no such task as {:?}", schema.id(), file.tasks));
            let tasks = file.tasks.iter().map(|t| schema.task(t)).collect::<Option<Vec<_>>>().ok_or_else(unknown)?;
            let first = *tasks.first().filter(|_| tasks.len() <= 2).ok_or_else(unknown)?;
            aspects.insert(file.name.as_str(), (tasks, schema.tasks()[first].grades.clone()));
        }
        Ok(Self { aspects, words })
    }

    fn aspect(&self, file: &AspectFile) -> Result<Aspect, Error> {
        let (tasks, grades) = self.aspects[file.name.as_str()].clone();
        let mut families = Vec::new();
        for family in &file.family {
            if family.side.is_some() != (tasks.len() == 2) {
                return Err(Error::Invalid(format!(
                    "a family of {:?} has sides where it should not, or none",
                    file.name
                )));
            }
            let numbers = family.grades.iter().map(|name| self.grade(&file.name, name)).collect::<Result<_, _>>()?;
            let lists = [&family.np, &family.ing, &family.clause, &family.tag, &family.bare];
            let mut forms = [const { Vec::new() }; 5];
            for (form, list) in forms.iter_mut().zip(lists) {
                *form = list.iter().map(|text| self.phrase(text, &family.grades)).collect::<Result<_, _>>()?;
            }
            families.push(Family { grades: numbers, side: family.side, forms });
        }
        Ok(Aspect {
            name: file.name.clone(),
            tasks,
            grades,
            lead: file.lead,
            headings: file.headings.clone(),
            deny: file.deny.clone(),
            regions: file.regions.clone(),
            families,
        })
    }

    fn grade(&self, aspect: &str, grade: &str) -> Result<u8, Error> {
        let position = self.aspects.get(aspect).and_then(|(_, grades)| grades.iter().position(|name| name == grade));
        position.map(|p| p as u8).ok_or_else(|| Error::Invalid(format!("{aspect:?} has no grade {grade:?}")))
    }

    fn phrase(&self, text: &str, grades: &[String]) -> Result<Phrase, Error> {
        let (text, extra) = text.split_once(" => ").unwrap_or((text, ""));
        self.check(text, grades)?;
        let mut effects = Effects::new();
        for effect in extra.split_whitespace() {
            let wrong = || Error::Invalid(format!("{effect:?} is not aspect=grade"));
            let (target, grade) = effect.split_once('=').ok_or_else(wrong)?;
            let (aspect, side) = target.split_once('.').unwrap_or((target, ""));
            let tasks = &self.aspects.get(aspect).ok_or_else(wrong)?.0;
            let tasks = match (side, tasks.as_slice()) {
                ("", tasks) => tasks,
                ("left", [left, _]) => std::slice::from_ref(left),
                ("right", [_, right]) => std::slice::from_ref(right),
                _ => return Err(wrong()),
            };
            let grade = match grade {
                "@" => None,
                name => Some(self.grade(aspect, name)?),
            };
            effects.extend(tasks.iter().map(|&task| (task, grade)));
        }
        Ok(Phrase { text: text.to_string(), extra: effects })
    }

    /// Brackets close, and each slot is filled by something, whatever the grade.
    fn check(&self, text: &str, grades: &[String]) -> Result<(), Error> {
        let mut rest = text;
        while let Some(start) = rest.find(['{', '[']) {
            let open = || Error::Invalid(format!("a bracket stays open in {text:?}"));
            let end = closing(&rest[start..]).ok_or_else(open)?;
            let inner = &rest[start + 1..start + end];
            if rest[start..].starts_with('[') {
                alternatives(inner).into_iter().try_for_each(|option| self.check(option, grades))?;
            } else if !own_slot(inner) {
                let names: Vec<String> = match inner.contains('@') {
                    true => grades.iter().map(|grade| inner.replace("@2", grade).replace('@', grade)).collect(),
                    false => vec![inner.to_string()],
                };
                if let Some(name) = names.iter().find(|name| !self.words.contains_key(*name)) {
                    return Err(Error::Invalid(format!("nothing fills the slot {{{name}}} in {text:?}")));
                }
            }
            rest = &rest[start + end + 1..];
        }
        Ok(())
    }
}

/// Whether a sentence names its segments whichever of its alternatives are taken.
fn always_names(text: &str) -> bool {
    let mut rest = text;
    while let Some(start) = rest.find(['{', '[']) {
        let Some(end) = closing(&rest[start..]) else { return false };
        let inner = &rest[start + 1..start + end];
        let names = match rest[start..].starts_with('[') {
            true => alternatives(inner).into_iter().all(always_names),
            false => matches!(inner, "lv" | "upper"),
        };
        if names {
            return true;
        }
        rest = &rest[start + end + 1..];
    }
    false
}

fn own_slot(name: &str) -> bool {
    let name = name.strip_prefix("a_").or(name.strip_prefix("b_")).unwrap_or(name);
    OWN_SLOTS.contains(&name)
}

/// True with the given probability, whatever number is given.
pub(super) fn chance(rng: &mut ChaCha8Rng, probability: f64) -> bool {
    rng.random::<f64>() < probability
}

/// An index drawn by its weight; none when all weights are nothing.
pub(super) fn weighted(rng: &mut ChaCha8Rng, weights: &[f64]) -> Option<usize> {
    let total: f64 = weights.iter().sum();
    let mut at = rng.random::<f64>() * total;
    weights.iter().position(|weight| {
        at -= weight;
        at < 0.0
    })
}
