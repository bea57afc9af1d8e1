//! The interactive shell, apart from its terminal: what a line does.

use super::{Error, Format, run};
use datafusion::logical_expr::Documentation;
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use std::io::Write;

const HELP: &str = "\
Statements end with ; and may go over several lines.
  \\d          the tables          \\d NAME     a table's columns
  \\h          foramen's functions \\h NAME     what a function does
  \\q          leave
  CREATE EXTERNAL TABLE m STORED AS HL7 LOCATION 'folder/';
  SELECT * FROM 'reports.parquet' LIMIT 5;
";

/// What became of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// It was carried out, or its error was written.
    Done,
    /// It begins a statement that is not at its end.
    More,
    /// The user wants to leave.
    Quit,
}

/// A shell over a session. Lines come in through [`Console::line`].
pub struct Console<'a> {
    context: &'a SessionContext,
    format: Format,
    pending: String,
}

impl<'a> Console<'a> {
    /// A shell that writes rows in a format.
    pub fn new(context: &'a SessionContext, format: Format) -> Self {
        Self { context, format, pending: String::new() }
    }

    /// Forgets the statement that was begun.
    pub fn clear(&mut self) {
        self.pending.clear();
    }

    /// Takes a line: rows go to `out`, errors of statements to `errors`.
    ///
    /// # Errors
    /// [`Error::Write`] when one of the two is gone.
    pub async fn line(&mut self, line: &str, out: &mut dyn Write, errors: &mut dyn Write) -> Result<Input, Error> {
        if self.pending.is_empty() {
            match line.trim() {
                "" => return Ok(Input::Done),
                command if command.starts_with('\\') || ["help", "quit", "exit"].contains(&command) => {
                    return self.command(command, out, errors).await;
                }
                _ => {}
            }
        }
        self.pending.push_str(line);
        self.pending.push('\n');
        if !complete(&self.pending) {
            return Ok(Input::More);
        }
        let statements = std::mem::take(&mut self.pending);
        self.run(&statements, out, errors).await
    }

    async fn run(&self, sql: &str, out: &mut dyn Write, errors: &mut dyn Write) -> Result<Input, Error> {
        match run(self.context, sql, self.format, out).await {
            Err(Error::Write(gone)) => return Err(Error::Write(gone)),
            Err(error) => writeln!(errors, "error: {error}")?,
            Ok(()) => {}
        }
        Ok(Input::Done)
    }

    async fn command(&self, command: &str, out: &mut dyn Write, errors: &mut dyn Write) -> Result<Input, Error> {
        let (name, argument) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        match (name, argument.trim().trim_end_matches(';')) {
            ("\\q" | "quit" | "exit", _) => return Ok(Input::Quit),
            ("\\d", "") => {
                let tables = "SELECT table_name, table_type FROM information_schema.tables \
                              WHERE table_schema <> 'information_schema' ORDER BY table_name";
                return self.run(tables, out, errors).await;
            }
            ("\\d", table) => return self.run(&format!("DESCRIBE {table}"), out, errors).await,
            ("\\h", "") => self.functions(out)?,
            ("\\h", function) => match documentation(self.context, function) {
                Some(documentation) => describe(&documentation, out)?,
                None => writeln!(errors, "error: there is no function {function}; \\h lists foramen's")?,
            },
            ("\\?" | "help", _) => write!(out, "{HELP}")?,
            _ => writeln!(errors, "error: there is no command {name}; \\? lists them")?,
        }
        Ok(Input::Done)
    }

    fn functions(&self, out: &mut dyn Write) -> Result<(), Error> {
        let state = self.context.state();
        let scalar = state.scalar_functions().values().filter_map(|function| function.documentation());
        let aggregate = state.aggregate_functions().values().filter_map(|function| function.documentation());
        let tables = foramen_udfs::sharing_documentation();
        let ours = [foramen_udfs::SECTION, foramen_udfs::ALIGNMENT, foramen_udfs::SHARING];
        let mut own: Vec<&Documentation> =
            scalar.chain(aggregate).chain(&tables).filter(|about| ours.contains(&about.doc_section)).collect();
        own.sort_by(|a, b| a.syntax_example.cmp(&b.syntax_example));
        for about in own {
            let gist = about.description.split(['.', ':']).next().unwrap_or_default();
            writeln!(out, "{:<31} {gist}", about.syntax_example)?;
        }
        Ok(())
    }
}

/// Whether a text ends with a statement's semicolon, outside of quotes and comments.
fn complete(text: &str) -> bool {
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, text).tokenize() else { return false };
    let last = tokens.iter().rfind(|token| !matches!(token, Token::Whitespace(_)));
    matches!(last, Some(Token::SemiColon) | None)
}

