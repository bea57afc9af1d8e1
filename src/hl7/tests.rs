//! The rules of `docs/hl7.md`, each on a message of its own.

use super::*;
use proptest::prelude::*;

/// A message with the segments given, one a line.
fn message(segments: &str) -> Vec<u8> {
    let header = r"MSH|^~\&|RIS|HOSP|APP|DEPT|20240306111254+0100||ORU^R01^ORU_R01|C1|P|2.5";
    format!("{header}\r{}", segments.trim().lines().map(|line| line.trim_start().to_owned() + "\r").collect::<String>())
        .into_bytes()
}

fn opened(bytes: &[u8]) -> Message {
    read(bytes, &Options::default()).unwrap()
}

fn only(segments: &str) -> Study {
    let message = opened(&message(segments));
    assert_eq!(message.studies.len(), 1);
    message.studies.into_iter().next().unwrap()
}

fn text(segments: &str) -> String {
    only(segments).text.into_exposed()
}

fn refused(bytes: &[u8]) -> Reject {
    read(bytes, &Options::default()).unwrap_err()
}

mod framing {
    use super::*;

    fn frames(bytes: &[u8]) -> Vec<String> {
        split(bytes, &Options::default())
            .map(|frame| {
                let text = String::from_utf8_lossy(frame.bytes).replace(['\r', '\n'], "/");
                frame.reject.map_or(text.clone(), |reject| format!("{}: {text}", reject.code))
            })
            .collect()
    }

    #[test]
    fn messages_end_before_the_next_header_or_trailer() {
        for end in ["\r", "\n", "\r\n"] {
            let input =
                ["FHS|^~\\&|A", "BHS|^~\\&|A", "MSH|^~\\&|1", "PID|1", "MSH|^~\\&|2", "BTS|2", "FTS|1"].join(end);
            assert_eq!(
                frames(input.as_bytes()).iter().map(|f| f.replace("//", "/")).collect::<Vec<_>>(),
                ["MSH|^~\\&|1/PID|1", "MSH|^~\\&|2"]
            );
        }
    }

    #[test]
    fn mllp_is_unwrapped_wherever_it_is_seen() {
        let input = b"\x0bMSH|^~\\&|1\rPID|1\r\x1c\r\x0bMSH|^~\\&|2\r\x1c\rMSH|^~\\&|3\rjunk\x0bMSH|^~\\&|4\x1c\r";
        assert_eq!(frames(input), ["MSH|^~\\&|1/PID|1", "MSH|^~\\&|2", "MSH|^~\\&|3/junk", "MSH|^~\\&|4"]);
    }

    #[test]
    fn a_frame_that_never_ends_is_truncated() {
        assert_eq!(frames(b"\x0bMSH|^~\\&|1\r\x0bMSH|^~\\&|2\r\x1c\r"), ["truncated: MSH|^~\\&|1", "MSH|^~\\&|2"]);
        let reject = refused(b"\x0bMSH|^~\\&|A||||||ORU^R01|C9\rPID|1");
        assert_eq!(
            (reject.code, reject.stage, reject.control_id.as_deref()),
            (Code::Truncated, Stage::Frame, Some("C9"))
        );
        assert_eq!(frames(b"\x0bMSH|^~\\&|1\x1c"), ["MSH|^~\\&|1"]);
    }

    #[test]
    fn a_byte_order_mark_and_white_space_before_are_dropped() {
        let mut with_mark = b"\xEF\xBB\xBF  \r\n ".to_vec();
        with_mark.extend(message("OBR|1||R1\nOBX|1|TX|||Bulge"));
        assert_eq!(opened(&with_mark).studies.len(), 1);
        assert_eq!(frames(b"\xEF\xBB\xBFMSH|^~\\&|1"), ["\u{FEFF}MSH|^~\\&|1"]);
    }

