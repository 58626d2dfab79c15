//! Tables in memory of their own, for rows that are fetched faster than from a mapped file.
//!
//! A mapped file lies in pages of 4 KiB. A lookup in a table of gigabytes then misses not only the caches but the
//! processor's list of pages as well, and waits twice. Memory of our own can lie in pages of 2 MiB, where the system
//! grants them (Linux: `transparent_hugepage` set to `always` or `madvise`); it costs a copy at the start.

use std::{collections::BTreeMap, io};

use crate::{op::Op, program::Program, quant::FusedRows, rows::Rows};

/// Copies of tables made so far: programs that share a table share its copy.
#[derive(Debug, Default)]
pub struct ResidentRows {
    /// By the address of the original, which is kept so that the address stays its own.
    copies: BTreeMap<usize, (Rows, Rows)>,
}

impl ResidentRows {
    /// No copies yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// `program` with every table that it looks rows up in replaced by a copy.
    ///
    /// # Errors
    ///
    /// When the memory cannot be had.
    pub fn program(&mut self, program: &Program) -> io::Result<Program> {
        let mut program = program.clone();
        for op in program.ops_mut() {
            if let Op::BagSum { rows, .. } = op {
                *rows = self.copy(rows)?;
            }
        }
        Ok(program)
    }

    /// Bytes of all copies.
    pub fn bytes(&self) -> usize {
        self.copies.values().map(|(_, copy)| copy.bytes()).sum()
    }

    fn copy(&mut self, rows: &Rows) -> io::Result<Rows> {
        if let Some((_, copy)) = self.copies.get(&address(rows)) {
            return Ok(copy.clone());
        }
        let copy = match rows {
            Rows::F32(table) => Rows::F32(table.resident()?),
            Rows::F16(table) => Rows::F16(table.resident()?),
            Rows::BF16(table) => Rows::BF16(table.resident()?),
            Rows::Fused(table) => {
                let bytes = table.bytes().resident()?;
                Rows::Fused(FusedRows::new(bytes, table.dim(), table.bits()))
            }
        };
        self.copies.insert(address(rows), (rows.clone(), copy.clone()));
        Ok(copy)
    }
}

fn address(rows: &Rows) -> usize {
    match rows {
        Rows::F32(table) => table.as_slice().as_ptr().addr(),
        Rows::F16(table) => table.as_slice().as_ptr().addr(),
        Rows::BF16(table) => table.as_slice().as_ptr().addr(),
        Rows::Fused(table) => table.bytes().as_slice().as_ptr().addr(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        op::RowIndex,
        program::ProgramBuilder,
        schema::{Schema, SparseFeature},
        tensor::Tensor,
    };

    fn table(program: &Program) -> &Rows {
        match &program.ops()[0] {
            Op::BagSum { rows, .. } => rows,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn copies_hold_the_same_rows_and_are_shared() {
        let sparse = vec![SparseFeature { name: "s".into(), cardinality: 300 }];
        let schema = Schema::new(vec!["d".into()], sparse, Default::default()).unwrap();
        let rows = Tensor::new(&[300, 1], (0..300).map(|at| at as f32).collect());
        let fused = FusedRows::quantise(&rows, 8);
        for rows in [Rows::F32(rows.clone()), Rows::Fused(fused)] {
            let program = || {
                let mut program = ProgramBuilder::new(&schema);
                let logit = program.bag_sum(0, rows.clone(), RowIndex::Id).unwrap();
                program.finish(logit).unwrap()
            };
            let mut resident = ResidentRows::new();
            let [one, two] = [program(), program()].map(|each| resident.program(&each).unwrap());
            assert_ne!(address(table(&one)), address(&rows));
            assert_eq!(address(table(&one)), address(table(&two)));
            assert_eq!(resident.bytes(), rows.bytes());
            for at in [0, 1, 299] {
                let (mut copied, mut original) = ([0.0], [0.0]);
                table(&one).add_to(at, 1.0, &mut copied);
                rows.add_to(at, 1.0, &mut original);
                assert_eq!(copied, original);
            }
        }
    }
}
