//! Writes the inner loops of matrix products, one for each block size, as inline assembly.
//!
//! The loops differ in nothing but counts, and register names cannot be computed inside Rust's macros.
//! What the loops do and why they are assembly is told in `src/cpu/products.rs`, which includes the result.

use std::{env, error::Error, fmt::Write, fs, path::Path};

/// Numbers of rows that there are loops for, largest first.
const SIZES: [usize; 7] = [12, 8, 6, 4, 3, 2, 1];

/// Inputs that the loop takes in one turn.
const TURN: usize = 4;

/// Vector registers for sums.
const SUMS: usize = 24;
// After them, two of weights.
const INPUT: usize = SUMS + 2;
/// The first of two for widened weights.
const EVEN: usize = INPUT + 1;
const MASK: usize = EVEN + 2;

/// How floats, halves or bytes are broadcast, multiplied and added up.
struct Kind {
    name: &'static str,
    broadcast: &'static str,
    product: &'static str,
    add: &'static str,
    features: &'static str,
    /// Weights are pairs of upper halves of floats, and the inputs that they meet are pairs of whole floats.
    widens: bool,
}

impl Kind {
    /// Bytes of an input.
    fn bytes(&self) -> usize {
        if self.widens { 8 } else { 4 }
    }
}

const KINDS: [Kind; 4] = [
    Kind {
        name: "f32",
        broadcast: "vbroadcastss",
        product: "vfmadd231ps",
        add: "vaddps",
        features: "avx512f",
        widens: false,
    },
    Kind {
        name: "int8",
        broadcast: "vpbroadcastd",
        product: "vpdpbusd",
        add: "vpaddd",
        features: "avx512f,avx512vnni",
        widens: false,
    },
    Kind {
        name: "bf16",
        broadcast: "vpbroadcastd",
        product: "vdpbf16ps",
        add: "vaddps",
        features: "avx512f,avx512bf16",
        widens: false,
    },
    Kind {
        name: "bf16_widened",
        broadcast: "vbroadcastss",
        product: "vfmadd231ps",
        add: "vaddps",
        features: "avx512f",
        widens: true,
    },
];

/// A block's loop: so many rows by so many vectors of outputs.
struct Loop<'a> {
    kind: &'a Kind,
    rows: usize,
    vectors: usize,
}