    #[test]
    fn bytes_before_the_first_header_are_one_reject() {
        assert_eq!(frames(b"junk\r\nmore\r\nMSH|^~\\&|1\r"), ["no-msh: junk//more", "MSH|^~\\&|1"]);
        assert_eq!(frames(b"just text"), ["no-msh: just text"]);
        assert_eq!(frames(b""), ["no-msh: "]);
        assert_eq!(frames(b" \r\n"), ["no-msh:  //"]);
        assert_eq!(frames(b"MSH|^~\\&|1\rBTS|1\rstray\rMSH|^~\\&|2"), ["MSH|^~\\&|1", "no-msh: stray", "MSH|^~\\&|2"]);
    }

    #[test]
    fn msh_within_a_text_begins_no_message() {
        for line in ["MSH2 and MSH6 intact", "MSH-2 lost", "MSH 6", "MSH, PMS2", "MSH", "  MSH|^~\\&|x"] {
            let input = format!("MSH|^~\\&|1\rOBX|1|TX|||a\n{line}\r");
            assert_eq!(split(input.as_bytes(), &Options::default()).count(), 1, "{line}");
        }
        assert_eq!(frames(b"MSH#^~\\&#1\rMSH|^").len(), 2);
    }

    #[test]
    fn a_count_that_is_not_what_was_read_is_a_warning() {
        let options = Options::default();
        let mut split =
            split(b"FHS|^~\\&\rBHS|^~\\&\rMSH|^~\\&|1\rBTS|3\rBHS|^~\\&\rMSH|^~\\&|2\rBTS|1|x\rFTS|1\r", &options);
        assert_eq!(split.by_ref().count(), 2);
        assert_eq!(
            split.warnings(),
            [
                Warning::BatchCount { byte: 29, stated: 3, found: 1 },
                Warning::FileCount { byte: 63, stated: 1, found: 2 }
            ]
        );
    }

    #[test]
    fn a_message_over_the_limit_is_refused_and_the_next_is_read() {
        let options = Options { max_message_bytes: 60, ..Options::default() };
        let big = [message("OBR|1||R1\nOBX|1|TX|||Bulge"), b"MSH|^~\\&|2\r".to_vec()].concat();
        let frames: Vec<_> = split(&big, &options).collect();
        let reject = frames[0].reject.as_ref().unwrap();
        assert_eq!((reject.code, reject.control_id.as_deref()), (Code::TooLarge, Some("C1")));
        assert!(reject.to_string().contains("max_message_bytes"));
        assert!(frames[1].reject.is_none());
    }

    #[test]
    fn utf_16_is_framed_by_its_units() {
        let text = String::from_utf8(message("OBR|1||R1\nOBX|1|TX|||Größe ഊ ਍")).unwrap() + "MSH|^~\\&|2\r\n";
        for big_endian in [false, true] {
            let wide = |text: &str| -> Vec<u8> {
                text.encode_utf16().flat_map(|u| if big_endian { u.to_be_bytes() } else { u.to_le_bytes() }).collect()
            };
            let bytes = wide(&text);
            let options = Options::default();
            let frames: Vec<_> = split(&bytes, &options).collect();
            assert_eq!(frames.len(), 2);
            assert_eq!(read(frames[0].bytes, &options).unwrap().studies[0].text.expose(), "Größe ഊ ਍");
            let mllp = [b"\x0b".to_vec(), wide(&text), b"\x1c\r\x0bMSH|^~\\&|3\x1c\r".to_vec()].concat();
            assert_eq!(split(&mllp, &options).filter(|frame| frame.reject.is_none()).count(), 3);
        }
        assert_eq!(
            refused(&[0xFF, 0xFE, b'M', 0, b'S', 0, b'H', 0, b'|', 0, b'^', 0, b'~', 0, b'\r', 0, 0, 0xD8]).code,
            Code::BadEncoding
        );
    }

