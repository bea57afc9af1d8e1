//! A planned report put into words, its findings collected from the statements made.

use super::grammar::{Effects, Form, Grammar, Phrase, Slots, chance, weighted};
use super::level::{Level, REGIONS, Spelling};
use super::noise::Habits;
use super::plan::{self, Group, Item};
use crate::labels::LabelSchema;
use crate::train::data::Report;
use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

/// The ways a report is laid out, with their weights.
const LAYOUTS: [(Layout, f64); 6] = [
    (Layout::Sentences("prose"), 0.25),
    (Layout::Sentences("level"), 0.24),
    (Layout::Sentences("notes"), 0.22),
    (Layout::Sentences("brief"), 0.1),
    (Layout::Structures, 0.14),
    (Layout::Table, 0.05),
];

/// Starts of sentences whose segments are a heading to what follows.
const HEADS: [&str; 6] = ["{lv}:", "{lv} :", "{lv}.", "{lv} -", "{lv}\n", "{lv} level{s}"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Sentence after sentence in one of the grammar's styles.
    Sentences(&'static str),
    /// "Discs: … Canal: …"
    Structures,
    /// A line a segment, each structure named.
    Table,
}

/// Writes one report.
pub(super) fn report(grammar: &Grammar, schema: &LabelSchema, id: String, mut rng: ChaCha8Rng) -> Report {
    let weights = LAYOUTS.map(|(_, weight)| weight);
    let layout = LAYOUTS[weighted(&mut rng, &weights).unwrap_or(0)].0;
    let terse = matches!(layout, Layout::Sentences("notes" | "brief"));
    let running = matches!(layout, Layout::Sentences("prose" | "level"));
    let habits = Habits::draw(&grammar.typing, terse, running, &mut rng);
    let region = weighted(&mut rng, &[0.36, 0.14, 0.5]).unwrap_or(2);
    let spelling = Spelling::draw(chance(&mut rng, 0.3), &mut rng);
    let mut writer =
        Writer { grammar, spelling, rng, rows: BTreeMap::new(), tasks: schema.tasks().len(), under_heading: false };
    let text = writer.whole(layout, region, terse);
    let text = habits.apply(&tidy(&text), &grammar.typing, &mut writer.rng);
    let named = |grades: &Vec<u8>| {
        let tasks = schema.tasks().iter().zip(grades).filter(|(_, grade)| **grade > 0);
        tasks.map(|(task, grade)| (task.name.clone(), task.grades[*grade as usize].clone())).collect()
    };
    let findings = writer.rows.iter().map(|(level, grades)| (level.name(), named(grades))).collect();
    Report { id, text, findings }
}

struct Writer<'a> {
    grammar: &'a Grammar,
    spelling: Spelling,
    rng: ChaCha8Rng,
    /// Worst grade of each task so far, by segment named.
    rows: BTreeMap<Level, Vec<u8>>,
    tasks: usize,
    /// A segment's name has stood as a heading: a sentence with none would be read as that segment's.
    under_heading: bool,
}

