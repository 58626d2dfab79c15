//! How many samples queries hold.

use std::{fmt, str::FromStr};

use rand::{Rng, SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, LogNormal, Normal};

use crate::MAX_SAMPLES;

use super::SpecError;

/// Sizes drawn from a log-normal are clipped to this unless stated otherwise.
pub const DEFAULT_LARGEST: u32 = 1_024;

/// MLPerf's sizes for recommendation: twenty equally likely values, mean 270.
const MLPERF: [u32; 20] = [
    100, 100, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 300, 300, 400, 500, 600,
    700,
];

/// A distribution of query sizes.
///
/// As text: `fixed:N`, `lognormal:MU,SIGMA` or `lognormal:MU,SIGMA,LARGEST` (of the underlying
/// normal; truncated to an integer and clipped to 1 and to LARGEST, 1024 by default), `normal:MEAN,DEVIATION` or
/// `normal:MEAN,DEVIATION,LARGEST` (the same way), `mlperf`, or `file:FILE`, a file of one size per line that are
/// equally likely.
#[derive(Debug, Clone, PartialEq)]
pub enum Sizes {
    /// Always this many.
    Fixed(u32),
    /// `exp(N(mu, sigma))`.
    LogNormal {
        /// Mean of the underlying normal.
        mu: f64,
        /// Standard deviation of the underlying normal.
        sigma: f64,
        /// Where sizes are clipped.
        largest: u32,
    },
    /// A normal distribution, clipped.
    Normal {
        /// Mean, in samples.
        mean: f64,
        /// Standard deviation, in samples.
        deviation: f64,
        /// Where sizes are clipped.
        largest: u32,
    },
    /// MLPerf's twenty quantiles.
    MlPerf,
    /// One of these, each equally likely.
    Values(Vec<u32>),
}

impl Sizes {
    /// Reads the textual form; `read` is given the name of a `file:` file and returns its text.
    ///
    /// # Errors
    ///
    /// [`SpecError`] that says what is wrong; the text of an error of `read` is kept in it.
    pub fn parse(
        text: &str,
        read: impl FnOnce(&str) -> std::io::Result<String>,
    ) -> Result<Self, SpecError> {
        if text == "mlperf" {
            return Ok(Self::MlPerf);
        }
        let unknown = || SpecError::Unknown {
            text: text.to_owned(),
            known: "`fixed:N`, `lognormal:MU,SIGMA`, `normal:MEAN,DEVIATION`, `mlperf`, `file:FILE`",
        };
        let (kind, value) = text.split_once(':').ok_or_else(unknown)?;
        match kind {
            "fixed" => Ok(Self::Fixed(size("size", value)?)),
            "lognormal" => {
                let (mu, sigma, largest) = bell("lognormal", value, LOGARITHM)?;
                Ok(Self::LogNormal { mu, sigma, largest })
            }
            "normal" => {
                let (mean, deviation, largest) = bell("normal", value, SAMPLES)?;
                Ok(Self::Normal { mean, deviation, largest })
            }
            "file" => {
                let text = read(value).map_err(|error| SpecError::Read {
                    file: value.to_owned(),
                    reason: error.to_string(),
                })?;
                Self::from_values(&text)
            }
            _ => Err(unknown()),
        }
    }

    /// Reads equally likely sizes, one per line. Empty lines and lines that begin with `#` are
    /// skipped.
    ///
    /// # Errors
    ///
    /// [`SpecError`] with the number of the line.
    pub fn from_values(text: &str) -> Result<Self, SpecError> {
        let mut values = Vec::new();
        for (line, value) in super::lines(text) {
            let size = size("size", value)
                .map_err(|_| SpecError::Line { line, reason: "a size is in 1..=1048576" })?;
            if values.len() == super::arrivals::MAX_TRACE {
                return Err(SpecError::Line { line, reason: "10,000,000 sizes are the limit" });
            }
            values.push(size);
        }
        if values.is_empty() {
            return Err(SpecError::Empty { what: "file of sizes" });
        }
        Ok(Self::Values(values))
    }

    /// Sizes without end, seeded.
    pub fn samples(&self, seed: u64) -> impl Iterator<Item = u32> + '_ {
        let mut random = StdRng::seed_from_u64(seed ^ 0x0051_2E50);
        let log_normal = match *self {
            Self::LogNormal { mu, sigma, .. } => LogNormal::new(mu, sigma).ok(),
            _ => None,
        };
        let normal = match *self {
            Self::Normal { mean, deviation, .. } => Normal::new(mean, deviation).ok(),
            _ => None,
        };
        std::iter::repeat_with(move || match self {
            Self::Fixed(size) => *size,
            Self::LogNormal { largest, .. } => {
                let size = log_normal.map_or(1.0, |law| law.sample(&mut random));
                (size as u32).clamp(1, *largest)
            }
            Self::Normal { largest, .. } => {
                // The cast takes what is below 0 to 0.
                let size = normal.map_or(1.0, |law| law.sample(&mut random));
                (size as u32).clamp(1, *largest)
            }
            Self::MlPerf => MLPERF[random.random_range(0..MLPERF.len())],
            Self::Values(values) => values[random.random_range(0..values.len())],
        })
    }
}

impl FromStr for Sizes {
    type Err = SpecError;

    /// As [`Sizes::parse`], without files.
    fn from_str(text: &str) -> Result<Self, SpecError> {
        Self::parse(text, super::no_files)
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => write!(formatter, "fixed:{size}"),
            Self::LogNormal { mu, sigma, largest } => {
                write!(formatter, "lognormal:{mu},{sigma}")?;
                clip(*largest, formatter)
            }
            Self::Normal { mean, deviation, largest } => {
                write!(formatter, "normal:{mean},{deviation}")?;
                clip(*largest, formatter)
            }
            Self::MlPerf => formatter.write_str("mlperf"),
            Self::Values(values) => write!(formatter, "one of {} sizes", values.len()),
        }
    }
}