    proptest! {
        /// Messages come back byte by byte, whatever they are framed in, and what is between them is only framing.
        #[test]
        fn nothing_is_lost(bodies in prop::collection::vec("[ -Z^-~\u{e9}]{0,20}", 1..6), framing in 0..4usize, end in 0..3usize) {
            let end = ["\r", "\n", "\r\n"][end];
            let messages: Vec<String> = bodies.iter().map(|body| format!("MSH|^~\\&|{body}{end}ZZZ|{body}")).collect();
            let input: String = match framing {
                0 => messages.join(end),
                1 => messages.iter().map(|m| format!("\x0b{m}{end}\x1c\r")).collect(),
                2 => format!("BHS|^~\\&{end}{}{end}BTS|{}", messages.join(end), messages.len()),
                _ => messages.iter().map(|m| format!("{m}{end}{end}")).collect(),
            };
            let options = Options::default();
            let mut split = split(input.as_bytes(), &options);
            let frames: Vec<_> = split.by_ref().collect();
            prop_assert!(split.warnings().is_empty());
            let found: Vec<_> = frames.iter().map(|frame| String::from_utf8_lossy(frame.bytes).into_owned()).collect();
            prop_assert_eq!(found, messages);
            for frame in frames {
                prop_assert_eq!(&input.as_bytes()[frame.offset..frame.offset + frame.bytes.len()], frame.bytes);
            }
        }

        /// Of any bytes, every one that is not framing is in some frame, in order.
        #[test]
        fn any_bytes_are_accounted_for(input in prop::collection::vec(prop::sample::select(&b"MSHB|^~\\&\r\n\x0b\x1c\xEF\xBB\xBF\xFF\xFE\0 aT"[..]), 0..80)) {
            let options = Options::default();
            let mut at = 0;
            for frame in split(&input, &options) {
                prop_assert!(frame.offset >= at || frame.bytes.is_empty());
                let end = frame.offset + frame.bytes.len();
                prop_assert_eq!(&input[frame.offset..end], frame.bytes);
                at = end;
            }
            let _ = read(&input, &options);
        }
    }
}

mod kinds {
    use super::*;

    fn with_type(kind: &str) -> Message {
        let bytes = format!("MSH|^~\\&|||||||{kind}|C1\rOBR|1||R1\rOBX|1|TX|||Bulge\r");
        opened(bytes.as_bytes())
    }

    #[test]
    fn reports_are_told_by_msh_9() {
        for kind in [
            "ORU^R01",
            "ORU^R30",
            "ORU^R31",
            "ORU^R32^ORU_R30",
            "ORU^R40",
            "MDM^T02",
            "MDM^T04",
            "MDM^T06",
            "MDM^T08",
            "MDM^T10",
            "ORU",
            "MDM",
            "ORU_R01",
        ] {
            let message = with_type(kind);
            assert!(message.is_report && message.studies.len() == 1, "{kind}");
        }
        for kind in ["ADT^A01", "ORU^R03", "MDM^T01", "ORM^O01", "", "ACK^R01"] {
            let message = with_type(kind);
            assert!(!message.is_report && message.studies.is_empty(), "{kind}");
        }
        assert_eq!(with_type("ADT^A01").kind.to_string(), "ADT^A01");
        // A name in the place of the type is not shown.
        for shifted in ["DOE^JAN", "DOE^JANE", "JANE^R01", ""] {
            let kind = with_type(shifted).kind;
            assert_eq!((kind.to_string().as_str(), format!("{kind:?}").as_str()), ("unknown type", "unknown type"));
        }
    }

    #[test]
    fn each_order_with_narrative_is_a_study_and_others_are_linked() {
        let message = opened(&message(
            "ORC|RE|P0|F0\nOBR|1|P0|F0\nORC|RE|P1|F1\nOBR|2|P1|F1|^MR LUMBAR\nOBX|1|TX|||Bulge at L4-5.\nORC|RE|P2|F2\nOBR|3||F2\n\
             ORC|RE||F3\nOBR|4|||^MR CERVICAL\nOBX|1|TX|||Bulge at C4-5.",
        ));
        let found: Vec<_> = message
            .studies
            .iter()
            .map(|s| (s.report_id.as_str(), s.linked_ids.clone(), s.text.expose().as_str()))
            .collect();
        assert_eq!(
            found,
            [("F1", vec!["F0".to_owned(), "F2".to_owned()], "Bulge at L4-5."), ("F3", vec![], "Bulge at C4-5.")]
        );
        assert_eq!(message.studies[1].exam.as_deref(), Some("MR CERVICAL"));
    }

