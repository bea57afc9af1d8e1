//! foramen's SQL functions for DataFusion.
//!
//! Scalar functions over radiology reports and HL7 v2 messages, aggregates over embeddings and gradients, and HL7 files as tables.
//! What a model and an HL7 reader are is said by the two traits of [`engine`]; everything else is Arrow in, Arrow out.
//!
//! [`register_all`] puts the functions into a registry, [`register_hl7_tables`] the tables into a session.

pub mod engine;

mod alignment;
mod embed_segments;
mod exec;
mod explain_findings;
mod extract_findings;
mod foramen_model;
mod hl7_error;
mod hl7_field;
mod hl7_report;
mod hl7_reports;
mod hl7_table;
mod register;
mod report_segments;
mod rows;
mod sharing;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use alignment::{
    ALIGNMENT, gradient_conflict_rate_udaf, gradient_cosine_udaf, linear_cka_debiased_udaf, linear_cka_interval_udaf,
    linear_cka_udaf, procrustes_similarity_udaf, pwcca_udaf, rbf_cka_udaf, svcca_udaf,
};
pub use embed_segments::embed_segments_udf;
pub use exec::SECTION;
pub use explain_findings::explain_findings_udf;
pub use extract_findings::extract_findings_udf;
pub use foramen_model::foramen_model_udf;
pub use hl7_error::hl7_error_udf;
pub use hl7_field::hl7_field_udf;
pub use hl7_report::hl7_report_udf;
pub use hl7_reports::hl7_reports_udf;
pub use hl7_table::{hl7_source, hl7_table_factory, hl7_table_schema, register_hl7_tables};
pub use register::{all_aggregate, all_scalar, register_all};
pub use report_segments::report_segments_udf;
pub use sharing::{MIN_COSINE, MIN_SIMILARITY, SHARING, all_table, register_sharing_tables, sharing_documentation};
