//! The encoder of a DHE: many hashes of one id.
//!
//! `scalar` is the definition, [`HashFamily::encode`]. The vector kernels give the same bits.
//! They serve families in which all hashes share p and m, with `p² < 2^53`: then every product
//! `a·x + b` is exact in double precision, where vector units multiply quickest. Quotients come
//! from multiplying by a reciprocal that is slightly too small, so that a remainder is either right
//! or one modulus too large, and one comparison corrects it. Other families take the definition.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;
#[cfg(test)]
mod tests;

use mprec_representations::{HashFamily, Transform};

use super::{level::Level, matrix::MatrixMut};

/// Largest shared p whose square is below 2^53.
pub const MAX_SHARED_PRIME: i64 = 94_906_265;

/// Hashes are padded to a multiple of this many, so that kernels read whole vectors.
const PADDING: usize = 16;

/// A hash family as kernels want it.
#[derive(Debug, Clone)]
pub struct Encoder {
    family: HashFamily,
    transform: Transform,
    shared: Option<Shared>,
}

/// Parameters of a family whose hashes share p and m.
#[derive(Debug, Clone)]
struct Shared {
    p: u64,
    m: f64,
    /// Slightly below `1 / p`.
    p_reciprocal: f64,
    /// Slightly below `1 / m`, or nothing when residues of p are below 2m, so that one comparison
    /// gives the residue of m.
    m_reciprocal: Option<f64>,
    a: Vec<f64>,
    b: Vec<f64>,
}

/// Writes the code of `ids[i]` to row `i` of `codes`.
///
/// Panics if a code is not as wide as the family or the rows differ in number.
pub type Encode = fn(encoder: &Encoder, ids: &[u64], codes: MatrixMut<'_>);

/// A kernel.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    /// The instructions it needs; its name in logs and benchmarks.
    pub level: Level,
    /// The kernel.
    pub encode: Encode,
}

/// Every kernel this machine can run, fastest first. The last is always the scalar one.
pub fn available() -> Vec<Kernel> {
    let mut kernels = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if Level::Avx512.is_available() {
            kernels.push(Kernel {
                level: Level::Avx512,
                // SAFETY: AVX-512 was detected above, and a running process does not lose it.
                encode: |encoder, ids, codes| unsafe { avx512::encode(encoder, ids, codes) },
            });
        }
        if Level::Avx2.is_available() {
            kernels.push(Kernel {
                level: Level::Avx2,
                // SAFETY: AVX2 and FMA were detected above, and a running process keeps them.
                encode: |encoder, ids, codes| unsafe { avx2::encode(encoder, ids, codes) },
            });
        }
    }
    kernels.push(Kernel { level: Level::Scalar, encode: scalar::encode });
    kernels
}

impl Encoder {
    /// Prepares a family for all kernels.
    pub fn new(family: HashFamily, transform: Transform) -> Self {
        let shared = Shared::of(&family);
        Self { family, transform, shared }
    }

    /// Number of hashes.
    pub fn hashes(&self) -> usize {
        self.family.len()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let prepared = self.shared.as_ref().map_or(0, |shared| 2 * size_of_val(&shared.a[..]));
        self.family.bytes() + prepared
    }
}

impl Shared {
    fn of(family: &HashFamily) -> Option<Self> {
        let parameters = family.parameters().as_slice();
        let (p, m) = (parameters[2], parameters[3]);
        if p > MAX_SHARED_PRIME || parameters.chunks_exact(4).any(|row| row[2..] != [p, m]) {
            return None;
        }
        // The quotient of t by p is computed as `t · r`, twice rounded by at most 2^-53 of itself
        // (r's own rounding, and the product's). Taking 2^-51 off r leaves it below t / p for sure,
        // and above t / p - 1 because quotients are below 2^27.
        let reciprocal = |of: i64| (1.0 / of as f64) * (1.0 - 2.0_f64.powi(-51));
        let column = |at: usize| {
            let mut values: Vec<f64> =
                parameters.chunks_exact(4).map(|row| row[at] as f64).collect();
            values.resize(values.len().next_multiple_of(PADDING), 1.0);
            values
        };
        Some(Self {
            p: p as u64,
            m: m as f64,
            p_reciprocal: reciprocal(p),
            m_reciprocal: (p > 2 * m).then(|| reciprocal(m)),
            a: column(0),
            b: column(1),
        })
    }
}

impl Shared {
    /// What a hash is multiplied by, as a double, to give `hash / (m - 1)` once the product is rounded to a float.
    ///
    /// The product is off by less than 2^-51 of itself, and no quotient of integers below 2^24 comes closer than
    /// 2^-49 of itself to the middle between two floats: that middle is `k / 2^j`, `k` odd and of 25 bits, from which a
    /// quotient by `m - 1` differs by at least `1 / (2^j · (m - 1))`.
    #[cfg(target_arch = "x86_64")]
    fn scale(&self) -> f64 {
        1.0 / (self.m - 1.0)
    }
}

/// Panics unless the shapes fit. Kernels rely on it.
fn check(encoder: &Encoder, ids: &[u64], codes: &MatrixMut<'_>) {
    assert_eq!(codes.width(), encoder.hashes(), "width of a code");
    assert_eq!(codes.rows(), ids.len(), "codes");
}

/// The Gaussian transform of hashes below `range`, in place: as [`HashFamily::encode`], whose
/// operations and order it repeats.
#[cfg(target_arch = "x86_64")]
fn gaussian(range: f32, hashes: &mut [f32]) {
    for pair in hashes.chunks_exact_mut(2) {
        // Adding one is exact: hashes are below 2^24.
        let value = |hash: f32| (hash + 1.0) / range;
        let radius = (-2.0 * value(pair[0]).ln()).sqrt();
        let angle = std::f32::consts::TAU * value(pair[1]);
        pair[0] = radius * angle.cos();
        pair[1] = radius * angle.sin();
    }
}