    #[test]
    fn an_mdm_message_is_one_document() {
        let bytes = "MSH|^~\\&|||||||MDM^T02|C1\rORC|RE||F1\rOBR|1||F1\rORC|RE||F2\rOBR|2||F2\rTXA|1|DI|TX|||||||||U1|U0||||AU\rOBX|1|TX|||Bulge";
        let study = &opened(bytes.as_bytes()).studies[0];
        assert_eq!((study.report_id.as_str(), study.linked_ids.as_slice()), ("F1", &["F2".to_owned()][..]));
        assert_eq!(study.parent_id.as_deref(), Some("U0"));
    }
}

mod ids {
    use super::*;

    #[test]
    fn the_first_identifier_that_is_there() {
        for (segments, expected) in [
            ("ORC|RE|P^A|F^A\nOBR|1|p^A|f^A\nOBX|1|TX|||x", "f"),
            ("ORC|RE|P^A|F^A\nOBR|1|p^A\nOBX|1|TX|||x", "p"),
            ("ORC|RE|P^A|F^A\nOBR|1\nOBX|1|TX|||x", "F"),
            ("ORC|RE|P^A\nOBR|1||\"\"\nOBX|1|TX|||x", "P"),
            ("OBR|1\nTXA|1|||||||||||U1^A\nOBX|1|TX|||x", "U1"),
            ("OBR|1\nOBX|1|TX|||x", "C1"),
        ] {
            assert_eq!(only(segments).report_id, expected, "{segments}");
        }
        let options: Options = toml::from_str("report_id = ['ZDS-1.1', 'OBR-18']").unwrap();
        let bytes = message("OBR|1||f|||||||||||||||ACC\nOBX|1|TX|||x\nZDS|2.25.1^X");
        assert_eq!(read(&bytes, &options).unwrap().studies[0].report_id, "2.25.1");
        let reject = read(b"MSH|^~\\&|||||||ORU^R01\rOBR|1\rOBX|1|TX|||x", &options).unwrap_err();
        assert_eq!(reject.code, Code::NoId);
    }

    #[test]
    fn the_patient_by_record_number() {
        let id = |pid: &str| only(&format!("{pid}\nOBR|1||R\nOBX|1|TX|||x")).patient_id.map(Phi::into_exposed);
        assert_eq!(id("PID|1|a|b^^^X^EE~c^^^X^MR~d^^^X^PI").as_deref(), Some("c"));
        assert_eq!(id("PID|1|a|b^^^X^EE~d^^^X^PI").as_deref(), Some("d"));
        assert_eq!(id("PID|1|a|b^^^X^EE").as_deref(), Some("b"));
        assert_eq!(id("PID|1|a^^^X").as_deref(), Some("a"));
        assert_eq!(id("PID|1"), None);
    }

    #[test]
    fn each_report_has_the_patient_that_stands_before_it() {
        let message = opened(&message(
            "PID|1||a^^^X^MR\nORC|RE\nOBR|1||R1\nOBX|1|TX|||x\nOBR|2||R2\nOBX|1|TX|||y\nPID|2||b^^^X^MR\nORC|RE\nOBR|1||R3\nOBX|1|TX|||z",
        ));
        let patient = |study: &Study| study.patient_id.as_ref().map(|id| id.expose().clone()).unwrap_or_default();
        let found: Vec<_> = message.studies.iter().map(|study| (study.report_id.as_str(), patient(study))).collect();
        assert_eq!(found, [("R1", "a".to_owned()), ("R2", "a".to_owned()), ("R3", "b".to_owned())]);
    }

