//! The list of all functions.

use crate::engine::{MessageReader, ReportModel};
use crate::{
    embed_segments_udf, explain_findings_udf, extract_findings_udf, foramen_model_udf, gradient_conflict_rate_udaf,
    gradient_cosine_udaf, hl7_error_udf, hl7_field_udf, hl7_report_udf, hl7_reports_udf, linear_cka_debiased_udaf,
    linear_cka_interval_udaf, linear_cka_udaf, procrustes_similarity_udaf, pwcca_udaf, rbf_cka_udaf,
    report_segments_udf, svcca_udaf,
};
use datafusion::common::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use std::sync::Arc;

/// Every scalar function of this crate.
pub fn all_scalar(model: &Arc<dyn ReportModel>, reader: &Arc<dyn MessageReader>) -> Vec<ScalarUDF> {
    vec![
        extract_findings_udf(Arc::clone(model)),
        explain_findings_udf(Arc::clone(model)),
        report_segments_udf(Arc::clone(model)),
        embed_segments_udf(Arc::clone(model)),
        foramen_model_udf(Arc::clone(model)),
        hl7_report_udf(Arc::clone(reader)),
        hl7_reports_udf(Arc::clone(reader)),
        hl7_error_udf(Arc::clone(reader)),
        hl7_field_udf(Arc::clone(reader)),
    ]
}

/// Every aggregate of this crate.
pub fn all_aggregate() -> Vec<AggregateUDF> {
    vec![
        linear_cka_udaf(),
        linear_cka_debiased_udaf(),
        linear_cka_interval_udaf(),
        rbf_cka_udaf(),
        svcca_udaf(),
        pwcca_udaf(),
        procrustes_similarity_udaf(),
        gradient_cosine_udaf(),
        gradient_conflict_rate_udaf(),
    ]
}

/// Registers every function of this crate.
///
/// # Errors
/// When the registry takes no functions.
pub fn register_all(
    registry: &mut dyn FunctionRegistry,
    model: &Arc<dyn ReportModel>,
    reader: &Arc<dyn MessageReader>,
) -> Result<()> {
    for function in all_scalar(model, reader) {
        registry.register_udf(Arc::new(function))?;
    }
    for aggregate in all_aggregate() {
        registry.register_udaf(Arc::new(aggregate))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use std::collections::BTreeSet;
    use std::path::Path;

    fn functions() -> Vec<ScalarUDF> {
        let (model, reader) = testing::engines();
        all_scalar(&(model as Arc<dyn ReportModel>), &reader)
    }

    #[test]
    fn names_and_aliases_are_unique_here_and_beside_those_of_datafusion() {
        let mut taken: BTreeSet<String> = BTreeSet::new();
        let state = datafusion::execution::SessionStateBuilder::new_with_default_features().build();
        taken.extend(state.scalar_functions().keys().cloned());
        taken.extend(state.aggregate_functions().keys().cloned());
        taken.extend(state.window_functions().keys().cloned());
        let (scalar, aggregate) = (functions(), all_aggregate());
        let scalar = scalar.iter().map(|function| (function.name(), function.aliases()));
        let aggregate = aggregate.iter().map(|function| (function.name(), function.aliases()));
        for (name, aliases) in scalar.chain(aggregate) {
            for name in std::iter::once(name).chain(aliases.iter().map(String::as_str)) {
                assert!(taken.insert(name.to_owned()), "{name} is there twice");
            }
        }
    }

    #[test]
    fn every_function_has_an_example_and_an_slt_file() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/slt");
        let (scalar, aggregate) = (functions(), all_aggregate());
        let scalar = scalar.iter().map(|function| (function.name(), function.documentation()));
        let aggregate = aggregate.iter().map(|function| (function.name(), function.documentation()));
        for (name, documentation) in scalar.chain(aggregate) {
            let documentation = documentation.expect(name);
            assert!(documentation.syntax_example.starts_with(name), "{name}");
            let example = documentation.sql_example.as_ref().expect(name);
            assert!(example.contains(&format!("{name}(")) && example.contains("\n+-"), "{name}: query and answer");
            let arguments = documentation.arguments.as_ref().map_or(0, Vec::len);
            assert_eq!(arguments > 0, !documentation.syntax_example.ends_with("()"), "{name}");
            let text = std::fs::read_to_string(root.join(format!("{name}.slt"))).expect(name);
            assert!(text.contains(name), "{name}.slt does not use it");
        }
    }
}
