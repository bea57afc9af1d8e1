//! Columns of vectors: lists of any layout, of Float32 or Float64.

use arrow::array::{Array, ArrayRef, AsArray, Float32Array, Float64Array};
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion::common::{Result, internal_datafusion_err};
use std::ops::Range;
use std::sync::Arc;

/// The type that a vector of type `given` is handed over as, `None` where it is no vector.
pub(crate) fn accept(given: &DataType) -> Option<DataType> {
    match given {
        DataType::Null => Some(DataType::new_list(DataType::Float64, true)),
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            matches!(field.data_type(), DataType::Float32 | DataType::Float64).then(|| given.clone())
        }
        _ => None,
    }
}

enum Values {
    Single(Float32Array),
    Double(Float64Array),
}

/// A column of vectors, one a row.
pub(crate) struct Vectors {
    lists: ArrayRef,
    values: Values,
}

impl Vectors {
    pub(crate) fn new(column: &ArrayRef) -> Result<Self> {
        let values = match column.data_type() {
            DataType::List(_) => column.as_list::<i32>().values(),
            DataType::LargeList(_) => column.as_list::<i64>().values(),
            DataType::FixedSizeList(_, _) => column.as_fixed_size_list().values(),
            other => return Err(internal_datafusion_err!("type {other} was let through by planning")),
        };
        let values = match values.data_type() {
            DataType::Float32 => Values::Single(values.as_primitive::<Float32Type>().clone()),
            DataType::Float64 => Values::Double(values.as_primitive::<Float64Type>().clone()),
            other => return Err(internal_datafusion_err!("a list of {other} was let through by planning")),
        };
        Ok(Self { lists: Arc::clone(column), values })
    }

    /// Where the vector of a row is among the values, `None` where it is NULL or holds a NULL.
    pub(crate) fn row(&self, row: usize) -> Option<Range<usize>> {
        if self.lists.is_null(row) {
            return None;
        }
        let range = match self.lists.data_type() {
            DataType::List(_) => offsets(self.lists.as_list::<i32>().value_offsets(), row),
            DataType::LargeList(_) => offsets(self.lists.as_list::<i64>().value_offsets(), row),
            _ => {
                let lists = self.lists.as_fixed_size_list();
                let start = usize::try_from(lists.value_offset(row)).unwrap_or_default();
                start..start + usize::try_from(lists.value_length()).unwrap_or_default()
            }
        };
        let nulls = match &self.values {
            Values::Single(values) => values.nulls(),
            Values::Double(values) => values.nulls(),
        };
        let holds_null = nulls.is_some_and(|nulls| range.clone().any(|index| nulls.is_null(index)));
        (!holds_null).then_some(range)
    }

    /// Appends the values of a range that [`Vectors::row`] answered.
    pub(crate) fn append(&self, range: Range<usize>, to: &mut Vec<f64>) {
        match &self.values {
            Values::Single(values) => to.extend(values.values()[range].iter().map(|value| f64::from(*value))),
            Values::Double(values) => to.extend_from_slice(&values.values()[range]),
        }
    }
}

fn offsets<T: Copy + TryInto<usize>>(offsets: &[T], row: usize) -> Range<usize> {
    let at = |index: usize| offsets[index].try_into().unwrap_or_default();
    at(row)..at(row + 1)
}