impl Loop<'_> {
    /// Sums for each output: enough to keep ten products under way, as far as registers go.
    fn splits(&self) -> usize {
        let sums = self.rows * self.vectors;
        [1, 2, TURN].into_iter().find(|splits| sums * splits >= 10).unwrap_or(TURN)
    }

    /// The register of a sum.
    fn sum(&self, split: usize, row: usize, vector: usize) -> usize {
        let sum = (split * self.rows + row) * self.vectors + vector;
        assert!(sum < SUMS, "sum {sum} has no register");
        sum
    }

    /// Adds the products of input `at` of a turn.
    fn input(&self, at: usize) -> Vec<String> {
        let Self { kind, rows, vectors } = self;
        let mut lines = Vec::new();
        for vector in 0..*vectors {
            let offset = 64 * (at * vectors + vector);
            lines.push(format!("vmovups zmm{}, [{{w}} + {offset}]", SUMS + vector));
        }
        if kind.widens {
            // The even inputs' weights are in the lower halves; the odd ones' are floats once those are cleared.
            for vector in 0..*vectors {
                lines.push(format!("vpslld zmm{}, zmm{}, 16", EVEN + vector, SUMS + vector));
                lines.push(format!("vpandd zmm{0}, zmm{0}, zmm{MASK}", SUMS + vector));
            }
        }
        for row in 0..*rows {
            // Four pointers and one stride reach twelve rows.
            let base = format!("{{p{}}}", row / 3 * 3);
            let address = match row % 3 {
                0 => base,
                1 => format!("{base} + {{s}}"),
                _ => format!("{base} + 2 * {{s}}"),
            };
            let parts: &[(usize, usize)] =
                if kind.widens { &[(0, EVEN), (1, SUMS)] } else { &[(0, SUMS)] };
            for &(part, weights) in parts {
                let offset = kind.bytes() * at + 4 * part;
                lines.push(format!(
                    "{} zmm{INPUT}, dword ptr [{address} + {offset}]",
                    kind.broadcast
                ));
                for vector in 0..*vectors {
                    let split = (at * parts.len() + part) % self.splits();
                    let sum = self.sum(split, row, vector);
                    lines.push(format!(
                        "{} zmm{sum}, zmm{INPUT}, zmm{}",
                        kind.product,
                        weights + vector
                    ));
                }
            }
        }
        lines
    }

    /// Moves all pointers on by some inputs.
    fn advance(&self, inputs: usize) -> Vec<String> {
        let mut lines: Vec<String> = [0, 3, 6, 9]
            .iter()
            .map(|row| format!("add {{p{row}}}, {}", self.kind.bytes() * inputs))
            .collect();
        lines.push(format!("add {{w}}, {}", 64 * self.vectors * inputs));
        lines
    }

    fn lines(&self) -> Vec<String> {
        let line = |text: &str| vec![text.to_owned()];
        // Every operand must be named, and one row has no stride.
        let mut lines = line("/* {s} */");
        let used = self.splits() * self.rows * self.vectors;
        lines.extend((0..used).map(|sum| format!("vpxord zmm{sum}, zmm{sum}, zmm{sum}")));
        if self.kind.widens {
            lines.push("mov {n:e}, 0xffff0000".to_owned());
            lines.push(format!("vpbroadcastd zmm{MASK}, {{n:e}}"));
        }
        lines.extend(["mov {n}, {inputs}", "shr {n}, 2", "jz 3f", "2:"].map(String::from));
        lines.extend((0..TURN).flat_map(|at| self.input(at)));
        lines.extend(self.advance(TURN));
        lines.extend(
            ["dec {n}", "jnz 2b", "3:", "and {inputs}, 3", "jz 5f", "4:"].map(String::from),
        );
        lines.extend(self.input(0));
        lines.extend(self.advance(1));
        lines.extend(["dec {inputs}", "jnz 4b", "5:"].map(String::from));
        let mut splits = self.splits();
        while splits > 1 {
            splits /= 2;
            for (split, row) in
                (0..splits).flat_map(|split| (0..self.rows).map(move |row| (split, row)))
            {
                for vector in 0..self.vectors {
                    let (to, from) =
                        (self.sum(split, row, vector), self.sum(split + splits, row, vector));
                    lines.extend(line(&format!("{} zmm{to}, zmm{to}, zmm{from}", self.kind.add)));
                }
            }
        }
        lines.extend(
            (0..self.rows * self.vectors)
                .map(|sum| format!("vmovups [{{to}} + {}], zmm{sum}", 64 * sum)),
        );
        lines
    }

    fn name(&self) -> String {
        format!("{}_{}x{}", self.kind.name, self.rows, self.vectors)
    }

    fn function(&self) -> Result<String, std::fmt::Error> {
        let mut code = String::new();
        writeln!(code, "#[target_feature(enable = \"{}\")]", self.kind.features)?;
        writeln!(code, "unsafe fn {}(block: Block, sums: &mut Sums) {{", self.name())?;
        writeln!(code, "let Block {{ from, stride, weights, inputs }} = block;")?;
        writeln!(
            code,
            "// SAFETY: the caller says that rows and weights are there; `sums` has room for any block."
        )?;
        writeln!(code, "unsafe {{ asm!(")?;
        for line in self.lines() {
            writeln!(code, "\"{line}\",")?;
        }
        writeln!(code, "p0 = inout(reg) from => _,")?;
        for row in [3, 6, 9] {
            writeln!(code, "p{row} = inout(reg) from.wrapping_add({row} * stride) => _,")?;
        }
        writeln!(
            code,
            "s = in(reg) stride, w = inout(reg) weights => _, inputs = inout(reg) inputs => _,"
        )?;
        writeln!(code, "n = out(reg) _, to = in(reg) &raw mut *sums,")?;
        for register in 0..=MASK {
            writeln!(code, "out(\"zmm{register}\") _,")?;
        }
        writeln!(code, "options(nostack)); }} }}")?;
        Ok(code)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let mut code = String::new();
    writeln!(code, "/// Numbers of rows that there are loops for, largest first.")?;
    writeln!(code, "pub(crate) const SIZES: [usize; {}] = {SIZES:?};", SIZES.len())?;
    for kind in &KINDS {
        let loops = |rows: usize| [1, 2].map(|vectors| Loop { kind, rows, vectors });
        for each in SIZES.into_iter().flat_map(loops) {
            code.push_str(&each.function()?);
        }
        writeln!(code, "/// By position in [`SIZES`], then by vectors of outputs less one.")?;
        let constant = kind.name.to_uppercase();
        writeln!(code, "pub(crate) const {constant}: [[Multiply; 2]; {}] = [", SIZES.len())?;
        for rows in SIZES {
            let [one, two] = loops(rows).map(|each| each.name());
            writeln!(code, "[{one}, {two}],")?;
        }
        writeln!(code, "];")?;
    }
    fs::write(Path::new(&env::var("OUT_DIR")?).join("products.rs"), code)?;
    Ok(())
}