    #[test]
    fn the_exam_by_text_code_or_procedure() {
        let exam =
            |obr4: &str, obr44: &str| only(&format!("OBR|1||R|{obr4}|{}{obr44}\nOBX|1|TX|||x", "|".repeat(39))).exam;
        assert_eq!(exam("MR1^ MRI LUMBAR ^L", "x^y").as_deref(), Some("MRI LUMBAR"));
        assert_eq!(exam("MR1", "x^y").as_deref(), Some("MR1"));
        assert_eq!(exam("", "x^y").as_deref(), Some("y"));
    }

    #[test]
    fn times_with_and_without_an_offset() {
        let times = |obr7: &str, obr22: &str| {
            let message = opened(&message(&format!("OBR|1||R||||{obr7}|||||||||||||||{obr22}\nOBX|1|TX|||x")));
            let format = |time: chrono::DateTime<chrono::Utc>| time.format("%d %H:%M").to_string();
            let study = &message.studies[0];
            (study.reported_at.map(format), study.version_at.map(format), message.notices.bad_times)
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(times("20240304", "202403051200"), (some("05 11:00"), some("05 11:00"), 0));
        assert_eq!(times("202403041200-0500", ""), (some("04 17:00"), some("06 10:12"), 0));
        assert_eq!(times("", ""), (some("06 10:12"), some("06 10:12"), 0));
        assert_eq!(times("soon", "2024-03-05"), (some("06 10:12"), some("06 10:12"), 2));
        let options: Options = toml::from_str("zone = '-0500'").unwrap();
        let bytes = b"MSH|^~\\&|||||20240306||ORU^R01|C1\rOBR|1||R\rOBX|1|TX|||x";
        assert_eq!(read(bytes, &options).unwrap().studies[0].reported_at.map(|t| t.timestamp()), Some(1_709_701_200));
    }

    #[test]
    fn sender_and_control_id_travel_with_the_study() {
        let study = only("OBR|1||R\nOBX|1|TX|||x");
        assert_eq!(study.sending_application.as_deref(), Some("RIS"));
        assert_eq!(study.sending_facility.as_deref(), Some("HOSP"));
        assert_eq!(study.message_control_id.as_deref(), Some("C1"));
    }
}

mod narrative {
    use super::*;

    fn of(obx: &str) -> String {
        text(&format!("OBR|1||R\n{obx}"))
    }

    #[test]
    fn value_types() {
        assert_eq!(
            of("OBX|1|TX|||A.\nOBX|2|FT|||B.\nOBX|3|ST|||C.\nOBX|4||||D.\nOBX|5|CE|||X^E.^L\nOBX|6|CWE|||X^^L^^^^^^F."),
            "A.\nB.\nC.\nD.\nE.\nF."
        );
        assert_eq!(of("OBX|1|TX|||a\nOBX|2|NM|||98\nOBX|3|SN|||>^5\nOBX|4|DT|||20240101\nOBX|5|CE|||N^^L"), "a");
        assert_eq!(of("OBX|1|ED|||^TEXT^^Base64^QnVsZ2U="), "Bulge");
        let message = opened(&message("OBR|1||R\nOBX|1|TX|||a\nOBX|2|RP|||1^x\nOBX|3|ED|||^AP^PDF^Base64^JVBE"));
        assert_eq!((message.notices.attachments, message.studies[0].text.expose().as_str()), (2, "a"));
    }

    #[test]
    fn repetitions_and_empty_values_are_lines() {
        assert_eq!(
            of("OBX|1|TX|||one.~two.~~~three.\nOBX|2|TX|||\nOBX|3|TX\nOBX|4|TX|||\"\"\nOBX|5|TX|||four."),
            "one.\ntwo.\n\nthree.\n\nfour."
        );
    }

    #[test]
    fn one_printed_line_an_obx_reads_as_a_paragraph() {
        assert_eq!(
            of(
                "OBX|1|ST|&GDT||Broad based disc bulge at the level of L4-5 which abuts the\nOBX|2|ST|&GDT||thecal sac without compression. The other discs are normal in\nOBX|3|ST|&GDT||height and signal."
            ),
            "Broad based disc bulge at the level of L4-5 which abuts the thecal sac without compression. The other discs are normal in height and signal."
        );
    }

