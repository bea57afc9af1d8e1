//! All pairs of tasks at one layer of one run: what pairs have in common is computed once, where a query that joins the table with
//! itself would copy and multiply it for each pair.

use crate::alignment::{Cosines, Vectors, accept, debiased, dot, symmetric_dot};
use arrow::array::{AsArray, RecordBatch};
use datafusion::common::{Result, exec_err};
use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, Mat, Par};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// What the vectors of two tasks say of each other; `None` where one of them has none, or too few.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pair {
    pub(super) similarity: Option<f64>,
    pub(super) cosine: Option<f64>,
    pub(super) conflict_rate: Option<f64>,
}

/// Each pair once, the lesser name first.
pub(super) type Pairs = BTreeMap<(String, String), Pair>;

/// The vectors of one task, by what they are paired on.
pub(super) struct Table {
    task: String,
    /// In ascending order, none twice.
    keys: Vec<(String, String)>,
    width: usize,
    /// One after the other.
    values: Vec<f64>,
}

impl Table {
    fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.width..(row + 1) * self.width]
    }
}

/// The tables in batches of a task, two parts of a key (all Utf8) and a vector, ordered by the first three. Rows of which the vector is
/// NULL or holds a NULL are left out.
///
/// # Errors
/// When the last column holds no vectors, or a task has a key twice, or vectors of several widths.
pub(super) fn tables(batches: &[RecordBatch], what: &str) -> Result<Vec<Table>> {
    let mut tables: Vec<Table> = Vec::new();
    for batch in batches {
        let given = batch.column(3).data_type();
        if accept(given).is_none() {
            return exec_err!("{what} are {given}, expected lists of Float32 or Float64");
        }
        let text = |column: usize| batch.column(column).as_string::<i32>();
        let (task, first, second, vectors) = (text(0), text(1), text(2), Vectors::new(batch.column(3))?);
        for row in 0..batch.num_rows() {
            let Some(range) = vectors.row(row) else { continue };
            if tables.last().is_none_or(|table| table.task != task.value(row)) {
                let task = task.value(row).to_owned();
                tables.push(Table { task, keys: Vec::new(), width: range.len(), values: Vec::new() });
            }
            let Some(table) = tables.last_mut() else { continue };
            let key = (first.value(row).to_owned(), second.value(row).to_owned());
            if table.width != range.len() {
                return exec_err!("{what} of task {} have {} values and {}", table.task, table.width, range.len());
            }
            if table.keys.last() == Some(&key) {
                return exec_err!(
                    "{what} of task {}: two of one layer and run are of the same place; is a file there twice?",
                    table.task
                );
            }
            table.keys.push(key);
            vectors.append(range, &mut table.values);
        }
    }
    Ok(tables)
}

/// Puts the similarity of each two tasks in: debiased linear CKA over the keys that both have.
pub(super) fn similarities(tables: &[Table], pairs: &mut Pairs) {
    let narrowest = tables.iter().map(|table| table.width).min().unwrap_or(0);
    let side = |table: &Table, rows: &[usize]| Side::new(table, rows, rows.len() <= 2 * narrowest);
    let all = |table: &Table| (0..table.keys.len()).collect::<Vec<_>>();
    let sides: Vec<Side> = tables.iter().map(|table| side(table, &all(table))).collect();
    for_each_two(tables, |(i, a), (j, b)| {
        let similarity = if a.keys == b.keys {
            sides[i].similarity(&sides[j])
        } else {
            let (of_a, of_b): (Vec<usize>, Vec<usize>) = common(a, b).unzip();
            side(a, &of_a).similarity(&side(b, &of_b))
        };
        pairs.entry((a.task.clone(), b.task.clone())).or_default().similarity = similarity;
    });
}

