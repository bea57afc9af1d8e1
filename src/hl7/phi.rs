//! A wrapper that keeps protected health information out of logs and error texts.

use std::fmt;

/// A value that identifies or describes a patient. `Debug` and `Display` mask it; [`Phi::expose`] is the one way to the content,
/// so that a search for `expose` finds every place where it leaves.
///
/// ```
/// use foramen::hl7::Phi;
///
/// let patient = Phi::new("4711-0815".to_owned());
/// assert_eq!(format!("{patient} {patient:?}"), "*** ***");
/// assert_eq!(patient.expose(), "4711-0815");
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Phi<T>(T);

impl<T> Phi<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself.
    pub fn expose(&self) -> &T {
        &self.0
    }

    /// The value itself, by value.
    pub fn into_exposed(self) -> T {
        self.0
    }
}

impl<T> fmt::Debug for Phi<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<T> fmt::Display for Phi<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