    #[test]
    fn sections_from_obx_3() {
        assert_eq!(
            of(
                "OBX|1|TX|11329-0^History^LN||Pain.\nOBX|2|TX|IMG1&GDT||L4-5 bulge.\nOBX|3|TX|IMG1\\T\\IMP||Bulge.\nOBX|4|TX|&TCM||Moved.\nOBX|5|TX|&ADT||Left, not right.\nOBX|6|TX|59776-5||L5-S1 normal."
            ),
            "CLINICAL HISTORY:\nPain.\nFINDINGS:\nL4-5 bulge.\nIMPRESSION:\nBulge.\nFINDINGS:\nL5-S1 normal.\nADDENDUM:\nLeft, not right."
        );
        assert_eq!(
            of("OBX|1|TX|^Technique||Sagittal.\nOBX|2|TX|^Findings||Bulge."),
            "TECHNIQUE:\nSagittal.\nFINDINGS:\nBulge."
        );
    }

    #[test]
    fn notes_are_the_text_only_where_there_is_no_other() {
        assert_eq!(of("NTE|1||Bulge at~L4-5\\.br\\mild"), "Bulge at L4-5\nmild");
        assert_eq!(of("NTE|1||not read\nOBX|1|TX|||Bulge\nNTE|1||not read"), "Bulge");
        assert_eq!(refused(&message("OBR|1||R\nOBX|1|NM|||5\nNTE|1||Of the value")).code, Code::NoText);
    }

    #[test]
    fn a_separator_that_should_have_been_escaped_is_text() {
        assert_eq!(of("OBX|1|TX|||R&D ^ up"), "R&D ^ up");
        assert_eq!(of("OBX|1|FT|||Disc L4-5 | L5-S1 both bulge"), "Disc L4-5 | L5-S1 both bulge");
        assert_eq!(of("OBX|1|TX|||Disc|mm|1-2|||F|||x y"), "Disc");
    }

    #[test]
    fn a_line_end_within_a_field_is_a_line_of_text() {
        let message = opened(&message("OBR|1||R\nOBX|1|TX|||First line\nSecond line.||||||F"));
        assert_eq!(message.studies[0].text.expose(), "First line\nSecond line.");
        assert_eq!(message.notices.continued_lines, 1);
    }

    #[test]
    fn text_is_decoded_in_the_messages_character_set() {
        let bytes = b"MSH|^~\\&|||||||ORU^R01|C1||||||||8859/1\rOBR|1||R\rOBX|1|TX|||Gr\xf6\\XDF\\e\r";
        assert_eq!(opened(bytes).studies[0].text.expose(), "Größe");
        let message = opened(b"MSH|^~\\&|||||||ORU^R01|C1\rOBR|1||R\rOBX|1|TX|||\xb160%\r");
        assert_eq!(
            (message.studies[0].text.expose().as_str(), message.notices.charset),
            ("±60%", Some(Fallback::Absent))
        );
        let options: Options = toml::from_str("charset = '8859/2'").unwrap();
        let bytes = b"MSH|^~\\&|||||||ORU^R01|C1||||||||UNICODE UTF-8\rOBR|1||R\rOBX|1|TX|||\xb3\r";
        assert_eq!(read(bytes, &options).unwrap().studies[0].text.expose(), "ł");
    }

    #[test]
    fn separators_of_the_message_are_used() {
        let bytes = "MSH#!@%*#RIS######ORU!R01#C1\rOBR#1##R!x\rOBX#1#TX#*IMP##a%T%b@c%F%d";
        let study = &opened(bytes.as_bytes()).studies[0];
        assert_eq!((study.report_id.as_str(), study.text.expose().as_str()), ("R", "IMPRESSION:\na*b\nc#d"));
        let bytes = "MSH|^\u{2DC}\\&|RIS||||||ORU^R01|C1|||||||||\rPID|1||1^^^^EE\u{2DC}2^^^^MR\rOBR|1||R\rOBX|1|TX|||a~\u{2DC}b";
        let study = &opened(bytes.as_bytes()).studies[0];
        assert_eq!(
            (study.patient_id.as_ref().unwrap().expose().as_str(), study.text.expose().as_str()),
            ("2", "a~\nb")
        );
        assert_eq!(refused(b"MSH|^|RIS").code, Code::BadSeparators);
    }
}

mod statuses {
    use super::*;