impl Writer<'_> {
    fn whole(&mut self, layout: Layout, region: usize, terse: bool) -> String {
        let mut parts = Vec::new();
        let titled = chance(&mut self.rng, if terse { 0.75 } else { 0.9 });
        let second = if chance(&mut self.rng, 0.07) { Some((region + 2) % 3) } else { None };
        if titled && second.is_none() {
            parts.push(self.words(&format!("title-{}", REGIONS[region].0)));
        }
        let headed = chance(&mut self.rng, if terse { 0.12 } else { 0.55 });
        if headed {
            for part in ["history", "technique", "comparison"] {
                if chance(&mut self.rng, 0.6) {
                    // A segment that only the history names has no row.
                    let level = self.any_level(region);
                    let slots = Slots { values: [("lv", level)].into(), ..Slots::default() };
                    parts.push(self.grammar.expand(&format!("{{{part}}}"), &slots, &mut self.rng));
                }
            }
            parts.push(self.words("findings"));
        }
        let mut found = Vec::new();
        for region in [Some(region), second].into_iter().flatten() {
            if second.is_some() {
                parts.push(self.words(&format!("section-{}", REGIONS[region].0)));
            }
            let groups = plan::groups(self.grammar, region, terse && chance(&mut self.rng, 0.7), &mut self.rng);
            let names_region = second.is_some() || !titled;
            parts.push(self.body(layout, region, groups.clone(), names_region, found.is_empty()));
            found.extend(groups.into_iter().filter(|group| !group.is_normal()));
        }
        if !terse && chance(&mut self.rng, 0.45) || chance(&mut self.rng, 0.05) {
            parts.push(self.words("impression"));
            parts.push(self.impression(found));
        }
        let gap = if chance(&mut self.rng, 0.5) && !terse { "\n\n" } else { "\n" };
        parts.join(gap)
    }

    /// The findings of one region.
    fn body(&mut self, layout: Layout, region: usize, groups: Vec<Group>, names_region: bool, first: bool) -> String {
        let mut lines = Vec::new();
        self.under_heading = false;
        let terse = matches!(layout, Layout::Sentences("notes" | "brief"));
        for _ in 0..self.rng.random_range(0..if terse { 3 } else { 4 }) {
            // Only before the first segment is a finding without one nobody's.
            let list = if first && chance(&mut self.rng, 0.2) { "intro" } else { "general" };
            lines.push(self.words(list));
        }
        let separate = match layout {
            Layout::Sentences(style) => {
                self.sentences(style, groups, &mut lines);
                !matches!(style, "prose") || chance(&mut self.rng, 0.3)
            }
            Layout::Structures => {
                self.structures(&groups, &mut lines);
                true
            }
            Layout::Table => {
                self.table(&groups, &mut lines);
                true
            }
        };
        if chance(&mut self.rng, if terse { 0.12 } else { 0.3 }) {
            lines.extend(self.rest(region, names_region));
        }
        if chance(&mut self.rng, 0.4) {
            lines.push(self.words("general"));
        }
        lines.join(if separate { "\n" } else { " " })
    }

    fn sentences(&mut self, style: &str, mut groups: Vec<Group>, lines: &mut Vec<String>) {
        if matches!(style, "notes" | "prose") && chance(&mut self.rng, 0.4) {
            groups.shuffle(&mut self.rng);
        } else if chance(&mut self.rng, 0.2) {
            groups.reverse();
        }
        let mut rest = groups.into_iter().peekable();
        while let Some(mut group) = rest.next() {
            if matches!(style, "prose" | "level") && chance(&mut self.rng, 0.35) {
                let single = |g: &Group| g.levels.len() == 1 && !g.is_normal();
                if let Some(mut next) = rest.next_if(|next| single(next) && single(&group)) {
                    let together = self.pair(style, &mut group, &mut next);
                    lines.extend(together);
                    lines.extend(self.about(style, next));
                }
            }
            lines.extend(self.about(style, group));
        }
    }

    /// All that is to be said of a group, or of what is left of it.
    fn about(&mut self, style: &str, mut group: Group) -> Option<String> {
        let grammar = self.grammar;
        let style = grammar.styles.get(style)?;
        if group.is_normal() {
            if self.rows.contains_key(group.levels.first()?) {
                return None;
            }
            group.denied.clear();
            return self.sentence(&style.normal, &mut group);
        }
        let mut said = vec![self.sentence(&style.first, &mut group)?];
        for _ in 0..4 {
            // Some findings stay unsaid: then they are nobody's findings.
            if (group.found.is_empty() && group.denied.is_empty()) || chance(&mut self.rng, 0.1) {
                break;
            }
            if group.found.is_empty() && chance(&mut self.rng, 0.5) {
                break;
            }
            said.extend(self.sentence(&style.more, &mut group));
            if chance(&mut self.rng, 0.12) {
                said.push(self.words("aside_s"));
            }
        }
        let short = said.iter().all(|sentence| sentence.len() < 60);
        let gap = if short && chance(&mut self.rng, 0.1) { "\n" } else { " " };
        Some(said.join(gap))
    }

    /// One sentence out of those whose slots can be filled.
    fn sentence(&mut self, templates: &[String], group: &mut Group) -> Option<String> {
        let led = group.lead.is_some() && chance(&mut self.rng, 0.95);
        let heading = |t: &str| HEADS.iter().any(|head| t.starts_with(head));
        let inline = |t: &str| t.contains("{lv}") && !heading(t);
        let fitting = templates.iter().filter(|t| fits(t, "", group) && !(self.under_heading && inline(t)));
        let fitting: Vec<&String> = fitting.collect();
        let leading: Vec<&String> = fitting.iter().copied().filter(|t| led && t.contains("{lead")).collect();
        let template = *leading.choose(&mut self.rng).or(fitting.choose(&mut self.rng))?;
        self.under_heading |= heading(template);
        let template = self.fill(template, "", group);
        let slots = self.level_slots("", group);
        let text = self.grammar.expand(&template, &slots, &mut self.rng);
        group.lead = None;
        Some(capital(&text))
    }

    fn pair(&mut self, style: &str, a: &mut Group, b: &mut Group) -> Option<String> {
        let grammar = self.grammar;
        let templates = grammar.styles.get(style)?.pair.iter().filter(|t| fits(t, "a_", a) && fits(t, "b_", b));
        let template = templates.collect::<Vec<_>>().choose(&mut self.rng).copied()?;
        let used = |prefix: &str| template.contains(&format!("{{{prefix}lead"));
        let (a_led, b_led) = (used("a_"), used("b_"));
        let filled = self.fill(template, "a_", a);
        let filled = self.fill(&filled, "b_", b);
        let mut slots = self.level_slots("a_", a);
        slots.values.extend(self.level_slots("b_", b).values);
        let (a_pos, b_pos) = if a.levels < b.levels { ("upper", "lower") } else { ("lower", "upper") };
        slots.values.extend([("a_pos", a_pos.to_string()), ("b_pos", b_pos.to_string())]);
        let text = self.grammar.expand(&filled, &slots, &mut self.rng);
        for (group, led) in [(a, a_led), (b, b_led)] {
            if led {
                group.lead = None;
            }
        }
        Some(capital(&text))
    }

    /// Fills the slots that say something, and books what they say.
    fn fill(&mut self, template: &str, prefix: &str, group: &mut Group) -> String {
        for level in &group.levels {
            self.rows.entry(*level).or_insert_with(|| vec![0; self.tasks]);
        }
        let mut text = template.to_string();
        for (slot, form) in [("lead", Form::Noun), ("leadc", Form::Clause), ("leadt", Form::Tag)] {
            let slot = format!("{{{prefix}{slot}}}");
            if let Some(item) = group.lead.filter(|_| text.contains(&slot)) {
                text = text.replace(&slot, &self.say(item, form, &group.levels));
            }
        }
        let forms = [("np", Form::Noun), ("ing", Form::Participle), ("clause", Form::Clause), ("tag", Form::Tag)];
        for (slot, form) in forms {
            let slot = format!("{{{prefix}{slot}}}");
            while text.contains(&slot) {
                let spare = group.found.len().saturating_sub(text.matches(&slot).count());
                let count = 1 + self.rng.random_range(0..=spare.min(2));
                let items: Vec<Item> = group.found.drain(..count.min(group.found.len())).collect();
                let said: Vec<String> = items.iter().map(|item| self.say(*item, form, &group.levels)).collect();
                text = text.replacen(&slot, &self.join(&said, form), 1);
            }
        }
        let slot = format!("{{{prefix}neg}}");
        if text.contains(&slot) {
            let spare = group.denied.len().saturating_sub(1).min(2);
            let count = 1 + self.rng.random_range(0..=spare);
            let denied: Vec<usize> = group.denied.drain(..count.min(group.denied.len())).collect();
            let words: Vec<&str> = denied
                .iter()
                .filter_map(|a| self.grammar.aspects[*a].deny.choose(&mut self.rng).map(String::as_str))
                .collect();
            let text_of = match words.as_slice() {
                [before @ .., last] if !before.is_empty() => format!("{} or {last}", before.join(", ")),
                words => words.concat(),
            };
            text = text.replace(&slot, &text_of);
        }
        for (slot, form) in [("calm", Form::Clause), ("sparing", Form::Participle), ("calmt", Form::Tag)] {
            let slot = format!("{{{prefix}{slot}}}");
            if let Some(aspect) = group.denied.pop_if(|_| text.contains(&slot)) {
                text = text.replace(&slot, &self.say(Item { aspect, grades: [0, 0] }, form, &group.levels));
            }
        }
        text
    }

    /// Puts one finding into words, and books it for the segments.
    fn say(&mut self, item: Item, form: Form, levels: &[Level]) -> String {
        let grammar = self.grammar;
        let aspect = &grammar.aspects[item.aspect];
        let (phrase, lead_in) = match grammar.phrase(item.aspect, item.grades, form, &mut self.rng) {
            Some(phrase) => (Some(phrase), ""),
            None => (grammar.phrase(item.aspect, item.grades, Form::Noun, &mut self.rng), "with "),
        };
        let Some(Phrase { text, extra }) = phrase else { return String::new() };
        let [left, right] = item.grades;
        let left_first = match (left, right) {
            (_, 0) => true,
            (0, _) => false,
            _ => chance(&mut self.rng, 0.5),
        };
        let name = |grade: u8| aspect.grades.get(grade as usize).cloned().unwrap_or_default();
        let mut slots =
            self.level_slots("", &Group { levels: levels.to_vec(), lead: None, found: vec![], denied: vec![] });
        let (sides, grades) =
            if left_first { (["left", "right"], [left, right]) } else { (["right", "left"], [right, left]) };
        slots.grades = grades.map(name);
        slots.values.extend([("side", sides[0].to_string()), ("side2", sides[1].to_string())]);
        let said = grammar.expand(text, &slots, &mut self.rng);
        let own: Effects = match aspect.tasks.as_slice() {
            [left_task, right_task] => vec![(*left_task, Some(left)), (*right_task, Some(right))],
            tasks => tasks.iter().map(|task| (*task, Some(left))).collect(),
        };
        self.book(levels, own.iter().chain(extra), left.max(right));
        format!("{lead_in}{said}")
    }

    /// Worst grade of each task, over all that is said of a segment.
    fn book<'e>(&mut self, levels: &[Level], effects: impl Iterator<Item = &'e (usize, Option<u8>)>, grade: u8) {
        let effects: Vec<(usize, u8)> = effects.map(|(task, own)| (*task, own.unwrap_or(grade))).collect();
        for level in levels {
            let row = self.rows.entry(*level).or_insert_with(|| vec![0; self.tasks]);
            for (task, grade) in &effects {
                row[*task] = row[*task].max(*grade);
            }
        }
    }

    fn join(&mut self, said: &[String], form: Form) -> String {
        let last = match form {
            Form::Clause => [", and ", "; ", " and ", "; "],
            Form::Tag | Form::Bare => [", ", "; ", " ", ", "],
            Form::Noun | Form::Participle => [" and ", ", ", " and ", ", as well as "],
        };
        let last = last.choose(&mut self.rng).copied().unwrap_or(", ");
        match said {
            [before @ .., end] if !before.is_empty() => format!("{}{last}{end}", before.join(", ")),
            said => said.concat(),
        }
    }

    /// "The remaining lumbar levels are normal": rows for every segment of the region that has none.
    fn rest(&mut self, region: usize, names_region: bool) -> Option<String> {
        let grammar = self.grammar;
        let levels: Vec<Level> = Level::all(region).filter(|level| !self.rows.contains_key(level)).collect();
        let Phrase { text, extra } = grammar.group.choose(&mut self.rng).filter(|_| !levels.is_empty())?;
        let name = match names_region || chance(&mut self.rng, 0.6) {
            true => grammar.expand(&format!("{{region-{}}}", REGIONS[region].0), &Slots::default(), &mut self.rng),
            false => String::new(),
        };
        self.book(&levels, extra.iter(), 0);
        let slots = Slots { values: [("region", name)].into(), ..Slots::default() };
        Some(capital(&grammar.expand(text, &slots, &mut self.rng)))
    }

    /// "Discs: … Canal: …", each with the segments it speaks of.
    fn structures(&mut self, groups: &[Group], lines: &mut Vec<String>) {
        let grammar = self.grammar;
        let mut order: Vec<usize> = (0..grammar.aspects.len()).collect();
        order[1..].shuffle(&mut self.rng);
        let own_line = chance(&mut self.rng, 0.3);
        let upper = chance(&mut self.rng, 0.2);
        for aspect in order {
            let mut values: Vec<([u8; 2], Vec<Level>)> = Vec::new();
            for group in groups {
                let grades = group.grades(aspect);
                match values.iter_mut().find(|(value, _)| *value == grades) {
                    Some((_, levels)) => levels.extend(&group.levels),
                    None => values.push((grades, group.levels.clone())),
                }
            }
            let none = values.iter().position(|(grades, _)| *grades == [0, 0]).map(|at| values.remove(at).1);
            let always = grammar.aspects[aspect].lead;
            if values.is_empty() && !always && !chance(&mut self.rng, 0.35) {
                continue;
            }
            let Some(heading) = grammar.aspects[aspect].headings.choose(&mut self.rng) else { continue };
            let heading = if upper { heading.to_uppercase() } else { heading.clone() };
            values.shuffle(&mut self.rng);
            let said = self.structure(aspect, values, none, own_line);
            lines.push(format!("{heading}:{}{said}", if own_line { "\n" } else { " " }));
        }
    }

    fn structure(
        &mut self,
        aspect: usize,
        values: Vec<([u8; 2], Vec<Level>)>,
        none: Option<Vec<Level>>,
        own_line: bool,
    ) -> String {
        // A bare grade is read by its heading, so it stays within the heading's sentence.
        let bare = !own_line && chance(&mut self.rng, 0.6);
        let after = chance(&mut self.rng, 0.6);
        let at = if bare && chance(&mut self.rng, 0.3) { " " } else { " at " };
        let mut said = Vec::new();
        let empty = values.is_empty();
        if let ([(_, one), (_, two)], true) = (values.as_slice(), bare && chance(&mut self.rng, 0.3))
            && let ([first], [second]) = (one.as_slice(), two.as_slice())
        {
            let names = self.spelling.list(&[*first, *second], &mut self.rng);
            let say = |(grades, levels): &([u8; 2], Vec<Level>)| {
                self.say(Item { aspect, grades: *grades }, Form::Bare, levels)
            };
            let texts: Vec<String> = values.iter().map(say).collect();
            return format!("{} at {names} respectively.", capital(&texts.join(" and ")));
        }
        for (grades, levels) in values {
            let form = if bare {
                Form::Bare
            } else {
                *[Form::Noun, Form::Noun, Form::Clause].choose(&mut self.rng).unwrap_or(&Form::Noun)
            };
            let text = self.say(Item { aspect, grades }, form, &levels);
            let names = self.spelling.list(&levels, &mut self.rng);
            said.push(match (after, form) {
                (_, Form::Clause) => format!("at {names} {text}"),
                (true, _) => format!("{text}{at}{names}"),
                (false, _) => format!("{names}{}{text}", if chance(&mut self.rng, 0.4) { ": " } else { " " }),
            });
        }
        let words = self.grammar.aspects[aspect].deny.choose(&mut self.rng).cloned().unwrap_or_default();
        match none {
            Some(levels) if chance(&mut self.rng, if empty { 0.4 } else { 0.3 }) => {
                self.book(&levels, [].iter(), 0);
                said.push(format!("no {words} at {}", self.spelling.list(&levels, &mut self.rng)));
            }
            _ if empty => said.push(if chance(&mut self.rng, 0.5) { format!("No {words}") } else { "Normal".into() }),
            _ if chance(&mut self.rng, 0.15) => said.push("otherwise unremarkable".into()),
            _ => {}
        }
        let gap = match bare {
            true => ["; ", ", ", "; ", ", "].choose(&mut self.rng),
            false => [". ", ". ", "; ", ", "].choose(&mut self.rng),
        };
        let gap = gap.copied().unwrap_or("; ");
        let said: Vec<String> = said.iter().map(|s| if gap == ". " { capital(s) } else { s.clone() }).collect();
        format!("{}.", capital(&said.join(gap)))
    }

    /// A line a segment: "L4-5 | disc: bulge | canal: mild".
    fn table(&mut self, groups: &[Group], lines: &mut Vec<String>) {
        let gap = [" | ", "; ", ", ", " / ", "\n", "\n"].choose(&mut self.rng).copied().unwrap_or("; ");
        let colon = [": ", " - ", " "].choose(&mut self.rng).copied().unwrap_or(": ");
        let aspects = &self.grammar.aspects;
        let keys: Vec<String> = aspects
            .iter()
            .map(|a| a.headings.choose(&mut self.rng).map(|h| h.to_lowercase()).unwrap_or_default())
            .collect();
        let empty_too = chance(&mut self.rng, 0.6);
        // Both sides in one cell, in the order that its heading gives.
        let orders = [Some(("R / L", [1, 0])), Some(("L / R", [0, 1])), None, None, None];
        let order = orders.choose(&mut self.rng).copied().flatten();
        for group in groups {
            for &level in &group.levels {
                let mut cells = Vec::new();
                self.book(&[level], [].iter(), 0);
                for (aspect, key) in keys.iter().enumerate() {
                    let grades = group.grades(aspect);
                    if grades != [0, 0] || (empty_too && aspect < 3) {
                        let sided = aspects[aspect].tasks.len() == 2;
                        match order.filter(|_| sided) {
                            Some((sides, order)) => {
                                let value = self.say_sides(aspect, grades, order, level);
                                cells.push(format!("{key} ({sides}){colon}{value}"));
                            }
                            None => {
                                let value = self.say(Item { aspect, grades }, Form::Bare, &[level]);
                                cells.push(format!("{key}{colon}{value}"));
                            }
                        }
                    }
                }
                if cells.is_empty() {
                    cells.push("normal".into());
                }
                let name = self.spelling.one(level, &mut self.rng);
                let after = match gap {
                    "; " | ", " => ": ",
                    "\n" => ":\n",
                    gap => gap,
                };
                lines.push(format!("{name}{after}{}", cells.join(gap)));
            }
        }
    }

    /// "mild / patent": the grades of both sides, in the order of the heading.
    fn say_sides(&mut self, aspect: usize, grades: [u8; 2], order: [usize; 2], level: Level) -> String {
        let about = &self.grammar.aspects[aspect];
        let effects: Effects = about.tasks.iter().zip(grades).map(|(task, grade)| (*task, Some(grade))).collect();
        self.book(&[level], effects.iter(), 0);
        let lowest = ["patent", "none", "normal", "-"].choose(&mut self.rng).copied().unwrap_or("none");
        let name = |side: usize| match grades[side] {
            0 => lowest,
            grade => about.grades.get(grade as usize).map_or("", String::as_str),
        };
        format!("{} / {}", name(order[0]), name(order[1]))
    }

    /// The worst again, in a list.
    fn impression(&mut self, found: Vec<Group>) -> String {
        let mut lines = Vec::new();
        self.under_heading = false;
        for mut group in found {
            if !chance(&mut self.rng, 0.65) {
                continue;
            }
            group.found.sort_by_key(|item| std::cmp::Reverse(item.grades[0].max(item.grades[1])));
            group.found.truncate(2);
            group.denied.clear();
            let grammar = self.grammar;
            let style = if chance(&mut self.rng, 0.75) { "prose" } else { "level" };
            lines.extend(grammar.styles.get(style).and_then(|style| self.sentence(&style.first, &mut group)));
        }
        if lines.is_empty() || chance(&mut self.rng, 0.3) {
            lines.push(self.words("closing"));
        }
        if chance(&mut self.rng, 0.6) {
            lines = lines.iter().enumerate().map(|(n, line)| format!("{}. {line}", n + 1)).collect();
        }
        lines.join("\n")
    }

    /// Slots that follow from which segments are spoken of.
    fn level_slots(&mut self, prefix: &'static str, group: &Group) -> Slots {
        let levels = &group.levels;
        let several = levels.len() > 1;
        let list = self.spelling.list(levels, &mut self.rng);
        let key = match prefix {
            "a_" => "a_lv",
            "b_" => "b_lv",
            _ => "lv",
        };
        let mut values: BTreeMap<&'static str, String> = [
            (key, list),
            ("s", if several { "s" } else { "" }.into()),
            ("es", if several { "" } else { "s" }.into()),
            ("a", if several { "" } else { "a " }.into()),
            ("is", if several { "are" } else { "is" }.into()),
            ("exiting", String::new()),
            ("traversing", String::new()),
        ]
        .into();
        if let ([first], true) = (levels.as_slice(), chance(&mut self.rng, 0.75)) {
            // In the neck the root that leaves is named after the lower vertebra, below it after the upper.
            let cervical = REGIONS[first.region].0 == "cervical" && first.lower() != "T1";
            let exiting = if cervical { first.lower() } else { first.upper() };
            values.insert("exiting", self.spelling.vertebra(exiting));
            values.insert("traversing", self.spelling.vertebra(first.lower()));
        }
        if let Some(first) = levels.first() {
            values.insert("upper", self.spelling.vertebra(first.upper()));
            values.insert("lower", self.spelling.vertebra(first.lower()));
        }
        if several {
            let some = levels.choose(&mut self.rng).copied().into_iter().collect::<Vec<_>>();
            values.insert("some", self.spelling.list(&some, &mut self.rng));
        }
        Slots { values, ..Slots::default() }
    }

    fn any_level(&mut self, region: usize) -> String {
        let level = Level { region, place: self.rng.random_range(0..REGIONS[region].1.len() - 1) };
        self.spelling.one(level, &mut self.rng)
    }

    fn words(&mut self, list: &str) -> String {
        capital(&self.grammar.expand(&format!("{{{list}}}"), &Slots::default(), &mut self.rng))
    }
}

