//! The one accumulator of the aggregates over pairs of vectors: types are checked when a query is planned, rows of which a side
//! is NULL or holds a NULL are passed over, and the state between phases is one list of numbers.

use super::cosines::Cosines;
use super::moments::Moments;
use super::similarity::Similarity;
use super::vectors::{Vectors, accept};
use arrow::array::{Array, ArrayRef, AsArray, Float64Array, LargeListArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err, internal_datafusion_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, DocSection, Documentation, Signature, Volatility,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Literal;
use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The section of the documentation that the aggregates stand in.
pub const ALIGNMENT: DocSection = DocSection {
    include: true,
    label: "Alignment",
    description: Some("How alike representations are, and whether gradients agree"),
};

/// Rows that are multiplied at once.
const BLOCK: usize = 256;

/// The widest vector that moments are taken of: three matrices of this width are 1.5 GiB.
const WIDEST: usize = 8192;

/// What an aggregate answers, and out of which sums.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Measure {
    /// Of two representations, which may be of different widths.
    Moments {
        answer: fn(&Moments, f64) -> Similarity,
        /// What the optional third argument, a share, is where it is not given; `None` where there is none.
        share: Option<f64>,
    },
    /// Of two gradients, which are of one width in a row.
    Cosines(fn(&Cosines) -> Option<f64>),
}

/// An aggregate: everything that differs between one and another.
#[derive(Debug)]
pub(crate) struct Aggregate {
    pub(crate) name: &'static str,
    pub(crate) measure: Measure,
    pub(crate) documentation: Documentation,
}

impl Aggregate {
    pub(crate) fn into_udaf(self) -> AggregateUDF {
        AggregateUDF::new_from_impl(Registered {
            aggregate: self,
            signature: Signature::user_defined(Volatility::Immutable),
        })
    }
}

#[derive(Debug)]
struct Registered {
    aggregate: Aggregate,
    signature: Signature,
}

// There is one of each name.
impl PartialEq for Registered {
    fn eq(&self, other: &Self) -> bool {
        self.aggregate.name == other.aggregate.name
    }
}

impl Eq for Registered {}

impl Hash for Registered {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.aggregate.name.hash(state);
    }
}

impl AggregateUDFImpl for Registered {
    fn name(&self) -> &str {
        self.aggregate.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.aggregate.name;
        let shared = matches!(self.aggregate.measure, Measure::Moments { share: Some(_), .. });
        match given.len() {
            2 => {}
            3 if shared => {}
            count if shared => return plan_err!("{name} takes 2 to 3 arguments, {count} given"),
            count => return plan_err!("{name} takes 2 arguments, {count} given"),
        }
        let coerce = |(position, given): (usize, &DataType)| match accept(given) {
            _ if position == 2 && given.is_numeric() => Ok(DataType::Float64),
            _ if position == 2 => plan_err!("{name}: argument 3 is {given}, expected a number"),
            Some(accepted) => Ok(accepted),
            None => plan_err!("{name}: argument {} is {given}, expected a list of Float32 or Float64", position + 1),
        };
        given.iter().enumerate().map(coerce).collect()
    }

    fn return_type(&self, _given: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}[sums]", args.name), DataType::LargeList(number()), true))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let name = self.aggregate.name;
        if args.is_distinct {
            return plan_err!("{name} takes no DISTINCT");
        }
        Ok(match self.aggregate.measure {
            Measure::Moments { answer, share } => {
                let given = args.exprs.get(2).map(|given| share_of(name, given)).transpose()?;
                let share = given.or(share).unwrap_or(1.0);
                Box::new(OfMoments { name, answer, share, sums: None, x: Vec::new(), y: Vec::new(), rows: 0 })
            }
            Measure::Cosines(answer) => {
                Box::new(OfCosines { name, answer, sums: Cosines::default(), g: Vec::new(), h: Vec::new() })
            }
        })
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.aggregate.documentation)
    }
}

/// Gathers rows into blocks, and blocks into moments.
#[derive(Debug)]
struct OfMoments {
    name: &'static str,
    answer: fn(&Moments, f64) -> Similarity,
    share: f64,
    /// `None` until there is a row, which says the widths.
    sums: Option<Moments>,
    /// Rows that are not in the sums yet, one after the other.
    x: Vec<f64>,
    y: Vec<f64>,
    rows: usize,
}

impl OfMoments {
    /// The sums for a row of these widths.
    fn check(&mut self, widths: (usize, usize)) -> Result<()> {
        let name = self.name;
        let Some(sums) = &self.sums else {
            for (position, width) in [(1, widths.0), (2, widths.1)] {
                if width > WIDEST {
                    return exec_err!("{name}: argument {position} has {width} values, at most {WIDEST} are taken");
                }
            }
            self.sums = Some(Moments::new(widths.0, widths.1));
            return Ok(());
        };
        let before = sums.widths();
        for (position, width, before) in [(1, widths.0, before.0), (2, widths.1, before.1)] {
            if width != before {
                return exec_err!("{name}: argument {position} has {width} values in one row and {before} in another");
            }
        }
        Ok(())
    }

