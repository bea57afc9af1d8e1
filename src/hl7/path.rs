//! HL7 path notation: `OBX-5`, `PID-3.1`, `OBX[2]-5.1`, `PID-3[2].1`.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// A place in a message. Without an index the first segment of the name is meant; without a repetition the whole field, or the
/// component of its first repetition.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Path {
    pub(super) segment: String,
    pub(super) index: usize,
    pub(super) field: usize,
    pub(super) repetition: Option<usize>,
    pub(super) component: Option<usize>,
    pub(super) subcomponent: Option<usize>,
}

/// A text that is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} is no HL7 path: write a segment, a field and, where needed, a component, as in OBX-5, PID-3.1, OBX[2]-5 or PID-3[2].1",
    shown(.path)
)]
pub struct PathError {
    /// What was given.
    pub path: String,
}

/// The path, unless it is longer than a path can be: then it may be a message, given in the wrong place.
fn shown(path: &str) -> String {
    const LONGEST: usize = 20;
    if path.len() <= LONGEST { format!("`{path}`") } else { "this text".to_owned() }
}

impl FromStr for Path {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        parse(text.trim()).ok_or_else(|| PathError { path: text.to_owned() })
    }
}

impl TryFrom<String> for Path {
    type Error = PathError;

    fn try_from(text: String) -> Result<Self, PathError> {
        text.parse()
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.segment)?;
        if self.index > 1 {
            write!(f, "[{}]", self.index)?;
        }
        write!(f, "-{}", self.field)?;
        if let Some(repetition) = self.repetition {
            write!(f, "[{repetition}]")?;
        }
        for part in [self.component, self.subcomponent].into_iter().flatten() {
            write!(f, ".{part}")?;
        }
        Ok(())
    }
}

fn parse(text: &str) -> Option<Path> {
    let (segment, field) = text.split_once('-')?;
    let (name, index) = indexed(segment)?;
    if name.len() != 3 || !name.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let mut parts = field.split('.');
    let (number, repetition) = indexed(parts.next()?)?;
    let component = parts.next().map(positive).map_or(Some(None), |p| p.map(Some))?;
    let subcomponent = parts.next().map(positive).map_or(Some(None), |p| p.map(Some))?;
    parts.next().is_none().then_some(())?;
    Some(Path {
        segment: name.to_ascii_uppercase(),
        index: index.unwrap_or(1),
        field: positive(number)?,
        repetition,
        component,
        subcomponent,
    })
}

/// `name[2]` or `name`.
fn indexed(text: &str) -> Option<(&str, Option<usize>)> {
    match text.split_once('[') {
        None => Some((text, None)),
        Some((name, rest)) => Some((name, Some(positive(rest.strip_suffix(']')?)?))),
    }
}

fn positive(text: &str) -> Option<usize> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?.filter(|n| *n > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_come_back() {
        for text in ["OBX-5", "PID-3.1", "OBX[2]-5.1", "PID-3[2].1", "ZDS-1.1.2", "OBX[12]-5[3].4.5"] {
            assert_eq!(text.parse::<Path>().unwrap().to_string(), text);
        }
        assert_eq!("obx[1]-5".parse::<Path>().unwrap().to_string(), "OBX-5");
    }

    #[test]
    fn what_is_no_path_says_so() {
        for text in [
            "",
            "OBX",
            "OBX-",
            "OBX-0",
            "OBX-a",
            "OB-5",
            "OBXX-5",
            "OBX[0]-5",
            "OBX[2-5",
            "OBX-5.1.1.1",
            "OBX-5.",
            "OBX-+5",
            "ÖX-5",
        ] {
            let error = text.parse::<Path>().unwrap_err();
            assert_eq!(error.path, text);
            assert!(error.to_string().contains("PID-3.1"));
        }
    }
}