/// Whether a group has what a template's slots ask for.
fn fits(template: &str, prefix: &str, group: &Group) -> bool {
    let count = |slot: &str| template.matches(&format!("{{{prefix}{slot}}}")).count();
    let further = count("np") + count("ing") + count("clause") + count("tag");
    (!template.contains(&format!("{{{prefix}lead")) || group.lead.is_some())
        && further <= group.found.len()
        && count("neg") + count("calm") + count("sparing") + count("calmt") <= group.denied.len()
        && (count("upper") == 0 || group.levels.len() == 1)
        && (count("some") == 0 || group.levels.len() > 1)
}

fn capital(text: &str) -> String {
    let start = text.find(|c: char| !matches!(c, '-' | '+' | '?' | ' ')).unwrap_or(0);
    let (before, rest) = text.split_at(start);
    let mut letters = rest.chars();
    letters.next().map_or_else(String::new, |first| format!("{before}{}{}", first.to_uppercase(), letters.as_str()))
}

/// White space and articles as they should be.
fn tidy(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        let mut words: Vec<String> = Vec::new();
        for word in line.split_whitespace() {
            let bare = word.trim_start_matches(['(', '[']);
            let vowel = bare.starts_with(['a', 'e', 'i', 'o', 'u']) && !bare.starts_with("uni");
            if let Some(article) = words.last_mut().filter(|last| matches!(last.as_str(), "a" | "A") && vowel) {
                article.push('n');
            }
            words.push(word.to_string());
        }
        lines.push(words.join(" ").replace(" ,", ",").replace(" .", "."));
    }
    lines.join("\n")
}
