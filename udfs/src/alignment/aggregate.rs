//! The one accumulator of the aggregates over pairs of vectors: types are checked when a query is planned, rows of which a side
//! is NULL or holds a NULL are passed over, and the state between phases is one value of bytes: numbers of 64 bits, one after the
//! other. A list of them would say the same, but one of many groups needs offsets of 64 bits, which lists lose on their way through Arrow Flight 59.

use super::cosines::Cosines;
use super::interval::{BLOCKS, Interval, block, interval};
use super::kernel::Sample;
use super::moments::Moments;
use super::similarity::Similarity;
use super::vectors::{Vectors, accept};
use arrow::array::{ArrayRef, AsArray, Float64Array, NullArray, RecordBatch, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err, internal_datafusion_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, DocSection, Documentation, Signature, Volatility,
};
use datafusion::physical_expr::PhysicalExpr;
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
    /// An interval of debiased linear CKA.
    Interval,
    /// Of a sample of rows, by a share.
    Sample { answer: fn(&Sample, f64) -> Option<f64>, share: f64 },
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
        let shared = matches!(self.aggregate.measure, Measure::Moments { share: Some(_), .. } | Measure::Sample { .. });
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
        Ok(match self.aggregate.measure {
            Measure::Interval => DataType::Struct(interval_fields()),
            _ => DataType::Float64,
        })
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let states = if matches!(self.aggregate.measure, Measure::Interval) { BLOCKS } else { 1 };
        let state = |at: usize| Field::new(format!("{}[sums {at}]", args.name), DataType::LargeBinary, true);
        Ok((0..states).map(|at| Arc::new(state(at))).collect())
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
                Box::new(OfMoments { answer, share, ..OfMoments::new(name) })
            }
            Measure::Interval => {
                Box::new(OfInterval { name, blocks: (0..BLOCKS).map(|_| OfMoments::new(name)).collect() })
            }
            Measure::Sample { answer, share } => {
                let given = args.exprs.get(2).map(|given| share_of(name, given)).transpose()?;
                let share = given.unwrap_or(share);
                Box::new(OfSample { name, answer, share, rows: Sample::default(), x: Vec::new(), y: Vec::new() })
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
    /// No rows yet, and nothing to answer.
    fn new(name: &'static str) -> Self {
        OfMoments { name, answer: |_, _| Ok(None), share: 1.0, sums: None, x: Vec::new(), y: Vec::new(), rows: 0 }
    }

    /// Takes a row in.
    fn add(&mut self, x: &[f64], y: &[f64]) -> Result<()> {
        self.check((x.len(), y.len()))?;
        self.x.extend_from_slice(x);
        self.y.extend_from_slice(y);
        self.rows += 1;
        if self.rows == BLOCK {
            self.flush();
        }
        Ok(())
    }

    fn merge(&mut self, states: &ArrayRef) -> Result<()> {
        self.flush();
        for numbers in written(states)? {
            let other = Moments::read(&numbers).ok_or_else(|| foreign(self.name))?;
            self.check(other.widths())?;
            if let Some(sums) = &mut self.sums {
                sums.merge(other);
            }
        }
        Ok(())
    }

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
        same_widths(name, sums.widths(), widths)
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
        states.iter().try_for_each(|states| self.merge(states))
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
        for numbers in states.iter().map(written).collect::<Result<Vec<_>>>()?.into_iter().flatten() {
            self.sums.merge(Cosines::read(&numbers).ok_or_else(|| foreign(self.name))?);
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

/// Parts rows into blocks by their values, and answers by what each block weighs.
#[derive(Debug)]
struct OfInterval {
    name: &'static str,
    blocks: Vec<OfMoments>,
}

impl Accumulator for OfInterval {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let (mut x, mut y) = (Vec::new(), Vec::new());
        let (of_x, of_y) = pair(values)?;
        let mut widths = self.blocks.iter().find_map(|block| block.sums.as_ref().map(Moments::widths));
        for row in 0..values.first().map_or(0, |column| column.len()) {
            let (Some(at_x), Some(at_y)) = (of_x.row(row), of_y.row(row)) else { continue };
            x.clear();
            y.clear();
            of_x.append(at_x, &mut x);
            of_y.append(at_y, &mut y);
            let widths = widths.get_or_insert((x.len(), y.len()));
            same_widths(self.name, *widths, (x.len(), y.len()))?;
            if let Some(block) = self.blocks.get_mut(block(&x, &y)) {
                block.add(&x, &y)?;
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.blocks.iter_mut().zip(states).try_for_each(|(block, states)| block.merge(states))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let written = |block: &mut OfMoments| {
            block.flush();
            state(block.sums.as_ref().map(Moments::write))
        };
        Ok(self.blocks.iter_mut().map(written).collect())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.blocks.iter_mut().for_each(OfMoments::flush);
        let blocks: Vec<&Moments> = self.blocks.iter().filter_map(|block| block.sums.as_ref()).collect();
        if let Some(first) = blocks.first() {
            for other in &blocks {
                same_widths(self.name, first.widths(), other.widths())?;
            }
        }
        let found = interval(&blocks);
        let value =
            |of: fn(&Interval) -> f64| -> ArrayRef { Arc::new(Float64Array::from(vec![found.as_ref().map(of)])) };
        let values = vec![value(|found| found.estimate), value(|found| found.lower), value(|found| found.upper)];
        let nulls = NullBuffer::from(vec![found.is_some()]);
        Ok(ScalarValue::Struct(Arc::new(StructArray::try_new(interval_fields(), values, Some(nulls))?)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.blocks.iter().map(Accumulator::size).sum::<usize>()
    }
}

fn interval_fields() -> Fields {
    ["estimate", "lower", "upper"].map(|name| Field::new(name, DataType::Float64, true)).to_vec().into()
}

/// Keeps a sample of rows.
#[derive(Debug)]
struct OfSample {
    name: &'static str,
    answer: fn(&Sample, f64) -> Option<f64>,
    share: f64,
    rows: Sample,
    /// The row at hand.
    x: Vec<f64>,
    y: Vec<f64>,
}

impl Accumulator for OfSample {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let (x, y) = pair(values)?;
        for row in 0..values.first().map_or(0, |column| column.len()) {
            let (Some(at_x), Some(at_y)) = (x.row(row), y.row(row)) else { continue };
            self.x.clear();
            self.y.clear();
            x.append(at_x, &mut self.x);
            y.append(at_y, &mut self.y);
            let widths = (self.x.len(), self.y.len());
            same_widths(self.name, self.rows.widths().unwrap_or(widths), widths)?;
            self.rows.add(&self.x, &self.y);
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for numbers in states.iter().map(written).collect::<Result<Vec<_>>>()?.into_iter().flatten() {
            let other = Sample::read(&numbers).ok_or_else(|| foreign(self.name))?;
            if let (Some(before), Some(widths)) = (self.rows.widths(), other.widths()) {
                same_widths(self.name, before, widths)?;
            }
            self.rows.merge(&other);
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![state(Some(self.rows.write()))])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64((self.answer)(&self.rows, self.share)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + (self.x.capacity() + self.y.capacity()) * size_of::<f64>() + self.rows.heap()
    }
}

/// Whether a row is as wide as those before it.
fn same_widths(name: &str, before: (usize, usize), widths: (usize, usize)) -> Result<()> {
    for (position, width, before) in [(1, widths.0, before.0), (2, widths.1, before.1)] {
        if width != before {
            return exec_err!("{name}: argument {position} has {width} values in one row and {before} in another");
        }
    }
    Ok(())
}

/// The constant that a share is given by: above 0 and up to 1.
///
/// It is known by being answered without a row's values: where DataFusion is another library's, it is not a `Literal` of ours.
fn share_of(name: &str, given: &Arc<dyn PhysicalExpr>) -> Result<f64> {
    let nothing = NullArray::new(1);
    let row = RecordBatch::try_from_iter([("", Arc::new(nothing) as ArrayRef)])?;
    match given.evaluate(&row) {
        Ok(ColumnarValue::Scalar(ScalarValue::Float64(Some(share)))) if share > 0.0 && share <= 1.0 => Ok(share),
        Ok(ColumnarValue::Scalar(other)) => {
            plan_err!("{name}: argument 3 is {other}, expected a share above 0 and up to 1")
        }
        _ => plan_err!("{name}: argument 3 is not a constant"),
    }
}

fn pair(values: &[ArrayRef]) -> Result<(Vectors, Vectors)> {
    let [x, y, ..] = values else { return Err(internal_datafusion_err!("{} columns for two arguments", values.len())) };
    Ok((Vectors::new(x)?, Vectors::new(y)?))
}

fn state(numbers: Option<Vec<f64>>) -> ScalarValue {
    ScalarValue::LargeBinary(numbers.map(|numbers| numbers.into_iter().flat_map(f64::to_le_bytes).collect()))
}

/// The states that [`state`] made, those of no rows left out.
fn written(states: &ArrayRef) -> Result<Vec<Vec<f64>>> {
    let states = states.as_binary_opt::<i64>();
    let states = states.ok_or_else(|| internal_datafusion_err!("a state of another function"))?;
    let numbers = |bytes: &[u8]| bytes.as_chunks().0.iter().map(|number| f64::from_le_bytes(*number)).collect();
    Ok(states.iter().flatten().map(numbers).collect())
}

fn foreign(name: &str) -> datafusion::error::DataFusionError {
    internal_datafusion_err!("{name}: a state of another function")
}
