//! Instructions that the parts around the model take, counted by callgrind: the same from run to run whatever else the machine does,
//! so that a change of one per cent shows.
//!
//! `make instructions` prints them beside those of `benches/instructions.json`, as information; with `RECORD=1` it writes them there.
//! No harness from crates.io: gungraun, as a dependency, changes features of others so that DataFusion is compiled a second time.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench says what it measured, and fails loudly")]

mod archive;

use archive::{admission, message, texts};
use foramen::hl7::{self, Options};
use foramen::report;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::process::Command;

const RECORDED: &str = "benches/instructions.json";

type Part = fn(&[Vec<u8>]);

/// Name, input, and what is done with it.
fn parts() -> [(&'static str, Vec<Vec<u8>>, Part); 4] {
    // Every sixteenth report is enough: instructions do not vary.
    let texts = texts(16);
    let messages: Vec<Vec<u8>> =
        texts.iter().enumerate().map(|(number, text)| message(number, text).into_bytes()).collect();
    let feed = messages.iter().flat_map(|message| [b"\x0b".as_slice(), message, b"\x1c\r"].concat()).collect();
    let read: Part = |messages| {
        for message in messages {
            black_box(hl7::read(message, &Options::default()).unwrap());
        }
    };
    [
        ("MLLP feed to messages", vec![feed], |feed| {
            black_box(hl7::split(&feed[0], &Options::default()).count());
        }),
        ("messages to studies", messages, read),
        ("messages without a report", (0..100).map(|number| admission(number).into_bytes()).collect(), read),
        ("reports to segments", texts.into_iter().map(String::into_bytes).collect(), |texts| {
            for text in texts {
                black_box(report::segments(std::str::from_utf8(text).unwrap()));
            }
        }),
    ]
}

/// What callgrind counts: by its name.
#[inline(never)]
fn counted(part: Part, input: &[Vec<u8>]) {
    part(black_box(input));
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(name) = arguments.iter().skip_while(|argument| *argument != "--part").nth(1) {
        let (_, input, part) = parts().into_iter().find(|(known, ..)| known == name).unwrap();
        // Tables that are built once are no part of it.
        part(&input);
        counted(part, &input);
        return;
    }
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let recorded: BTreeMap<String, f64> =
        std::fs::read_to_string(RECORDED).map_or_else(|_| BTreeMap::new(), |text| serde_json::from_str(&text).unwrap());
    let mut found = BTreeMap::new();
    println!("| part | instructions a byte | recorded | ratio |\n| --- | --- | --- | --- |");
    for (name, input, _) in parts() {
        let bytes: usize = input.iter().map(Vec::len).sum();
        let each = (instructions(name) / bytes as f64 * 100.0).round() / 100.0;
        let before = recorded.get(name).copied();
        let told = before.map_or_else(|| "|".to_owned(), |before| format!("{before} | {:.3}", each / before));
        println!("| {name} | {each} | {told} |");
        found.insert(name, each);
    }
    if std::env::var_os("RECORD").is_some() {
        std::fs::write(RECORDED, serde_json::to_string_pretty(&found).unwrap() + "\n").unwrap();
    }
}

fn instructions(name: &str) -> f64 {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*instructions*counted*"]);
    let run = valgrind.arg(std::env::current_exe().unwrap()).args(["--part", name]).output();
    let told = String::from_utf8_lossy(&run.expect("valgrind is installed").stderr).into_owned();
    let counted = told.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    counted.filter(|counted| *counted > 0.0).unwrap_or_else(|| panic!("callgrind did not count: {told}"))
}
