//! `embed_segments(text [, layer])`: the encoder's hidden state for each motion segment of a report.

use crate::engine::{Embedding, ModelInfo, ReportModel};
use crate::exec::{Argument, Call, Function, SECTION, literal_integer};
use crate::rows::{failed, list_of, lists, segment_columns, text};
use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err};
use datafusion::logical_expr::{Documentation, ScalarUDF};
use std::collections::BTreeMap;
use std::sync::Arc;

const NAME: &str = "embed_segments";

/// `embed_segments(text [, layer]) → List<Struct<region, level, embedding: FixedSizeList<Float32, width>>>`.
pub fn embed_segments_udf(model: Arc<dyn ReportModel>) -> ScalarUDF {
    let planned = Arc::clone(&model);
    Function {
        name: NAME,
        arguments: &[Argument::Text, Argument::Integer],
        required: 1,
        returns: Box::new(move |literals| returns(planned.as_ref(), literals)),
        kernel: Box::new(move |call| answer(call, model.as_ref())),
        documentation: documentation(),
    }
    .into_udf()
}

fn returns(model: &dyn ReportModel, literals: &[Option<&ScalarValue>]) -> Result<DataType> {
    let info = info(model)?;
    if let Some(layer) = literals.get(1).copied().flatten().and_then(literal_integer) {
        check(info, layer)?;
    }
    Ok(list_of(fields(info)?))
}

fn info(model: &dyn ReportModel) -> Result<&ModelInfo> {
    model.info().map_err(|error| failed(NAME, &error))
}

fn check(info: &ModelInfo, layer: i64) -> Result<usize> {
    match usize::try_from(layer) {
        Ok(number) if number <= info.layers => Ok(number),
        _ => exec_err!("{NAME}: argument 2 is layer {layer}; {} has layers 0 to {}", info.id, info.layers),
    }
}

fn width(info: &ModelInfo) -> Result<i32> {
    i32::try_from(info.width)
        .map_err(|_| exec_datafusion_err!("{NAME}: embeddings of {} values are too wide", info.width))
}

fn value() -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Float32, true))
}

fn fields(info: &ModelInfo) -> Result<Fields> {
    let embedding = Field::new("embedding", DataType::FixedSizeList(value(), width(info)?), true);
    Ok(Fields::from(vec![text("region"), text("level"), embedding]))
}

fn answer(call: &Call, model: &dyn ReportModel) -> Result<ArrayRef> {
    let info = info(model)?;
    let texts = call.texts(0)?;
    let layers = layers(call, info)?;
    let asked: Vec<Option<(&str, usize)>> =
        texts.into_iter().zip(layers).map(|(text, layer)| text.zip(layer)).collect();
    let found = embed(&asked, model)?;
    let rows = || found.iter().flatten();
    let [region, level, _] = segment_columns(rows().map(|embedding| &embedding.segment));
    if rows().any(|embedding| embedding.values.len() != info.width) {
        return exec_err!("{NAME}: the model's answer is not as wide as it says");
    }
    let values = Float32Array::from_iter_values(rows().flat_map(|embedding| embedding.values.iter().copied()));
    let embeddings = FixedSizeListArray::try_new(value(), width(info)?, Arc::new(values), None)?;
    lists(&asked, &found, fields(info)?, vec![region, level, Arc::new(embeddings)])
}

/// The layer that each row asks for: the last where none is named, none where it is NULL.
fn layers(call: &Call, info: &ModelInfo) -> Result<Vec<Option<usize>>> {
    if call.len() < 2 {
        return Ok(vec![Some(info.layers); call.rows]);
    }
    call.integers(1)?.iter().map(|layer| layer.map(|layer| check(info, layer)).transpose()).collect()
}

/// Asks the model once for each layer, with all of that layer's texts.
fn embed(asked: &[Option<(&str, usize)>], model: &dyn ReportModel) -> Result<Vec<Vec<Embedding>>> {
    let mut by_layer: BTreeMap<usize, (Vec<usize>, Vec<&str>)> = BTreeMap::new();
    let asked: Vec<(&str, usize)> = asked.iter().copied().flatten().collect();
    for (place, (text, layer)) in asked.iter().enumerate() {
        let (places, texts) = by_layer.entry(*layer).or_default();
        places.push(place);
        texts.push(text);
    }
    let mut found = vec![Vec::new(); asked.len()];
    for (layer, (places, texts)) in by_layer {
        let answers = model.embeddings(&texts, layer).map_err(|error| failed(NAME, &error))?;
        if answers.len() != places.len() {
            return exec_err!("{NAME}: {} answers to {} texts", answers.len(), places.len());
        }
        for (place, answer) in places.into_iter().zip(answers) {
            found[place] = answer;
        }
    }
    Ok(found)
}

fn documentation() -> Documentation {
    Documentation::builder(
        SECTION,
        "The encoder's pooled hidden state for each motion segment of a report, as a list of structs `region`, `level`, \
         `embedding`. Layer 0 is the state before the first layer; without a layer the last one is taken. A layer that the model \
         does not have is an error; a NULL text or layer has NULL.",
        "embed_segments(text [, layer])",
    )
    .with_sql_example(
        "```sql
> SELECT e['level'] AS level, array_length(e['embedding']) AS width
  FROM (SELECT unnest(embed_segments('L4-5: disc bulge. L5-S1: normal.', 3)) AS e);
+-------+-------+
| level | width |
+-------+-------+
| L4-L5 | 384   |
| L5-S1 | 384   |
+-------+-------+
```",
    )
    .with_argument("text", "The report's text, of any string type.")
    .with_argument("layer", "0 to the model's number of layers, a whole number.")
    .with_related_udf("extract_findings")
    .build()
}
