//! The one executor of the scalar functions: types are checked when a query is planned, and kernels see plain
//! `Option<&str>` and `Option<&[u8]>` whatever the layout of the column (Utf8, LargeUtf8, Utf8View, Binary, LargeBinary,
//! BinaryView, dictionaries of these, scalars).

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, internal_datafusion_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, DocSection, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// What an argument may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Argument {
    /// Text of any layout.
    Text,
    /// Text or bytes of any layout.
    Message,
    /// A whole number of any width.
    Integer,
}

impl Argument {
    /// The type that a value of type `given` is handed over as, `None` where it is no such argument.
    fn accept(self, given: &DataType) -> Option<DataType> {
        use DataType::*;
        let layout = match given {
            Dictionary(_, value) => value.as_ref(),
            other => other,
        };
        match (self, layout) {
            (Self::Text | Self::Message, Null) => Some(Utf8),
            (Self::Text | Self::Message, Utf8 | LargeUtf8 | Utf8View) => Some(given.clone()),
            (Self::Message, Binary | LargeBinary | BinaryView) => Some(given.clone()),
            (Self::Integer, Null) => Some(Int64),
            (Self::Integer, layout) if layout.is_integer() => Some(Int64),
            _ => None,
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Message => "text or binary",
            Self::Integer => "a whole number",
        }
    }
}

/// The arguments of one call, as arrays of equal length.
pub(crate) struct Call {
    arrays: Vec<ArrayRef>,
    /// Rows to answer.
    pub(crate) rows: usize,
}

impl Call {
    /// How many arguments were given.
    pub(crate) fn len(&self) -> usize {
        self.arrays.len()
    }

    fn array(&self, index: usize) -> Result<&ArrayRef> {
        self.arrays.get(index).ok_or_else(|| internal_datafusion_err!("argument {} is missing", index + 1))
    }

    /// An argument as text, one value a row.
    pub(crate) fn texts(&self, index: usize) -> Result<Vec<Option<&str>>> {
        strings(self.array(index)?.as_ref())
    }

    /// An argument as bytes, one value a row; text is its UTF-8 bytes.
    pub(crate) fn messages(&self, index: usize) -> Result<Vec<Option<&[u8]>>> {
        bytes(self.array(index)?.as_ref())
    }

    /// An argument as whole numbers.
    pub(crate) fn integers(&self, index: usize) -> Result<&Int64Array> {
        let array = self.array(index)?;
        array.as_primitive_opt().ok_or_else(|| unexpected(array.data_type()))
    }
}

fn unexpected(data_type: &DataType) -> datafusion::error::DataFusionError {
    internal_datafusion_err!("type {data_type} was let through by planning")
}

fn strings(array: &dyn Array) -> Result<Vec<Option<&str>>> {
    Ok(match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().iter().collect(),
        DataType::LargeUtf8 => array.as_string::<i64>().iter().collect(),
        DataType::Utf8View => array.as_string_view().iter().collect(),
        DataType::Dictionary(_, _) => by_key(array, strings)?,
        other => return Err(unexpected(other)),
    })
}

fn bytes(array: &dyn Array) -> Result<Vec<Option<&[u8]>>> {
    Ok(match array.data_type() {
        DataType::Binary => array.as_binary::<i32>().iter().collect(),
        DataType::LargeBinary => array.as_binary::<i64>().iter().collect(),
        DataType::BinaryView => array.as_binary_view().iter().collect(),
        DataType::Dictionary(_, _) => by_key(array, bytes)?,
        _ => strings(array)?.into_iter().map(|value| value.map(str::as_bytes)).collect(),
    })
}

/// A dictionary's values in the order of its keys.
fn by_key<T: ?Sized>(
    array: &dyn Array,
    read: for<'a> fn(&'a dyn Array) -> Result<Vec<Option<&'a T>>>,
) -> Result<Vec<Option<&T>>> {
    let dictionary = array.as_any_dictionary_opt().ok_or_else(|| unexpected(array.data_type()))?;
    let values = read(dictionary.values().as_ref())?;
    // A NULL key's number is arbitrary, and past the end of an empty dictionary.
    let keys = cast(dictionary.keys(), &DataType::Int64)?;
    let keys = keys.as_primitive::<arrow::datatypes::Int64Type>();
    Ok(keys.iter().map(|key| values.get(usize::try_from(key?).ok()?).copied().flatten()).collect())
}

/// A scalar's text, where it is text and not NULL.
pub(crate) fn literal_text(literal: &ScalarValue) -> Option<&str> {
    literal.try_as_str().flatten()
}

/// A scalar's number, where it is a whole number and not NULL.
pub(crate) fn literal_integer(literal: &ScalarValue) -> Option<i64> {
    match literal.cast_to(&DataType::Int64) {
        Ok(ScalarValue::Int64(value)) => value,
        _ => None,
    }
}

/// The section of the documentation that every function stands in.
pub const SECTION: DocSection = DocSection {
    include: true,
    label: "Radiology reports",
    description: Some("Findings from reports and HL7 v2 messages"),
};

