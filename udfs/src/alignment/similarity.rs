//! The similarities of two representations of the same rows, out of their [`Moments`].
//!
//! X and Y are the centred tables, one row an example. Each is `None` where the rows do not determine it: too few of them, or a
//! side that does not vary.

use super::moments::Moments;
use faer::linalg::solvers::{EvdError, SvdError};

/// A decomposition that did not converge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a matrix decomposition did not converge")]
pub(crate) struct NoConvergence;

impl From<EvdError> for NoConvergence {
    fn from(_: EvdError) -> Self {
        Self
    }
}

impl From<SvdError> for NoConvergence {
    fn from(_: SvdError) -> Self {
        Self
    }
}

/// A similarity, `None` where the rows do not determine it.
pub(crate) type Similarity = Result<Option<f64>, NoConvergence>;

/// Linear centred kernel alignment, ‖XᵀY‖² / (‖XᵀX‖ ‖YᵀY‖) in Frobenius norms (Kornblith et al. 2019, equation 5 with linear
/// kernels). 0 to 1, and biased upwards where rows are not many more than columns.
pub(crate) fn linear_cka(moments: &Moments) -> Option<f64> {
    let (xx, xy, yy) = moments.squares();
    varies(moments).then(|| xy / (xx.sqrt() * yy.sqrt()))
}

/// The same with the unbiased estimator of HSIC (Song et al. 2012, equation 5), which is near 0 for independent data at any
/// number of rows, and may be below it. Takes four rows.
pub(crate) fn linear_cka_debiased(moments: &Moments) -> Option<f64> {
    let determined = moments.widths().0 > 0 && moments.widths().1 > 0;
    determined.then(|| debiased(moments.rows, moments.squares(), moments.fourth(), moments.traces())).flatten()
}

/// Debiased linear CKA of so many rows, out of ‖XᵀX‖², ‖XᵀY‖² and ‖YᵀY‖², of Σ a², Σ a b and Σ b², and of Σ a and Σ b, a and b the
/// squared lengths of the rows of X and Y.
pub(crate) fn debiased(
    n: f64,
    (xx, xy, yy): (f64, f64, f64),
    (aa, ab, bb): (f64, f64, f64),
    (a, b): (f64, f64),
) -> Option<f64> {
    if n < 4.0 || a == 0.0 || b == 0.0 {
        return None;
    }
    // With K = XXᵀ and L = YYᵀ, K̃ and L̃ their copies with a zero diagonal, n (n − 3) HSIC is
    //   tr(K̃L̃) + (1ᵀK̃1)(1ᵀL̃1) / ((n − 1)(n − 2)) − 2 (1ᵀK̃L̃1) / (n − 2).
    // It does not change when a constant is added to x or y, so x and y may be centred; then the rows of K and L sum to zero,
    // K̃1 = −a and L̃1 = −b, the squared lengths, and tr(K̃L̃) = ‖XᵀY‖² − Σ ab.
    let hsic =
        |square: f64, fourth: f64, traces: f64| square - fourth * n / (n - 2.0) + traces / ((n - 1.0) * (n - 2.0));
    let (of_x, of_y) = (hsic(xx, aa, a * a), hsic(yy, bb, b * b));
    // HSIC of x with itself is a sum of squares; what is no more than the rounding of its terms is zero.
    let determined = !(of_x <= ROUNDING * xx || of_y <= ROUNDING * yy);
    determined.then(|| hsic(xy, ab, a * b) / (of_x.sqrt() * of_y.sqrt()))
}

const ROUNDING: f64 = 1e-12;

/// Whether both sides vary. What is not a number varies, and is answered by what is not a number.
pub(crate) fn varies(moments: &Moments) -> bool {
    let (a, b) = moments.traces();
    moments.rows >= 2.0 && a != 0.0 && b != 0.0 && moments.widths().0 > 0 && moments.widths().1 > 0
}
