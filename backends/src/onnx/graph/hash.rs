//! Hash codes: integers of 64 bits throughout, then floats in the interpreter's order of operations.
//!
//! Residues lie below 2^31, so `a·(id mod p) + b` lies below 2^62 and is exact.

use std::f32::consts::TAU;

use mprec_representations::{HashFamily, Tensor, Transform};

use super::{ElementType, Lowering, Name, Parameter, floats};

impl Lowering<'_> {
    /// `[ids, k]`
    pub(super) fn hash_encode(
        &mut self,
        feature: usize,
        family: &HashFamily,
        transform: Transform,
    ) -> Name {
        let inputs = self.feature(feature);
        let ids = inputs.bags.map_or(inputs.ids, |bags| bags.column);
        let hashes: Vec<[i64; 4]> = (0..family.len())
            .map(|at| {
                let row = family.parameters().row(at);
                [row[0], row[1], row[2], row[3]]
            })
            .collect();
        match transform {
            Transform::Uniform => {
                let values = self.hash(&ids, &hashes);
                let most: Vec<f32> = hashes.iter().map(|hash| (hash[3] - 1) as f32).collect();
                let most = self.model.parameter("most", floats(most));
                let (two, one) = (self.model.float(2.0), self.model.float(1.0));
                let share = self.model.node("Div", &[&values, &most], &[]);
                let double = self.model.node("Mul", &[&share, &two], &[]);
                self.model.node("Sub", &[&double, &one], &[])
            }
            Transform::Gaussian => {
                // Pairs are neighbours: the first of each gives the radius, the second the angle.
                let first: Vec<[i64; 4]> = hashes.iter().copied().step_by(2).collect();
                let second: Vec<[i64; 4]> = hashes.iter().copied().skip(1).step_by(2).collect();
                let [radius, angle] = [first, second].map(|hashes| self.unit(&ids, &hashes));
                let (minus_two, tau) = (self.model.float(-2.0), self.model.float(TAU));
                let radius = self.model.node("Log", &[&radius], &[]);
                let radius = self.model.node("Mul", &[&minus_two, &radius], &[]);
                let radius = self.model.node("Sqrt", &[&radius], &[]);
                let angle = self.model.node("Mul", &[&tau, &angle], &[]);
                let axis = self.model.integers(&[2]);
                let [left, right] = ["Cos", "Sin"].map(|op| {
                    let turned = self.model.node(op, &[&angle], &[]);
                    let value = self.model.node("Mul", &[&radius, &turned], &[]);
                    self.model.node("Unsqueeze", &[&value, &axis], &[])
                });
                let pairs = self.concat(&[&left, &right], 2);
                self.reshape(&pairs, &[0, family.len() as i64])
            }
        }
    }

    /// `(h + 1) / m`, in `(0, 1]`.
    fn unit(&mut self, ids: &str, hashes: &[[i64; 4]]) -> Name {
        let values = self.hash(ids, hashes);
        let range = hashes.iter().map(|hash| hash[3] as f32).collect();
        let range = self.model.parameter("range", floats(range));
        // Below 2^24, so the sum of floats is the float of the sum.
        let one = self.model.float(1.0);
        let values = self.model.node("Add", &[&values, &one], &[]);
        self.model.node("Div", &[&values, &range], &[])
    }

    /// `((a·id + b) mod p) mod m` as floats, which hold it exactly.
    fn hash(&mut self, ids: &str, hashes: &[[i64; 4]]) -> Name {
        let [a, b, p, m] = [0, 1, 2, 3].map(|at| {
            let mut column: Vec<i64> = hashes.iter().map(|hash| hash[at]).collect();
            // One modulus for all is the usual case, and reduces each id once.
            if column.iter().all(|value| *value == column[0]) {
                column.truncate(1);
            }
            let column = Parameter::I64(Tensor::new(&[column.len()], column));
            self.model.parameter(["a", "b", "p", "m"][at], column)
        });
        let residue = self.model.node("Mod", &[ids, &p], &[]);
        let product = self.model.node("Mul", &[&residue, &a], &[]);
        let sum = self.model.node("Add", &[&product, &b], &[]);
        let sum = self.model.node("Mod", &[&sum, &p], &[]);
        let hash = self.model.node("Mod", &[&sum, &m], &[]);
        self.cast(&hash, ElementType::F32)
    }
}