/// Puts the agreement of each two tasks' gradients in, over the keys that both have.
///
/// # Errors
/// When gradients of one place are of different widths.
pub(super) fn cosines(tables: &[Table], pairs: &mut Pairs) -> Result<()> {
    if let [first, others @ ..] = tables
        && let Some(other) = others.iter().find(|other| other.width != first.width)
    {
        let ((one, of_one), (two, of_two)) = ((&first.task, first.width), (&other.task, other.width));
        return exec_err!("gradients of task {one} have {of_one} values and those of task {two} {of_two}");
    }
    let lengths =
        |table: &Table| (0..table.keys.len()).map(|row| dot(table.row(row), table.row(row)).sqrt()).collect::<Vec<_>>();
    let lengths: Vec<Vec<f64>> = tables.iter().map(lengths).collect();
    for_each_two(tables, |(i, a), (j, b)| {
        let mut sums = Cosines::default();
        for (of_a, of_b) in common(a, b) {
            sums.add_product(dot(a.row(of_a), b.row(of_b)), lengths[i][of_a], lengths[j][of_b]);
        }
        let pair = pairs.entry((a.task.clone(), b.task.clone())).or_default();
        (pair.cosine, pair.conflict_rate) = (sums.mean(), sums.conflicts());
    });
    Ok(())
}

fn for_each_two<'a>(tables: &'a [Table], mut each: impl FnMut((usize, &'a Table), (usize, &'a Table))) {
    for (i, a) in tables.iter().enumerate() {
        for (j, b) in tables.iter().enumerate().skip(i + 1) {
            each((i, a), (j, b));
        }
    }
}

/// The rows of two tables that have a key in common.
fn common<'a>(a: &'a Table, b: &'a Table) -> impl Iterator<Item = (usize, usize)> + 'a {
    let (mut i, mut j) = (0, 0);
    std::iter::from_fn(move || {
        loop {
            match a.keys.get(i)?.cmp(b.keys.get(j)?) {
                Ordering::Less => i += 1,
                Ordering::Greater => j += 1,
                Ordering::Equal => {
                    (i, j) = (i + 1, j + 1);
                    return Some((i - 1, j - 1));
                }
            }
        }
    })
}

/// What one task brings to each of its pairs.
struct Side {
    /// The centred table X, \[rows, width\], or, where there are few rows, XXᵀ, of which the lower triangle is filled: ‖XᵀY‖² is the sum of
    /// products of XXᵀ and YYᵀ.
    form: Form,
    /// The squared length of each row of X.
    lengths: Vec<f64>,
    /// ‖XᵀX‖².
    square: f64,
}

enum Form {
    Rows(Mat<f64>),
    Kernel(Mat<f64>),
}

impl Side {
    fn new(table: &Table, rows: &[usize], few: bool) -> Self {
        let n = rows.len();
        let mut centred = Mat::from_fn(n, table.width, |i, j| table.row(rows[i])[j]);
        let mut lengths = vec![0.0; n];
        for j in 0..table.width {
            let column = centred.col_as_slice_mut(j);
            let mean = column.iter().sum::<f64>() / n as f64;
            column.iter_mut().for_each(|value| *value -= mean);
            lengths.iter_mut().zip(&*column).for_each(|(length, value)| *length += value * value);
        }
        let (lower, full) = (BlockStructure::TriangularLower, BlockStructure::Rectangular);
        let (left, right) =
            if few { (centred.as_ref(), centred.transpose()) } else { (centred.transpose(), centred.as_ref()) };
        let mut product = Mat::zeros(left.nrows(), left.nrows());
        triangular::matmul(&mut product, lower, Accum::Replace, left, full, right, full, 1.0, Par::rayon(0));
        let square = symmetric_dot(&product, &product);
        Self { form: if few { Form::Kernel(product) } else { Form::Rows(centred) }, lengths, square }
    }

    fn similarity(&self, other: &Self) -> Option<f64> {
        let cross = match (&self.form, &other.form) {
            (Form::Kernel(k), Form::Kernel(l)) => symmetric_dot(k, l),
            (Form::Rows(x), Form::Rows(y)) => {
                let mut product = Mat::zeros(x.ncols(), y.ncols());
                matmul(&mut product, Accum::Replace, x.transpose(), y, 1.0, Par::rayon(0));
                product.squared_norm_l2()
            }
            _ => return None,
        };
        let (a, b) = (&self.lengths, &other.lengths);
        debiased(
            a.len() as f64,
            (self.square, cross, other.square),
            (dot(a, a), dot(a, b), dot(b, b)),
            (a.iter().sum(), b.iter().sum()),
        )
    }
}