fn size(what: &'static str, text: &str) -> Result<u32, SpecError> {
    match text.trim().parse::<u32>() {
        Ok(size) if (1..=MAX_SAMPLES).contains(&size) => Ok(size),
        _ => Err(SpecError::Value { what, value: text.to_owned(), must: "be in 1..=1048576" }),
    }
}

/// Writes where sizes are clipped, unless it is where they are when nothing is said.
fn clip(largest: u32, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    if largest == DEFAULT_LARGEST { Ok(()) } else { write!(formatter, ",{largest}") }
}

/// The limits of the two parameters of a bell curve.
#[derive(Clone, Copy)]
struct Limits {
    middle: (f64, f64),
    width: f64,
    middle_must: &'static str,
    width_must: &'static str,
}

const LOGARITHM: Limits = Limits {
    middle: (-20.0, 20.0),
    width: 20.0,
    middle_must: "be in [-20, 20]",
    width_must: "be in [0, 20]",
};
const SAMPLES: Limits = Limits {
    middle: (1.0, MAX_SAMPLES as f64),
    width: MAX_SAMPLES as f64,
    middle_must: "be in [1, 1048576]",
    width_must: "be in [0, 1048576]",
};

/// Middle, width and clip of `MIDDLE,WIDTH` or `MIDDLE,WIDTH,LARGEST`.
fn bell(what: &'static str, text: &str, limits: Limits) -> Result<(f64, f64, u32), SpecError> {
    let number = |text: &str, least: f64, most: f64, must| match text.trim().parse::<f64>() {
        Ok(value) if (least..=most).contains(&value) => Ok(value),
        _ => Err(SpecError::Value { what, value: text.to_owned(), must }),
    };
    let mut parts = text.split(',');
    let (Some(middle), Some(width), largest, None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        let must = "have a middle and a width, and may have a largest size: `5,0.5` or `5,0.5,700`";
        return Err(SpecError::Value { what, value: text.to_owned(), must });
    };
    let (least, most) = limits.middle;
    Ok((
        number(middle, least, most, limits.middle_must)?,
        number(width, 0.0, limits.width, limits.width_must)?,
        largest.map_or(Ok(DEFAULT_LARGEST), |text| size("largest size", text))?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(sizes: &Sizes) -> f64 {
        let count = 200_000;
        sizes.samples(3).take(count).map(f64::from).sum::<f64>() / count as f64
    }

    #[test]
    fn a_log_normal_has_the_quantiles_of_its_formula() {
        // exp(5.1) = 164 and a mean of 166.8 with σ = 0.2, after truncation half a sample less.
        let sizes: Sizes = "lognormal:5.1,0.2".parse().unwrap();
        assert!((mean(&sizes) - 166.3).abs() < 0.5, "{}", mean(&sizes));
        let mut drawn: Vec<_> = sizes.samples(1).take(100_000).collect();
        drawn.sort_unstable();
        assert!(drawn[50_000].abs_diff(163) <= 1, "{}", drawn[50_000]);
        assert!(drawn[99_000].abs_diff(261) <= 4, "{}", drawn[99_000]);
        let clipped: Sizes = "lognormal:5.1,2,300".parse().unwrap();
        assert!(clipped.samples(1).take(10_000).all(|size| (1..=300).contains(&size)));
    }

    #[test]
    fn a_normal_has_its_mean_and_deviation_and_is_clipped() {
        let sizes: Sizes = "normal:165,16".parse().unwrap();
        assert!((mean(&sizes) - 164.5).abs() < 0.3, "{}", mean(&sizes));
        let mut drawn: Vec<_> = sizes.samples(1).take(100_000).collect();
        drawn.sort_unstable();
        assert!(drawn[84_134].abs_diff(181) <= 1, "{}", drawn[84_134]);
        let wide: Sizes = "normal:10,100,50".parse().unwrap();
        assert!(wide.samples(1).take(10_000).all(|size| (1..=50).contains(&size)));
    }

    #[test]
    fn mlperf_sizes_have_mean_270() {
        assert!((mean(&Sizes::MlPerf) - 270.0).abs() < 1.5);
        assert_eq!(MLPERF.iter().sum::<u32>(), 20 * 270);
    }

    #[test]
    fn a_file_of_sizes_is_drawn_from() {
        let sizes = Sizes::parse("file:a", |_| Ok("# p50 p99\n3\n5\n".into())).unwrap();
        assert_eq!(sizes, Sizes::Values(vec![3, 5]));
        assert!((mean(&sizes) - 4.0).abs() < 0.02);
        let error = Sizes::from_values("3\n0\n").unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }

    #[test]
    fn texts_are_read_and_wrong_ones_refused() {
        for text in [
            "fixed:12",
            "lognormal:4.7,0.5",
            "lognormal:4.7,0.5,99",
            "normal:165,16",
            "normal:165,16,200",
            "mlperf",
        ] {
            assert_eq!(text.parse::<Sizes>().unwrap().to_string(), text);
        }
        for text in [
            "fixed:0",
            "fixed:",
            "lognormal:4",
            "lognormal:4,-1",
            "lognormal:1,2,3,4",
            "normal:165",
            "normal:0,1",
            "normal:165,-1",
            "x",
            "file:a",
        ] {
            assert!(text.parse::<Sizes>().is_err(), "{text}");
        }
    }
}