type Returns = dyn Fn(&[Option<&ScalarValue>]) -> Result<DataType> + Send + Sync;
type Kernel = dyn Fn(&Call) -> Result<ArrayRef> + Send + Sync;

/// A scalar function: everything that differs between one and another.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) arguments: &'static [Argument],
    /// How many of the arguments must be given.
    pub(crate) required: usize,
    /// The type of the answer, given those arguments that are literals; refuses literals that can't be.
    pub(crate) returns: Box<Returns>,
    /// Answers a batch; called with one row when every argument is a scalar.
    pub(crate) kernel: Box<Kernel>,
    pub(crate) documentation: Documentation,
}

impl Function {
    pub(crate) fn into_udf(self) -> ScalarUDF {
        let signature = Signature::user_defined(Volatility::Immutable);
        ScalarUDF::new_from_impl(Registered { function: Arc::new(self), signature })
    }
}

struct Registered {
    function: Arc<Function>,
    signature: Signature,
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.function.name)
    }
}

// Two are the same function when they share a kernel; common sub-expressions are found by this.
impl PartialEq for Registered {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.function, &other.function)
    }
}

impl Eq for Registered {}

impl Hash for Registered {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.name.hash(state);
    }
}

impl ScalarUDFImpl for Registered {
    fn name(&self) -> &str {
        self.function.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let Function { name, arguments, required, .. } = *self.function;
        if given.len() < required || given.len() > arguments.len() {
            let least = if required < arguments.len() { format!("{required} to ") } else { String::new() };
            return plan_err!("{name} takes {least}{} arguments, {} given", arguments.len(), given.len());
        }
        let accept = |(position, (argument, given)): (usize, (&Argument, &DataType))| match argument.accept(given) {
            Some(accepted) => Ok(accepted),
            None => plan_err!("{name}: argument {} is {given}, expected {}", position + 1, argument.expected()),
        };
        arguments.iter().zip(given).enumerate().map(accept).collect()
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        (self.function.returns)(&vec![None; given.len()])
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let data_type = (self.function.returns)(args.scalar_arguments)?;
        Ok(Arc::new(Field::new(self.function.name, data_type, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let arrays = args.args.iter().map(|value| value.to_array(rows)).collect::<Result<_>>()?;
        let answer = (self.function.kernel)(&Call { arrays, rows })?;
        if answer.len() != rows {
            let name = self.function.name;
            return Err(exec_datafusion_err!("{name} answered {} of {rows} rows", answer.len()));
        }
        Ok(if constant {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&answer, 0)?)
        } else {
            ColumnarValue::Array(answer)
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.function.documentation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{DictionaryArray, StringArray};
    use arrow::datatypes::Int8Type;

    const LAYOUTS: [DataType; 6] = [
        DataType::Utf8,
        DataType::LargeUtf8,
        DataType::Utf8View,
        DataType::Binary,
        DataType::LargeBinary,
        DataType::BinaryView,
    ];

    #[test]
    fn every_layout_reads_the_same() {
        let source = StringArray::from(vec![Some("a"), None, Some(""), Some("é")]);
        let expected: Vec<Option<&[u8]>> = vec![Some(b"a"), None, Some(b""), Some("é".as_bytes())];
        for layout in LAYOUTS {
            for dictionary in [false, true] {
                let wanted = match dictionary {
                    true => DataType::Dictionary(Box::new(DataType::UInt16), Box::new(layout.clone())),
                    false => layout.clone(),
                };
                let array = cast(&source, &wanted).unwrap();
                assert_eq!(array.data_type(), &wanted);
                assert_eq!(bytes(&array).unwrap(), expected, "{wanted}");
                assert_eq!(Argument::Message.accept(&wanted), Some(wanted.clone()));
                let text = !matches!(layout, DataType::Binary | DataType::LargeBinary | DataType::BinaryView);
                assert_eq!(Argument::Text.accept(&wanted).is_some(), text, "{wanted}");
                assert_eq!(strings(&array).is_ok(), text, "{wanted}");
                assert!(bytes(&array.slice(0, 0)).unwrap().is_empty());
            }
        }
    }

    #[test]
    fn a_null_value_inside_a_dictionary_is_null() {
        let values = Arc::new(StringArray::from(vec![None, Some("x")]));
        let keys = arrow::array::Int8Array::from(vec![Some(1), Some(0), None]);
        let array = DictionaryArray::<Int8Type>::try_new(keys, values).unwrap();
        assert_eq!(strings(&array).unwrap(), [Some("x"), None, None]);
    }

    #[test]
    fn numbers_of_every_width_are_handed_over_as_int64() {
        for given in [DataType::Int8, DataType::UInt64, DataType::Int64, DataType::Null] {
            assert_eq!(Argument::Integer.accept(&given), Some(DataType::Int64));
        }
        assert_eq!(Argument::Integer.accept(&DataType::Utf8), None);
        assert_eq!(Argument::Text.accept(&DataType::Int64), None);
        assert_eq!(literal_integer(&ScalarValue::UInt8(Some(3))), Some(3));
        assert_eq!(literal_text(&ScalarValue::Utf8View(None)), None);
    }
}
