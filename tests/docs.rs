//! The documentation against the program: the pages of `docs/reference` are what the program says of itself, the keys and defaults on
//! the page of configurations are those that it reads, and every link leads somewhere.
//!
//! `FORAMEN_UPDATE=1 cargo test --test docs`, which is `make docs`, writes the pages. They are of a build with the default features.

#![cfg(all(feature = "distributed", feature = "kafka", feature = "train"))]
// A test fails by panicking, its helpers too, and says what it left out.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use arrow::datatypes::DataType;
use arrow::util::pretty::pretty_format_batches_with_schema;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Documentation, Volatility};
use datafusion::prelude::SessionContext;
use foramen::model::Options;
use foramen::sql::{SqlModel, context};
use foramen::{archive, hl7, stream, train};
use pulldown_cmark::{Event, Options as Markdown, Parser, Tag, TagEnd};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

const FUNCTIONS: &str = "docs/reference/functions";
const CONFIGURATION: &str = "docs/reference/configuration.md";

fn update() -> bool {
    std::env::var_os("FORAMEN_UPDATE").is_some()
}

/// Holds a page to what it has to be, or writes it.
fn page(path: &str, text: &str) {
    if update() {
        std::fs::create_dir_all(Path::new(path).parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == text,
        "{path} is not what the program says of itself: run `make docs`, and look through the difference"
    );
}

/// Text that may stand in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

mod functions {
    use super::*;

    struct Function {
        about: Documentation,
        kind: &'static str,
        answer: String,
        volatility: Option<Volatility>,
        needs_model: bool,
    }

    impl Function {
        fn name(&self) -> &str {
            self.about.syntax_example.split('(').next().unwrap()
        }

        fn gist(&self) -> &str {
            self.about.description.split(['.', ':']).next().unwrap()
        }
    }

    fn session(model: &str) -> SessionContext {
        context(Arc::new(SqlModel::lazy(model, Options::default())), Default::default(), Default::default()).unwrap()
    }

    /// A type, with the names of a struct's fields.
    fn shown(kind: &DataType) -> String {
        match kind {
            DataType::List(item) => format!("List<{}>", shown(item.data_type())),
            DataType::FixedSizeList(item, width) => format!("FixedSizeList<{}, {width}>", shown(item.data_type())),
            DataType::Struct(fields) => {
                let fields = fields.iter().map(|field| format!("{}: {}", field.name(), shown(field.data_type())));
                format!("Struct<{}>", fields.collect::<Vec<_>>().join(", "))
            }
            other => other.to_string(),
        }
    }

    /// A documented example: the query, and what it shows where that is told.
    fn example(about: &Documentation) -> (&str, Option<&str>) {
        let example = about.sql_example.as_deref().unwrap();
        let example = example.trim_start_matches("```sql\n> ").trim_end_matches("\n```");
        match example.split_once(";\n") {
            Some((query, answer)) => (query, Some(answer)),
            None => (example.trim_end_matches(';'), None),
        }
    }

    async fn functions() -> Vec<Function> {
        // The shipped package; the other session has none, so that what needs one fails in it.
        let (with, without) = (session("models/spine"), session("no/such/model"));
        let (known, state) = (foramen_udfs::sharing_documentation(), with.state());
        let mut functions = Vec::new();
        for function in state.scalar_functions().values() {
            let Some(about) = function.documentation().filter(|about| about.doc_section == foramen_udfs::SECTION)
            else {
                continue;
            };
            let given = vec![DataType::Utf8; about.arguments.as_ref().map_or(0, Vec::len)];
            functions.push(Function {
                about: about.clone(),
                kind: "scalar function",
                answer: format!("`{}`", shown(&function.return_type(&given).unwrap())),
                volatility: Some(function.signature().volatility),
                needs_model: run(&without, example(about).0).await.is_err(),
            });
        }
        let vector = DataType::new_list(DataType::Float64, true);
        for function in state.aggregate_functions().values() {
            let Some(about) = function.documentation().filter(|about| about.doc_section == foramen_udfs::ALIGNMENT)
            else {
                continue;
            };
            functions.push(Function {
                about: about.clone(),
                kind: "aggregate",
                answer: format!("`{}`", shown(&function.return_type(&[vector.clone(), vector.clone()]).unwrap())),
                volatility: Some(function.signature().volatility),
                needs_model: run(&without, example(about).0).await.is_err(),
            });
        }
        for about in known {
            let query = example(&about).0;
            let call = &query[query.find(about.syntax_example.split('(').next().unwrap()).unwrap()..];
            let call = &call[..=call.find(')').unwrap()];
            let frame = without.sql(&format!("SELECT * FROM {call}")).await.unwrap();
            without.sql(query).await.unwrap();
            let columns =
                frame.schema().fields().iter().map(|field| format!("{}: {}", field.name(), shown(field.data_type())));
            let answer = format!("rows of `{}`", columns.collect::<Vec<_>>().join(", "));
            functions.push(Function { about, kind: "table function", answer, volatility: None, needs_model: false });
        }
        functions.sort_by(|a, b| a.name().cmp(b.name()));
        functions
    }

    async fn run(context: &SessionContext, query: &str) -> Result<String, DataFusionError> {
        let frame = context.sql(query).await?;
        let schema = Arc::new(frame.schema().as_arrow().clone());
        Ok(pretty_format_batches_with_schema(schema, &frame.collect().await?)?.to_string())
    }

    const WRITTEN: &str = "<!-- Written by `make docs` out of what the functions say of themselves. -->";

    fn about(function: &Function, names: &BTreeSet<String>) -> String {
        let mut out = String::new();
        let Function { about, kind, answer, volatility, needs_model } = function;
        writeln!(out, "# `{}`\n\n{WRITTEN}\n\n{}\n", about.syntax_example, about.description).unwrap();
        writeln!(out, "| | |\n| --- | --- |\n| kind | {kind}: {} |", about.doc_section.label.to_lowercase()).unwrap();
        writeln!(out, "| answers | {answer} |").unwrap();
        let volatility = match volatility {
            Some(Volatility::Immutable) => "immutable: equal arguments have equal answers",
            Some(Volatility::Stable) => "stable: equal arguments have equal answers within a query",
            Some(Volatility::Volatile) => "volatile: each call is another",
            None => "what is stored is read when it is asked for",
        };
        writeln!(out, "| volatility | {volatility} |").unwrap();
        writeln!(out, "| needs the model | {} |", if *needs_model { "yes" } else { "no" }).unwrap();
        let arguments = about.arguments.as_deref().unwrap_or_default();
        if !arguments.is_empty() {
            writeln!(out, "\n## Arguments\n\n| argument | |\n| --- | --- |").unwrap();
        }
        for (name, text) in arguments {
            writeln!(out, "| `{name}` | {} |", cell(text)).unwrap();
        }
        let (query, answer) = example(about);
        writeln!(out, "\n## Example\n\n```sql\n{query};\n```").unwrap();
        if let Some(answer) = answer {
            writeln!(out, "```\n{answer}\n```").unwrap();
        }
        let link = |name: &String| match names.contains(name) {
            true => format!("[`{name}`]({name}.md)"),
            false => panic!("{} names {name}, which is no function", function.name()),
        };
        let related: Vec<String> = about.related_udfs.iter().flatten().map(link).collect();
        writeln!(out, "\nSee also: {}. All functions: [README.md](README.md).", related.join(", ")).unwrap();
        out
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn each_has_a_page_of_its_own_words() {
        let functions = functions().await;
        let names: BTreeSet<String> = functions.iter().map(|function| function.name().to_owned()).collect();
        assert_eq!(names.len(), 21);
        let mut index = format!(
            "# SQL functions\n\n{WRITTEN}\n\nWhat arguments may be, what NULL and bad input give, and how queries are put together: \
             [sql.md](../../sql.md). In the shell of `foramen sql`, `\\h` lists them and `\\h NAME` shows one.\n"
        );
        for section in [foramen_udfs::SECTION, foramen_udfs::ALIGNMENT, foramen_udfs::SHARING] {
            writeln!(index, "\n## {}\n\n{}.\n", section.label, section.description.unwrap()).unwrap();
            writeln!(index, "| function | | needs the model |\n| --- | --- | --- |").unwrap();
            for function in functions.iter().filter(|function| function.about.doc_section == section) {
                let (name, syntax) = (function.name(), &function.about.syntax_example);
                let needs = if function.needs_model { "yes" } else { "no" };
                writeln!(index, "| [`{syntax}`]({name}.md) | {} | {needs} |", cell(function.gist())).unwrap();
            }
        }
        if update() {
            let _ = std::fs::remove_dir_all(FUNCTIONS);
        }
        page(&format!("{FUNCTIONS}/README.md"), &index);
        for function in &functions {
            page(&format!("{FUNCTIONS}/{}.md", function.name()), &about(function, &names));
        }
        let there =
            std::fs::read_dir(FUNCTIONS).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let pages: BTreeSet<String> = there.map(|name| name.trim_end_matches(".md").to_owned()).collect();
        let gone: Vec<_> = pages.difference(&names).filter(|name| *name != "README").collect();
        assert!(gone.is_empty(), "pages of no function: {gone:?}");
    }
}

mod commands {
    use super::*;

    fn help(program: &str, command: &[String]) -> String {
        // What is set here would stand in the text as a default.
        let output = Command::new(program).args(command).arg("--help").env_remove("FORAMEN_MODEL").output().unwrap();
        assert!(output.status.success(), "{command:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n").trim_end().to_owned()
    }

    /// Writes a command's help, and those of the commands below it.
    fn write(out: &mut String, program: &str, name: &str, command: &[String]) {
        let text = help(program, command);
        let title = std::iter::once(name).chain(command.iter().map(String::as_str)).collect::<Vec<_>>().join(" ");
        writeln!(out, "\n## `{title}`\n\n```text\n{text}\n```").unwrap();
        let below = text.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
        for line in below.filter_map(|line| line.strip_prefix("  ")) {
            match line.split(' ').next() {
                Some("" | "help") | None => {}
                Some(name_below) => write(out, program, name, &[command, &[name_below.to_owned()]].concat()),
            }
        }
    }

    #[test]
    fn their_help_is_on_the_page() {
        let mut out = "# Commands\n\n<!-- Written by `make docs`: what `--help` prints. -->\n\nWhat `--help` of each command prints. What each is for: \
                       [README.md](../../README.md#commands); their exit statuses: [errors.md](errors.md#exit-statuses).\n"
            .to_owned();
        write(&mut out, env!("CARGO_BIN_EXE_foramen"), "foramen", &[]);
        write(&mut out, env!("CARGO_BIN_EXE_foramen-train"), "foramen-train", &[]);
        assert!(out.contains("\n## `foramen stream replay`\n") && out.contains("\n## `foramen-train study report`\n"));
        page("docs/reference/commands.md", &out);
        let label = help(env!("CARGO_BIN_EXE_foramen"), &["label".to_owned()]);
        for code in archive::Code::ALL {
            assert!(
                label.contains(&format!("  {} ", code.name())),
                "the help of label does not say what {} is",
                code.name()
            );
        }
    }
}

mod errors {
    use super::*;

    const PAGE: &str = "# Errors, codes and exit statuses

<!-- Written by `make docs` out of the codes' own words. -->

An error says what was wrong, where, and what to do, and holds no content of a report or message. What is wrong with *one* message, line or file
is a reject and the rest goes on; what keeps a command from running ends it.

## Exit statuses

| status | of | |
| --- | --- | --- |
| 0 | all | done; for `foramen label`: all was read; for `foramen stream`: it was asked to stop, and finished what was in flight |
| 1 | all | it could not run or go on; the message on standard error says what to do. `foramen doctor`: something does not work. `foramen model`: a file is missing or altered |
| 2 | all | wrong usage |
| 3 | `foramen label` | it ran to the end, and rejected something; the rows of the rest are written |
| 130 | `foramen label`, `foramen export` | Ctrl-C or SIGTERM came twice: it stopped at once, and may have left `.NAME.partial`, which holds rows |

## Where a code stands

| where | as |
| --- | --- |
| the file of rejects of `foramen label` | `code`, `stage`, `position`, `message`: [label.md](../label.md#the-file-of-rejects) |
| dead letters of `foramen stream` | headers `foramen.code`, `foramen.stage`, `foramen.position` and Kafka Connect's: [stream.md](../stream.md#dead-letters) |
| SQL | the text of [`hl7_error`](functions/hl7_error.md) begins with it |
| metrics | the labels `stage` and `code` of `foramen_rejects_total`: [metrics.md](../metrics.md#what-did-not) |

Codes are stable. A stage is where in the way of a message it was refused: `frame` (bytes to messages), `parse` (segments and fields), `decode` (characters,
escapes, embedded documents), `text` (fields to a report's text), `model` (the query and the model), `sink` (writing).
";

    fn table(out: &mut String, title: &str, intro: &str, codes: impl Iterator<Item = [&'static str; 3]>) {
        writeln!(out, "\n## {title}\n\n{intro}\n\n| code | what is wrong | what to do |\n| --- | --- | --- |").unwrap();
        for [name, meaning, remedy] in codes {
            writeln!(out, "| `{name}` | {} | {} |", cell(meaning), cell(remedy)).unwrap();
        }
    }

    #[test]
    fn their_codes_are_on_the_page() {
        let mut out = PAGE.to_owned();
        let codes = hl7::Code::ALL.iter().map(|code| [code.name(), code.meaning(), code.remedy()]);
        let intro = "Of `label`, `sql` and `stream` alike. A message is rejected whole: a report of which a part can't be read is not labelled by the rest. A \
                     retraction is never rejected for its document. Rules: [hl7.md](../hl7.md).";
        table(&mut out, "HL7 messages", intro, codes);
        let codes = archive::Code::ALL.iter().map(|code| [code.name(), code.meaning(), code.remedy()]);
        table(&mut out, "Other inputs of `foramen label`", "Beside those of HL7 messages.", codes);
        let codes = stream::Code::ALL.iter().map(|code| [code.name(), code.meaning(), code.remedy()]);
        table(&mut out, "`foramen stream`", "Beside those of HL7 messages.", codes);
        let codes = [
            ["not-a-report", "a message of another type, such as `ADT^A01`", "nothing: `label` and `stream` count it"],
            [
                "no-result",
                "every order of the message has no result yet",
                "nothing: the result comes in a later message",
            ],
        ];
        table(&mut out, "Of `hl7_error` alone", "Messages that can be read, and hold no report.", codes.into_iter());
        page("docs/reference/errors.md", &out);
    }

    #[tokio::test]
    async fn what_holds_no_report_has_the_codes_of_the_page() {
        let context = context(Arc::new(SqlModel::lazy("", Options::default())), Default::default(), Default::default());
        let context = context.unwrap();
        let ordered = format!("MSH|^~\\\\&|||||||ORU^R01|1|P|2.5\\rOBR|1||A1|72148{}I", "|".repeat(21));
        for (message, code) in [("MSH|^~\\\\&|||||||ADT^A01|1|P|2.5", "not-a-report"), (&ordered, "no-result")] {
            let query = format!("SELECT 1 WHERE hl7_error(E'{message}') LIKE '{code} at %'");
            assert_eq!(context.sql(&query).await.unwrap().count().await.unwrap(), 1, "{code}");
        }
    }
}

mod configuration {
    use super::*;

    /// A row of the page: key, type, default, and what it means.
    type Row = [String; 4];

    /// The rows by the code of the heading that they stand under, which is TOML.
    fn documented() -> BTreeMap<String, Vec<Row>> {
        let text = std::fs::read_to_string(CONFIGURATION).unwrap();
        let mut sections: BTreeMap<String, Vec<Row>> = BTreeMap::new();
        let mut at = String::new();
        for line in text.lines() {
            if let Some(heading) = line.strip_prefix("## ") {
                at = heading.split('`').skip(1).step_by(2).collect::<Vec<_>>().join("\n");
            } else if at.starts_with('[') && line.starts_with("| `") {
                let cells = line.trim_matches(['|', ' ']).split(" | ").map(|cell| cell.trim().to_owned());
                let row = cells.collect::<Vec<_>>().try_into();
                sections.entry(at.clone()).or_default().push(row.unwrap_or_else(|_| panic!("four cells: {line}")));
            }
        }
        sections
    }

    /// The keys of a section, as the reader of configurations names them where it refuses another.
    fn keys<T: for<'de> Deserialize<'de>>(section: &str) -> BTreeSet<String> {
        let refused = toml::from_str::<T>(&format!("{section}\nno_such_key = 1\n")).err().unwrap().to_string();
        let (_, named) =
            refused.split_once("unknown field `no_such_key`, expected ").unwrap_or_else(|| panic!("{refused}"));
        named.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    fn code(cell: &str) -> Option<&str> {
        cell.strip_prefix('`')?.strip_suffix('`')
    }

    #[test]
    fn every_key_is_on_the_page_and_no_other() {
        let documented = documented();
        let mut sections = BTreeSet::new();
        for (section, rows) in &documented {
            let name = section.split(['[', ']']).nth(1).unwrap();
            sections.extend(name.split('.').next().map(str::to_owned));
            let rows: BTreeSet<String> = rows.iter().map(|[key, ..]| code(key).unwrap().to_owned()).collect();
            let mut keys = keys::<stream::Config>(section);
            // Tables below have sections of their own.
            keys.retain(|key| !documented.contains_key(&format!("[{name}.{key}]")));
            assert_eq!(rows, keys, "{section}");
        }
        assert_eq!(sections, keys::<stream::Config>(""));
    }

    /// A configuration that a key of the section can be tried in, and the table of that section.
    fn base(section: &str) -> toml::Table {
        let example = if section.contains("parquet") { "parquet" } else { "kafka" };
        let text = std::fs::read_to_string(format!("examples/stream/{example}.toml")).unwrap();
        text.parse().unwrap()
    }

    fn table<'a>(base: &'a mut toml::Table, section: &str) -> &'a mut toml::Table {
        let name = section.split(['[', ']']).nth(1).unwrap();
        name.split('.').fold(base, |table, part| {
            let inner = table.entry(part).or_insert_with(|| toml::Table::new().into());
            inner.as_table_mut().unwrap()
        })
    }

    #[test]
    fn the_defaults_are_those_of_the_program() {
        let read = |table: toml::Table| table.try_into::<stream::Config>().map(|config| format!("{config:?}"));
        let mut tried = 0;
        for (section, rows) in documented() {
            for [key, _, default, _] in rows {
                let key = code(&key).unwrap();
                let mut without = base(&section);
                table(&mut without, &section).remove(key);
                let absent = read(without.clone());
                if default == "needed" {
                    assert!(absent.is_err(), "{section} {key} is not needed");
                    continue;
                }
                let absent = absent.unwrap_or_else(|error| panic!("{section} {key} is needed: {error}"));
                if let Some(value) = code(&default) {
                    let value: toml::Table = format!("{key} = {value}").parse().unwrap();
                    table(&mut without, &section).extend(value);
                    assert_eq!(read(without).unwrap(), absent, "{section} {key} has another default");
                    tried += 1;
                }
            }
        }
        assert!(tried >= 15, "{tried}");
    }

    #[test]
    fn the_settings_of_training_are_documented() {
        let text = std::fs::read_to_string("docs/training.md").unwrap();
        let words: BTreeSet<&str> =
            text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty()).collect();
        let mut keys = keys::<train::fit::Config>("");
        keys.extend(self::keys::<train::fit::Config>("[analysis]"));
        keys.extend(self::keys::<train::study::Config>(""));
        let missing: Vec<_> = keys.iter().filter(|key| !words.contains(key.as_str())).collect();
        assert!(keys.len() > 25 && missing.is_empty(), "docs/training.md has no {missing:?}");
    }
}

mod links {
    use super::*;

    /// A page: the anchors of its headings, and its links.
    #[derive(Default)]
    struct Page {
        anchors: BTreeSet<String>,
        links: Vec<String>,
    }

    /// Every Markdown file of the project.
    fn pages() -> BTreeMap<PathBuf, Page> {
        let left_out = ["target", "native", "out", "runs", ".git"];
        let files = walkdir::WalkDir::new(".")
            .into_iter()
            .filter_entry(|entry| !(entry.depth() == 1 && left_out.iter().any(|name| entry.file_name() == *name)));
        let files = files.map(Result::unwrap).filter(|entry| entry.path().extension().is_some_and(|kind| kind == "md"));
        files.map(|entry| (entry.path().canonicalize().unwrap(), read(entry.path()))).collect()
    }

    fn read(path: &Path) -> Page {
        let text = std::fs::read_to_string(path).unwrap();
        let mut page = Page::default();
        let mut heading: Option<String> = None;
        for event in Parser::new_ext(&text, Markdown::ENABLE_TABLES) {
            match event {
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    let anchor = anchor(&heading.take().unwrap());
                    let again = (1..).map(|nth| format!("{anchor}-{nth}"));
                    let free = std::iter::once(anchor.clone()).chain(again).find(|name| !page.anchors.contains(name));
                    page.anchors.extend(free);
                }
                Event::Text(text) | Event::Code(text) => heading.iter_mut().for_each(|heading| heading.push_str(&text)),
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push(dest_url.into_string())
                }
                _ => {}
            }
        }
        page
    }

    /// A heading's anchor, as GitHub makes it.
    fn anchor(heading: &str) -> String {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    }

    /// Why a link leads nowhere, if it does.
    fn broken(from: &Path, link: &str, pages: &BTreeMap<PathBuf, Page>) -> Option<String> {
        if link.starts_with("https://") || link.starts_with("http://") {
            let well_formed =
                link.parse::<hyper::Uri>().is_ok_and(|uri| uri.host().is_some_and(|host| host.contains('.')));
            return (!well_formed).then(|| "is no address".into());
        }
        let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
        let to = if path.is_empty() { from.to_owned() } else { from.parent().unwrap().join(path) };
        let Ok(to) = to.canonicalize() else { return Some("is not there".into()) };
        let known = anchor.is_empty() || pages.get(&to).is_some_and(|page| page.anchors.contains(anchor));
        (!known).then(|| "has no such heading".into())
    }

    #[test]
    fn all_lead_somewhere() {
        if update() {
            println!("skipped: pages are being written");
            return;
        }
        let pages = pages();
        let mut found = Vec::new();
        for (path, page) in &pages {
            let broken = |link: &String| Some(format!("{}: {link} {}", path.display(), broken(path, link, &pages)?));
            found.extend(page.links.iter().filter_map(broken));
        }
        assert!(found.is_empty(), "{}", found.join("\n"));
        let links: usize = pages.values().map(|page| page.links.len()).sum();
        assert!(pages.len() > 30 && links > 150, "{} pages, {links} links", pages.len());
    }

    #[test]
    fn one_that_leads_nowhere_is_found() {
        let pages = pages();
        let from = Path::new("docs/sql.md").canonicalize().unwrap();
        for sound in ["hl7.md", "hl7.md#status", "#findings", "../LICENSE", "https://datafusion.apache.org/"] {
            assert_eq!(broken(&from, sound, &pages), None, "{sound}");
        }
        for (link, why) in [
            ("nosuch.md", "is not there"),
            ("docs/hl7.md", "is not there"),
            ("hl7.md#nosuch", "has no such heading"),
            ("#nosuch", "has no such heading"),
            ("https://no such host/", "is no address"),
        ] {
            assert_eq!(broken(&from, link, &pages).as_deref(), Some(why), "{link}");
        }
        assert_eq!(anchor("`[sink]` with `kind = \"kafka\"`"), "sink-with-kind--kafka");
    }

    /// Whoever looks for something finds its page from the index.
    #[test]
    fn every_page_is_in_the_index() {
        if update() {
            println!("skipped: pages are being written");
            return;
        }
        let pages = pages();
        let mut linked = BTreeSet::new();
        for index in ["docs/README.md", "docs/reference/functions/README.md"] {
            let index = Path::new(index).canonicalize().unwrap();
            let page = &pages[&index];
            let paths = page.links.iter().filter_map(|link| link.split('#').next());
            linked.extend(paths.filter_map(|path| index.parent().unwrap().join(path).canonicalize().ok()));
            linked.insert(index);
        }
        let docs = Path::new("docs").canonicalize().unwrap();
        let missing: Vec<_> = pages.keys().filter(|path| path.starts_with(&docs) && !linked.contains(*path)).collect();
        assert!(missing.is_empty(), "docs/README.md does not link {missing:?}");
    }

    /// Pages that help texts, comments and examples send their readers to.
    #[test]
    fn pages_that_the_code_names_are_there() {
        let named = regex::Regex::new(r"\bdocs/[a-z0-9_/-]+\.(md|html)\b").unwrap();
        let mut found = 0;
        for folder in
            ["src", "udfs", "examples", "scripts", "benches", "Makefile", "Cargo.toml", "CONTRIBUTING.md", "models"]
        {
            for entry in
                walkdir::WalkDir::new(folder).into_iter().map(Result::unwrap).filter(|entry| entry.path().is_file())
            {
                let Ok(text) = std::fs::read_to_string(entry.path()) else { continue };
                for page in named.find_iter(&text) {
                    assert!(Path::new(page.as_str()).exists(), "{} names {}", entry.path().display(), page.as_str());
                    found += 1;
                }
            }
        }
        assert!(found > 10, "{found}");
    }
}
