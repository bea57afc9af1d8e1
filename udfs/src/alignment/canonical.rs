//! Canonical correlations and the Procrustes similarity, out of covariances alone.

use super::moments::Moments;
use super::similarity::{NoConvergence, Similarity, varies};
use faer::{Mat, MatRef, Side};

/// A direction with less than this share of the largest variance is rounding and no direction.
const RANK: f64 = 1e-10;

/// ‖XᵀY‖∗ / (‖X‖ ‖Y‖), the nuclear norm over Frobenius norms: 1 − d²/2 for the Procrustes distance d of the centred tables scaled
/// to norm 1 (Williams et al. 2021; Ding et al. 2021).
pub(crate) fn procrustes(moments: &Moments) -> Similarity {
    if !varies(moments) {
        return Ok(None);
    }
    let (a, b) = moments.traces();
    if !finite(moments) {
        return Ok(Some(f64::NAN));
    }
    Ok(Some(moments.xy().singular_values()?.iter().sum::<f64>() / (a.sqrt() * b.sqrt())))
}

/// The mean canonical correlation of the directions that hold a share `variance` of each side's variance (Raghu et al. 2017).
pub(crate) fn svcca(moments: &Moments, variance: f64) -> Similarity {
    Ok(canonical(moments, variance)?.map(|canonical| match canonical {
        Canonical::NotANumber => f64::NAN,
        Canonical::Correlations(all) => all.iter().map(|(rho, _)| rho).sum::<f64>() / all.len() as f64,
    }))
}

/// The mean canonical correlation, each weighed by how much of x its direction accounts for (Morcos et al. 2018):
/// α = Σⱼ |⟨h, xⱼ⟩| for the canonical variate h of x and the columns xⱼ of X.
pub(crate) fn pwcca(moments: &Moments) -> Similarity {
    Ok(canonical(moments, 1.0)?.map(|canonical| match canonical {
        Canonical::NotANumber => f64::NAN,
        Canonical::Correlations(all) => {
            all.iter().map(|(rho, alpha)| rho * alpha).sum::<f64>() / all.iter().map(|(_, alpha)| alpha).sum::<f64>()
        }
    }))
}

enum Canonical {
    NotANumber,
    /// Each canonical correlation, with its direction's weight in x.
    Correlations(Vec<(f64, f64)>),
}

/// `None` where a side does not vary, or where the rows are no more than the directions of both sides: some correlations are
/// then 1 whatever the data.
fn canonical(moments: &Moments, variance: f64) -> Result<Option<Canonical>, NoConvergence> {
    if !varies(moments) {
        return Ok(None);
    }
    if !finite(moments) {
        return Ok(Some(Canonical::NotANumber));
    }
    let (of_x, of_y) = (whitening(moments.xx(), variance)?, whitening(moments.yy(), variance)?);
    if moments.rows <= (of_x.ncols() + of_y.ncols()) as f64 {
        return Ok(None);
    }
    let between = of_x.transpose() * moments.xy() * &of_y;
    let decomposed = between.thin_svd()?;
    // H = X · whitening · U has orthonormal columns, and HᵀX = Uᵀ · whiteningᵀ · XᵀX.
    let xx = Mat::from_fn(of_x.nrows(), of_x.nrows(), |i, j| moments.xx()[(i.max(j), i.min(j))]);
    let onto = decomposed.U().transpose() * of_x.transpose() * xx;
    let rho = decomposed.S().column_vector();
    let weight = |i: usize| (0..onto.ncols()).map(|j| onto[(i, j)].abs()).sum();
    // A correlation is no more than 1 but for rounding.
    Ok(Some(Canonical::Correlations((0..rho.nrows()).map(|i| (rho[i].min(1.0), weight(i))).collect())))
}

/// The leading eigenvectors of a symmetric matrix, as many as hold a share `variance` of its trace, each over the root of its
/// eigenvalue: \[width, directions\].
fn whitening(matrix: MatRef<'_, f64>, variance: f64) -> Result<Mat<f64>, NoConvergence> {
    let decomposed = matrix.self_adjoint_eigen(Side::Lower)?;
    // From the smallest to the largest.
    let values: Vec<f64> = decomposed.S().column_vector().iter().rev().copied().collect();
    let (total, largest) = (values.iter().sum::<f64>(), values.first().copied().unwrap_or_default());
    let mut held = 0.0;
    let mut kept = 0;
    while kept < values.len() && values[kept] > RANK * largest && (kept == 0 || held < variance * total) {
        held += values[kept];
        kept += 1;
    }
    let last = values.len() - 1;
    Ok(Mat::from_fn(values.len(), kept, |i, j| decomposed.U()[(i, last - j)] / values[j].sqrt()))
}

fn finite(moments: &Moments) -> bool {
    let (xx, xy, yy) = moments.squares();
    xx.is_finite() && xy.is_finite() && yy.is_finite()
}
