//! The part of the ONNX format that a graph of this network needs: protocol-buffer messages (field numbers of `onnx.proto3`, ONNX
//! 1.16, IR version 9) and a small builder.

use super::math::Matrix;
use prost::Message;
use std::collections::HashMap;

const FLOAT: i32 = 1;
const INT8: i32 = 3;
const INT64: i32 = 7;
/// Opset 18: `LayerNormalization` (17) and `Split` with `num_outputs` (18).
const OPSET: i64 = 18;
const IR_VERSION: i64 = 9;
/// ONNX Runtime's own operators, and the version of that set.
const OWN: (&str, i64) = ("com.microsoft", 1);
const UINT8: i32 = 2;
/// `TensorProto.DataLocation.EXTERNAL`.
const EXTERNAL: i32 = 1;

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(int64, tag = "1")]
    ir_version: i64,
    #[prost(string, tag = "2")]
    producer_name: String,
    #[prost(string, tag = "3")]
    producer_version: String,
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "8")]
    opset_import: Vec<OperatorSetId>,
}

#[derive(Clone, PartialEq, Message)]
struct OperatorSetId {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(int64, tag = "2")]
    version: i64,
}

#[derive(Clone, PartialEq, Message)]
struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    node: Vec<NodeProto>,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<ValueInfo>,
}

#[derive(Clone, PartialEq, Message)]
struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    op_type: String,
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<AttributeProto>,
    #[prost(string, tag = "7")]
    domain: String,
}

#[derive(Clone, PartialEq, Message)]
struct AttributeProto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(float, tag = "2")]
    f: f32,
    #[prost(int64, tag = "3")]
    i: i64,
    #[prost(int64, repeated, packed = "false", tag = "8")]
    ints: Vec<i64>,
    #[prost(int32, tag = "20")]
    kind: i32,
}