    fn status(obr25: &str, obx11: &[&str]) -> Status {
        let obx: String = obx11.iter().map(|code| format!("\nOBX|1|TX|||x.||||||{code}")).collect();
        only(&format!("OBR|1||R{}{obr25}{obx}", "|".repeat(22))).status
    }

    #[test]
    fn obx_11_decides_worst_first_then_obr_25_then_final() {
        assert_eq!(status("", &[""]), Status::Final);
        assert_eq!(status("P", &[""]), Status::Preliminary);
        assert_eq!(status("P", &["F"]), Status::Final);
        assert_eq!(status("F", &["F", "P"]), Status::Preliminary);
        assert_eq!(status("F", &["C", "F"]), Status::Corrected);
        assert_eq!(status("F", &["F", "D", "C"]), Status::Retracted);
        assert_eq!(status("", &["Wet Read"]), Status::Preliminary);
        assert_eq!(status("", &["Final"]), Status::Final);
        assert_eq!(status("X", &[""]), Status::Retracted);
    }

    #[test]
    fn an_unknown_code_is_preliminary_and_counted() {
        let message = opened(&message("OBR|1||R\nOBX|1|TX|||x||||||Q"));
        assert_eq!((message.studies[0].status, message.notices.unknown_statuses), (Status::Preliminary, 1));
    }

    #[test]
    fn a_retraction_or_a_change_of_status_needs_no_text() {
        for (code, status) in
            [("D", Status::Retracted), ("W", Status::Retracted), ("X", Status::Retracted), ("U", Status::Final)]
        {
            let study = only(&format!("OBR|1||R\nOBX|1|TX|||||||||{code}"));
            assert_eq!((study.status, study.text.expose().as_str()), (status, ""), "{code}");
        }
        assert_eq!(only(&format!("OBR|1||R{}X", "|".repeat(22))).status, Status::Retracted);
    }

    #[test]
    fn a_retraction_whose_document_does_not_decode_is_still_one() {
        let study = only("OBR|1||R\nOBX|1|ED|||^TEXT^^Base64^QnVsZ||||||D");
        assert_eq!((study.status, study.text.expose().as_str()), (Status::Retracted, ""));
    }

    #[test]
    fn what_has_no_result_is_nothing_to_do() {
        for code in ["I", "O", "N", "Y", "Z"] {
            let message = opened(&message(&format!("OBR|1||R\nOBX|1|TX|||pending||||||{code}")));
            assert!(message.studies.is_empty() && message.notices.without_result == 1, "{code}");
        }
    }

    #[test]
    fn documents_by_txa_and_event() {
        let status = |event: &str, txa: &str, obx11: &str| {
            let bytes =
                format!("MSH|^~\\&|||||||MDM^{event}|C1\rTXA|1|||||||||||U1|U0||||{txa}\rOBX|1|TX|||x||||||{obx11}");
            opened(bytes.as_bytes()).studies[0].status
        };
        assert_eq!(status("T02", "AU", "F"), Status::Final);
        assert_eq!(status("T02", "LA", ""), Status::Final);
        for code in ["DI", "DO", "IN", "IP", "PA"] {
            assert_eq!(status("T02", code, ""), Status::Preliminary, "{code}");
        }
        for event in ["T06", "T08", "T10"] {
            assert_eq!(status(event, "AU", "F"), Status::Corrected, "{event}");
        }
        assert_eq!(status("T04", "LA", "D"), Status::Retracted);
        assert_eq!(status("T02", "AU||CA", "F"), Status::Retracted);
        assert_eq!(status("T02", "AU||UN", "F"), Status::Retracted);
        let withdrawn = opened(b"MSH|^~\\&|||||||MDM^T11|C1\rTXA|1|||||||||||U1");
        assert_eq!((withdrawn.studies[0].status, withdrawn.studies[0].report_id.as_str()), (Status::Retracted, "U1"));
    }
}

mod rejects {
    use super::*;

