//! foramen in the applications of others: the examples of `docs/embedding.md` run, and the page shows them as they are.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::path::Path;
use std::process::Command;

/// What an example writes, run as a user runs it.
fn run(example: &str) -> String {
    let binaries = Path::new(env!("CARGO_BIN_EXE_foramen")).parent().unwrap();
    let program = binaries.join("examples").join(example);
    assert!(program.exists(), "{} is not there; `cargo test` without --test builds examples", program.display());
    let done = Command::new(program).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

fn has_row(shown: &str, cells: &[&str]) -> bool {
    shown.lines().any(|line| line.split('|').map(str::trim).filter(|cell| !cell.is_empty()).eq(cells.iter().copied()))
}

#[test]
fn an_application_asks_in_sql() {
    let shown = run("embed");
    assert!(has_row(&shown, &["CSV-3", "C5-C6", "extrusion"]), "{shown}");
}

#[test]
fn a_stream_gives_rows_while_its_source_is_open() {
    let shown = run("embed_stream");
    for row in [["L4-L5", "severe"], ["L5-S1", "none"], ["C5-C6", "mild"]] {
        assert!(has_row(&shown, &row), "{shown}");
    }
    assert_eq!(shown.matches("level").count(), 2, "a table a report: {shown}");
}

#[test]
fn the_page_shows_the_examples_as_they_are() {
    let page = std::fs::read_to_string("docs/embedding.md").unwrap();
    for example in ["embed", "embed_stream"] {
        let code = std::fs::read_to_string(format!("examples/{example}.rs")).unwrap();
        assert!(page.contains(&format!("```rust\n{code}```")), "docs/embedding.md has another examples/{example}.rs");
    }
}