#[derive(Clone, PartialEq, Message)]
struct TensorProto {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "vec", tag = "9")]
    raw_data: Vec<u8>,
    #[prost(message, repeated, tag = "13")]
    external_data: Vec<Entry>,
    #[prost(int32, tag = "14")]
    data_location: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct ValueInfo {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    kind: Option<TypeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TypeProto {
    #[prost(message, optional, tag = "1")]
    tensor: Option<TensorType>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorType {
    #[prost(int32, tag = "1")]
    elem_type: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<TensorShape>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorShape {
    #[prost(message, repeated, tag = "1")]
    dim: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
struct Dimension {
    #[prost(oneof = "Extent", tags = "1, 2")]
    extent: Option<Extent>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Extent {
    #[prost(int64, tag = "1")]
    Size(i64),
    #[prost(string, tag = "2")]
    Name(String),
}

/// An attribute of an operator.
pub(crate) enum Attribute<'a> {
    Int(&'a str, i64),
    Float(&'a str, f32),
    Ints(&'a str, &'a [i64]),
}

/// An extent of an input's or output's shape.
#[derive(Clone, Copy)]
pub(crate) enum Axis<'a> {
    Fixed(usize),
    Free(&'a str),
}

/// Builds a graph, operator by operator; every value has a name.
#[derive(Default)]
pub(crate) struct Builder {
    graph: GraphProto,
}

impl Builder {
    /// Declares an int64 input.
    pub(crate) fn input(&mut self, name: &str, shape: &[Axis<'_>]) -> String {
        self.graph.input.push(value(name, INT64, shape));
        name.to_string()
    }

    /// Declares a float32 output, which some operator must write.
    pub(crate) fn output(&mut self, name: &str, shape: &[Axis<'_>]) {
        self.graph.output.push(value(name, FLOAT, shape));
    }

    /// Adds an operator with one output of the given name.
    pub(crate) fn named(&mut self, op: &str, inputs: &[&str], attributes: &[Attribute<'_>], output: &str) -> String {
        self.push(op, inputs, attributes, vec![output.to_string()]);
        output.to_string()
    }

    /// Adds an operator of ONNX Runtime's own with one output.
    pub(crate) fn own(&mut self, op: &str, inputs: &[&str]) -> String {
        let output = self.op(op, inputs, &[]);
        if let Some(node) = self.graph.node.last_mut() {
            node.domain = OWN.0.into();
        }
        output
    }

    /// Adds an operator with one output.
    pub(crate) fn op(&mut self, op: &str, inputs: &[&str], attributes: &[Attribute<'_>]) -> String {
        let output = format!("{op}_{}", self.graph.node.len());
        self.named(op, inputs, attributes, &output)
    }

    /// Adds an operator with several outputs.
    pub(crate) fn split(
        &mut self,
        op: &str,
        inputs: &[&str],
        attributes: &[Attribute<'_>],
        count: usize,
    ) -> Vec<String> {
        let outputs: Vec<String> = (0..count).map(|i| format!("{op}_{}_{i}", self.graph.node.len())).collect();
        self.push(op, inputs, attributes, outputs.clone());
        outputs
    }

    fn push(&mut self, op: &str, inputs: &[&str], attributes: &[Attribute<'_>], output: Vec<String>) {
        let attribute = attributes.iter().map(|attribute| {
            let (name, f, i, ints, kind): (_, _, _, &[i64], _) = match *attribute {
                Attribute::Float(name, f) => (name, f, 0, &[], 1),
                Attribute::Int(name, i) => (name, 0.0, i, &[], 2),
                Attribute::Ints(name, ints) => (name, 0.0, 0, ints, 7),
            };
            AttributeProto { name: name.to_string(), f, i, ints: ints.to_vec(), kind }
        });
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|s| s.to_string()).collect(),
            name: format!("n{}", self.graph.node.len()),
            op_type: op.to_string(),
            attribute: attribute.collect(),
            domain: String::new(),
            output,
        });
    }

    fn tensor(&mut self, name: &str, dims: &[usize], data_type: i32, raw_data: Vec<u8>) -> String {
        let dims = dims.iter().map(|d| *d as i64).collect();
        let tensor = TensorProto { dims, data_type, name: name.into(), raw_data, ..TensorProto::default() };
        self.graph.initializer.push(tensor);
        name.to_string()
    }

    /// A constant of int64.
    pub(crate) fn ints(&mut self, name: &str, dims: &[usize], values: &[i64]) -> String {
        self.tensor(name, dims, INT64, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// A constant of float32.
    pub(crate) fn floats(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        self.tensor(name, dims, FLOAT, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// A constant of int8, `[rows, cols]`.
    pub(crate) fn bytes(&mut self, name: &str, dims: &[usize], values: &[i8]) -> String {
        self.tensor(name, dims, INT8, values.iter().map(|v| *v as u8).collect())
    }

    /// A number of uint8.
    pub(crate) fn byte(&mut self, name: &str, value: u8) -> String {
        self.tensor(name, &[], UINT8, vec![value])
    }

    /// A matrix as a float32 constant, a vector where it has one row.
    pub(crate) fn matrix(&mut self, name: &str, matrix: &Matrix) -> String {
        let dims = [matrix.rows, matrix.cols];
        self.floats(name, if matrix.rows == 1 { &dims[1..] } else { &dims }, &matrix.data)
    }

    /// Converts to float32.
    pub(crate) fn cast(&mut self, input: &str) -> String {
        self.op("Cast", &[input], &[Attribute::Int("to", i64::from(FLOAT))])
    }

    /// The file's bytes.
    pub(crate) fn finish(mut self, name: &str) -> Vec<u8> {
        self.graph.name = name.to_string();
        let sets = [(String::new(), OPSET), (OWN.0.into(), OWN.1)];
        let model = ModelProto {
            ir_version: IR_VERSION,
            producer_name: env!("CARGO_PKG_NAME").into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            graph: Some(self.graph),
            opset_import: sets.map(|(domain, version)| OperatorSetId { domain, version }).into(),
        };
        model.encode_to_vec()
    }

    /// As [`Builder::finish`]; constants of int8 that stand in `other`, the bytes of the file of that name beside this one, are read from
    /// there, so that two graphs share one copy.
    pub(crate) fn finish_beside(mut self, name: &str, file: &str, other: &[u8]) -> Vec<u8> {
        for tensor in self.graph.initializer.iter_mut().filter(|tensor| tensor.data_type == INT8) {
            let Some(offset) = find(other, &tensor.raw_data) else { continue };
            let length = std::mem::take(&mut tensor.raw_data).len();
            let entries =
                [("location", file.to_owned()), ("offset", offset.to_string()), ("length", length.to_string())];
            tensor.external_data = entries.map(|(key, value)| Entry { key: key.into(), value }).into();
            tensor.data_location = EXTERNAL;
        }
        self.finish(name)
    }
}

/// Where `part` stands in `whole`.
fn find(whole: &[u8], part: &[u8]) -> Option<usize> {
    let start = part.first_chunk::<32>()?;
    whole
        .windows(start.len())
        .enumerate()
        .find(|(at, some)| some == start && whole[*at..].starts_with(part))
        .map(|(at, _)| at)
}

/// The constants of a graph, by name.
pub(crate) struct Constants(HashMap<String, TensorProto>);

impl Constants {
    /// Reads them out of a file's bytes.
    pub(crate) fn read(bytes: &[u8]) -> Result<Constants, String> {
        let model = ModelProto::decode(bytes).map_err(|e| e.to_string())?;
        let tensors = model.graph.unwrap_or_default().initializer;
        Ok(Constants(tensors.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect()))
    }

    fn tensor(&self, name: &str, kind: i32, bytes: usize) -> Result<&TensorProto, String> {
        let tensor = self.0.get(name).ok_or_else(|| format!("it has no constant {name}"))?;
        let size = tensor.dims.iter().try_fold(bytes, |size, dim| size.checked_mul(usize::try_from(*dim).ok()?));
        if tensor.data_type != kind || size != Some(tensor.raw_data.len()) {
            return Err(format!("its constant {name} is of another type or size than foramen-train writes"));
        }
        Ok(tensor)
    }

    /// Whether there is a constant of 8-bit numbers of this name.
    pub(crate) fn is_bytes(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|tensor| tensor.data_type == INT8)
    }

    /// Numbers of an int64 constant.
    pub(crate) fn ints(&self, name: &str) -> Result<Vec<i64>, String> {
        let tensor = self.tensor(name, INT64, 8)?;
        Ok(tensor.raw_data.chunks_exact(8).map(|b| i64::from_le_bytes(std::array::from_fn(|i| b[i]))).collect())
    }

    /// Numbers of an int8 constant of this form; one that is written the other way round has as many, and is refused.
    pub(crate) fn bytes(&self, name: &str, rows: usize, cols: usize) -> Result<Vec<i8>, String> {
        let tensor = self.tensor(name, INT8, 1)?;
        if tensor.dims != [rows as i64, cols as i64] {
            return Err(format!("its constant {name} is {:?}, and [{rows}, {cols}] is expected", tensor.dims));
        }
        Ok(tensor.raw_data.iter().map(|b| *b as i8).collect())
    }

    /// Numbers of a float32 constant.
    pub(crate) fn floats(&self, name: &str) -> Result<Vec<f32>, String> {
        let tensor = self.tensor(name, FLOAT, 4)?;
        Ok(tensor.raw_data.chunks_exact(4).map(|b| f32::from_le_bytes(std::array::from_fn(|i| b[i]))).collect())
    }
}

fn value(name: &str, elem_type: i32, shape: &[Axis<'_>]) -> ValueInfo {
    let dim = shape.iter().map(|axis| {
        let extent = match axis {
            Axis::Fixed(size) => Extent::Size(*size as i64),
            Axis::Free(name) => Extent::Name(name.to_string()),
        };
        Dimension { extent: Some(extent) }
    });
    let shape = Some(TensorShape { dim: dim.collect() });
    ValueInfo { name: name.into(), kind: Some(TypeProto { tensor: Some(TensorType { elem_type, shape }) }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_that_is_written_the_other_way_round_is_refused() {
        let mut builder = Builder::default();
        builder.bytes("weight", &[2, 3], &[1, 2, 3, 4, 5, 6]);
        let constants = Constants::read(&builder.finish("test")).unwrap();
        assert_eq!(constants.bytes("weight", 2, 3).unwrap(), [1, 2, 3, 4, 5, 6]);
        let error = constants.bytes("weight", 3, 2).unwrap_err();
        assert!(error.contains("weight") && error.contains("[3, 2]"), "{error}");
    }
}
