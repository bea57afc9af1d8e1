//! foramen reads graded findings for each motion segment of the spine from radiology reports.
//!
//! The way of a report: bytes → [`hl7`] (messages, studies) → [`report`] (motion segments with their evidence) → [`model`] (grades, by one
//! multi-task transformer with the tasks of [`labels`]) → [`archive`] (finding rows in files) or [`sql`] (the same in DataFusion queries) or `stream` (Kafka); [`interchange`] brings them into
//! the forms of others (RSNA labels, FHIR).
//! [`train`] makes the model.
#![forbid(unsafe_code)]

pub mod archive;
#[cfg(feature = "distributed")]
pub mod cluster;
pub mod hl7;
pub mod interchange;
pub mod labels;
pub mod model;
pub mod report;
pub mod sql;
#[cfg(feature = "kafka")]
pub mod stream;
#[cfg(feature = "train")]
pub mod train;