    fn flush(&mut self) {
        if let Some(sums) = &mut self.sums {
            sums.add(&mut self.x, &mut self.y, self.rows);
        }
        self.x.clear();
        self.y.clear();
        self.rows = 0;
    }
}

impl Accumulator for OfMoments {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let (x, y) = pair(values)?;
        for row in 0..values.first().map_or(0, |column| column.len()) {
            let (Some(at_x), Some(at_y)) = (x.row(row), y.row(row)) else { continue };
            self.check((at_x.len(), at_y.len()))?;
            x.append(at_x, &mut self.x);
            y.append(at_y, &mut self.y);
            self.rows += 1;
            if self.rows == BLOCK {
                self.flush();
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.flush();
        for numbers in written(states)? {
            let other = Moments::read(numbers.values()).ok_or_else(|| foreign(self.name))?;
            self.check(other.widths())?;
            if let Some(sums) = &mut self.sums {
                sums.merge(other);
            }
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.flush();
        Ok(vec![state(self.sums.as_ref().map(Moments::write))])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.flush();
        let similarity = self.sums.as_ref().map_or(Ok(None), |sums| (self.answer)(sums, self.share));
        Ok(ScalarValue::Float64(similarity.map_err(|error| exec_datafusion_err!("{}: {error}", self.name))?))
    }

    fn size(&self) -> usize {
        let buffers = (self.x.capacity() + self.y.capacity()) * size_of::<f64>();
        size_of_val(self) + buffers + self.sums.as_ref().map_or(0, Moments::heap)
    }
}

#[derive(Debug)]
struct OfCosines {
    name: &'static str,
    answer: fn(&Cosines) -> Option<f64>,
    sums: Cosines,
    /// The row at hand.
    g: Vec<f64>,
    h: Vec<f64>,
}

impl Accumulator for OfCosines {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let (g, h) = pair(values)?;
        for row in 0..values.first().map_or(0, |column| column.len()) {
            let (Some(at_g), Some(at_h)) = (g.row(row), h.row(row)) else { continue };
            if at_g.len() != at_h.len() {
                let (name, of_g, of_h) = (self.name, at_g.len(), at_h.len());
                return exec_err!("{name}: argument 1 has {of_g} values and argument 2 has {of_h} in the same row");
            }
            self.g.clear();
            self.h.clear();
            g.append(at_g, &mut self.g);
            h.append(at_h, &mut self.h);
            self.sums.add(&self.g, &self.h);
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for numbers in written(states)? {
            self.sums.merge(Cosines::read(numbers.values()).ok_or_else(|| foreign(self.name))?);
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![state(Some(self.sums.write()))])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64((self.answer)(&self.sums)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + (self.g.capacity() + self.h.capacity()) * size_of::<f64>()
    }
}

/// The constant that a share is given by: above 0 and up to 1.
fn share_of(name: &str, given: &Arc<dyn PhysicalExpr>) -> Result<f64> {
    match given.downcast_ref::<Literal>().map(Literal::value) {
        Some(ScalarValue::Float64(Some(share))) if *share > 0.0 && *share <= 1.0 => Ok(*share),
        Some(other) => plan_err!("{name}: argument 3 is {other}, expected a share above 0 and up to 1"),
        None => plan_err!("{name}: argument 3 is not a constant"),
    }
}

fn pair(values: &[ArrayRef]) -> Result<(Vectors, Vectors)> {
    let [x, y, ..] = values else { return Err(internal_datafusion_err!("{} columns for two arguments", values.len())) };
    Ok((Vectors::new(x)?, Vectors::new(y)?))
}

fn number() -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Float64, true))
}

fn state(numbers: Option<Vec<f64>>) -> ScalarValue {
    let list = match numbers {
        Some(numbers) => {
            let offsets = OffsetBuffer::from_lengths([numbers.len()]);
            LargeListArray::new(number(), offsets, Arc::new(Float64Array::from(numbers)), None)
        }
        None => LargeListArray::new_null(number(), 1),
    };
    ScalarValue::LargeList(Arc::new(list))
}

/// The states that [`state`] made, those of no rows left out.
fn written(states: &[ArrayRef]) -> Result<Vec<Float64Array>> {
    let lists = states.first().and_then(|column| column.as_list_opt::<i64>());
    let lists = lists.ok_or_else(|| internal_datafusion_err!("a state of another function"))?;
    Ok(lists.iter().flatten().map(|numbers| numbers.as_primitive::<Float64Type>().clone()).collect())
}

fn foreign(name: &str) -> datafusion::error::DataFusionError {
    internal_datafusion_err!("{name}: a state of another function")
}