    #[test]
    fn each_says_code_stage_place_and_control_id() {
        for (segments, code, stage, place) in [
            ("OBR|1||R\nOBX|1|NM|||5", Code::NoText, Stage::Text, "OBR[1] (byte 73)"),
            (
                "OBR|1||R\nOBX|1|TX|||a\nOBX|2|ED|||^TEXT^^Base64^QnVsZ",
                Code::BadBase64,
                Stage::Decode,
                "OBX[2]-5 (byte 106)",
            ),
            (
                "OBR|1||R\nOBX|1|ED|||^TEXT^XML^A^<ClinicalDocument>",
                Code::BadDocument,
                Stage::Decode,
                "OBX[1]-5 (byte 93)",
            ),
            ("OBR|1||R\nOBX|1|TX|||a\\.b", Code::Truncated, Stage::Parse, "OBX[1] (byte 82)"),
        ] {
            let reject = refused(&message(segments));
            assert_eq!((reject.code, reject.stage, reject.position.to_string().as_str()), (code, stage, place));
            assert_eq!(reject.control_id.as_deref(), Some("C1"));
        }
    }

    #[test]
    fn no_content_in_an_error_or_in_debug() {
        let secret = "SECRETNAME";
        for segments in [
            format!("PID|1||{secret}\nOBR|1||R\nOBX|1|TX|||{secret} x"),
            format!("PID|1||{secret}\nOBR|1||R\nOBX|1|ED|||^TEXT^^Base64^{secret}!"),
            format!("PID|1||{secret}\nOBR|1||R\nOBX|1|TX|||{secret}\\.b"),
        ] {
            let shown = match read(&message(&segments), &Options::default()) {
                Ok(message) => format!("{message:?}"),
                Err(reject) => format!("{reject} {reject:?}"),
            };
            assert!(!shown.contains(secret), "{shown}");
        }
        // Arguments that were swapped.
        let swapped = field(b"OBX-5", secret.repeat(3).as_str(), &Options::default()).unwrap_err();
        assert!(!swapped.to_string().contains(secret), "{swapped}");
        let frames: Vec<_> = split(b"MSH|^~\\&|ab", &Options::default()).collect();
        assert_eq!(format!("{frames:?}"), "[Frame { offset: 0, bytes: 11, reject: None }]");
    }

    #[test]
    fn options_refuse_what_they_do_not_know() {
        assert_eq!(toml::from_str::<Options>("").unwrap(), Options::default());
        for bad in ["charsets = 'x'", "charset = 'x'", "zone = 'CET'", "report_id = ['OBR']"] {
            assert!(toml::from_str::<Options>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_path_that_is_none_is_an_error_of_its_own() {
        let options = Options::default();
        let bytes = message("OBX|1|TX|||a\\T\\b~c\nOBX|2|TX|||second");
        assert_eq!(field(&bytes, "OBX[2]-5", &options), Ok(Some("second".to_owned())));
        assert_eq!(field(&bytes, "OBX-5[1]", &options), Ok(Some("a&b".to_owned())));
        assert_eq!(field(&bytes, "MSH-2", &options), Ok(Some("^~\\&".to_owned())));
        assert_eq!(field(&bytes, "MSH-9.2", &options), Ok(Some("R01".to_owned())));
        assert_eq!(field(&bytes, "PID-3", &options), Ok(None));
        assert!(matches!(field(&bytes, "OBX5", &options), Err(FieldError::Path(_))));
        assert!(matches!(field(b"junk", "OBX-5", &options), Err(FieldError::Message(_))));
    }
}