fn documentation(context: &SessionContext, name: &str) -> Option<Documentation> {
    let state = context.state();
    let name = name.trim_end_matches("()").to_lowercase();
    let scalar = state.scalar_functions().get(&name).and_then(|function| function.documentation());
    let aggregate = state.aggregate_functions().get(&name).and_then(|function| function.documentation());
    let window = state.window_functions().get(&name).and_then(|function| function.documentation());
    let table = || {
        let mut tables = foramen_udfs::sharing_documentation().into_iter();
        tables.find(|about| about.syntax_example.split('(').next() == Some(&name))
    };
    scalar.or(aggregate).or(window).cloned().or_else(table)
}

fn describe(about: &Documentation, out: &mut dyn Write) -> Result<(), Error> {
    writeln!(out, "{}\n\n{}", about.syntax_example, about.description)?;
    for (name, description) in about.arguments.iter().flatten() {
        writeln!(out, "  {name}: {description}")?;
    }
    if let Some(example) = &about.sql_example {
        let shown = example.lines().filter(|line| !line.starts_with("```"));
        writeln!(out, "\n{}", shown.collect::<Vec<_>>().join("\n"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{SqlModel, context};
    use super::*;
    use crate::model::Options;
    use std::sync::Arc;

    /// A session whose model is nowhere, so that only what needs none can work.
    fn session() -> SessionContext {
        context(Arc::new(SqlModel::lazy("no/such/model", Options::default())), Default::default(), Default::default())
            .unwrap()
    }

    /// What lines give: (last input, rows, errors).
    async fn typed(lines: &[&str]) -> (Input, String, String) {
        let context = session();
        let mut console = Console::new(&context, Format::Csv);
        let (mut out, mut errors, mut input) = (Vec::new(), Vec::new(), Input::Done);
        for line in lines {
            input = console.line(line, &mut out, &mut errors).await.unwrap();
        }
        (input, String::from_utf8(out).unwrap(), String::from_utf8(errors).unwrap())
    }

    #[tokio::test]
    async fn a_statement_ends_with_its_semicolon_and_not_with_another() {
        assert_eq!(typed(&["SELECT 1 AS a"]).await.0, Input::More);
        assert_eq!(
            typed(&["SELECT ';' AS a -- ;", "", ", 2 AS b;"]).await,
            (Input::Done, "a,b\n;,2\n".into(), String::new())
        );
        assert_eq!(typed(&["SELECT 'a;", "b' AS a; SELECT 3 AS c;"]).await.1, "a\n\"a;\nb\"\nc\n3\n");
        assert_eq!(typed(&["", "  "]).await, (Input::Done, String::new(), String::new()));
    }

    #[tokio::test]
    async fn an_error_is_written_and_the_shell_goes_on() {
        let (input, out, errors) = typed(&["SELECT nothing;", "SELEC;", "SELECT 1 AS a;"]).await;
        assert_eq!((input, out.as_str()), (Input::Done, "a\n1\n"));
        assert_eq!(errors.lines().filter(|line| line.starts_with("error: ")).count(), 2, "{errors}");
    }

    #[tokio::test]
    async fn commands_list_tables_and_functions() {
        let (_, out, errors) = typed(&["CREATE TABLE t AS SELECT 1 AS a;", "\\d", "\\d t"]).await;
        assert!(out.contains("t,BASE TABLE") && out.contains("a,Int64,"), "{out}{errors}");
        let (_, out, _) = typed(&["\\h"]).await;
        assert_eq!(out.lines().count(), 21, "{out}");
        assert!(out.starts_with("embed_segments(text [, layer])"), "{out}");
        let (_, out, _) = typed(&["\\h hl7_error", "\\h sum"]).await;
        assert!(
            out.contains("hl7_error(message)\n\nWhy") && out.contains("no_header") && out.contains("sum(expression)"),
            "{out}"
        );
        let (_, out, _) = typed(&["\\h task_groups"]).await;
        assert!(out.starts_with("task_groups('folder', models)\n\nTasks parted"), "{out}");
        let (_, out, errors) = typed(&["\\h nosuch", "\\x", "help"]).await;
        assert!(
            errors.contains("no function nosuch") && errors.contains("no command \\x") && out.contains("\\q"),
            "{errors}"
        );
        for leave in ["\\q", "quit", "exit"] {
            assert_eq!(typed(&[leave]).await.0, Input::Quit);
        }
    }

    #[tokio::test]
    async fn the_model_is_asked_for_only_by_what_needs_it() {
        let (_, out, errors) = typed(&["SELECT cardinality(report_segments('L4-5 and L5-S1')) AS n;"]).await;
        assert_eq!((out.as_str(), errors.as_str()), ("n\n2\n", ""));
        let (_, out, errors) = typed(&["SELECT extract_findings('L4-5') AS f;"]).await;
        assert_eq!(out, "");
        assert!(errors.contains("extract_findings: ") && errors.contains("no/such/model"), "{errors}");
    }
}
