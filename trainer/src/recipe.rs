//! Architectures and options that suit each representation.
//!
//! They were found on real click rows by rolling validation within the training part: nets learn
//! at a constant rate, rows by row-wise Adagrad, and the result is the mean of the weights over the
//! last half epoch. Rows that are seen a second time overfit, so that variants with tables take one
//! epoch, or two with the rows begun anew; a DHE, whose ids share all weights, takes two.

use mprec_representations::{
    Activation, Combination, DheSpec, DlrmSpec, Interaction, RepresentationSpec, Schema, Transform,
};

use crate::options::TrainOptions;

/// Ids above which the quotient–remainder trick pays, as in `facebookresearch/dlrm`.
const QUOTIENTS_FROM: u64 = 200;

/// What to train, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// The architecture.
    pub spec: DlrmSpec,
    /// How to train it.
    pub options: TrainOptions,
}

/// Sizes of the nets and representations of a [`Recipe`].
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Width of all vectors.
    pub dim: usize,
    /// How vectors meet.
    pub interaction: Interaction,
    /// Hidden widths of the bottom net.
    pub bottom: Vec<usize>,
    /// Hidden widths of the top net.
    pub top: Vec<usize>,
    /// Rows per feature of a hashed table.
    pub hash_rows: u64,
    /// Ids that share a quotient row.
    pub collisions: u64,
    /// Hashes and hidden widths of a DHE.
    pub dhe: (usize, Vec<usize>),
    /// Hashes and hidden widths of the DHE of a hybrid.
    pub hybrid_dhe: (usize, Vec<usize>),
    /// How many features, those with the most ids, a `select` variant gives to DHE.
    pub select_dhe: usize,
}

impl Default for Shape {
    /// MP-Rec's Kaggle nets (13-512-256-64-16 and 512-256-1, dot interaction) around DHEs that are
    /// small enough to train on a laptop.
    fn default() -> Self {
        Self {
            dim: 16,
            interaction: Interaction::Dot { itself: false },
            bottom: vec![512, 256, 64],
            top: vec![512, 256],
            hash_rows: 1000,
            collisions: 4,
            dhe: (64, vec![64]),
            hybrid_dhe: (32, vec![32]),
            select_dhe: 5,
        }
    }
}

impl Shape {
    /// Small nets, for small data and tests.
    pub fn small() -> Self {
        Self {
            dim: 8,
            bottom: vec![32],
            top: vec![64, 32],
            hash_rows: 100,
            dhe: (16, vec![16]),
            hybrid_dhe: (16, vec![16]),
            ..Self::default()
        }
    }

    fn decoder(&self, (hashes, hidden): &(usize, Vec<usize>)) -> DheSpec {
        DheSpec {
            hashes: *hashes,
            transform: Transform::Uniform,
            hidden: hidden.clone(),
            dim: self.dim,
            // A sigmoid here, as MP-Rec's artifact has, costs 0.01 of AUC.
            activation: Activation::None,
            normalised: false,
        }
    }
}

impl Recipe {
    /// The representations that have a recipe.
    pub const NAMES: [&str; 6] = ["table", "hash", "quotient_remainder", "dhe", "hybrid", "select"];

    /// The recipe of this name, one of [`Recipe::NAMES`].
    pub fn named(name: &str, schema: &Schema, shape: &Shape) -> Option<Self> {
        Some(match name {
            "table" => Self::table(schema, shape),
            "hash" => Self::hash(schema, shape),
            "quotient_remainder" => Self::quotient_remainder(schema, shape),
            "dhe" => Self::dhe(schema, shape),
            "hybrid" => Self::hybrid(schema, shape),
            "select" => Self::select(schema, shape),
            _ => return None,
        })
    }

    /// A row for every id.
    pub fn table(schema: &Schema, shape: &Shape) -> Self {
        let table = RepresentationSpec::Table { dim: shape.dim };
        Self::uniform(schema, shape, &table, renewing())
    }

    /// [`Shape::hash_rows`] rows per feature.
    pub fn hash(schema: &Schema, shape: &Shape) -> Self {
        let hash = RepresentationSpec::Hash { dim: shape.dim, rows: shape.hash_rows };
        Self::uniform(schema, shape, &hash, renewing())
    }

    /// Quotient and remainder rows, multiplied, for features with more than 200 ids; a table for
    /// the others.
    pub fn quotient_remainder(schema: &Schema, shape: &Shape) -> Self {
        let &Shape { dim, collisions, .. } = shape;
        let combination = Combination::Mult;
        let features = schema.sparse().iter().map(|feature| match feature.cardinality {
            0..=QUOTIENTS_FROM => RepresentationSpec::Table { dim },
            _ => RepresentationSpec::QuotientRemainder { dim, collisions, combination },
        });
        Self::mixed(schema, shape, features.collect(), renewing())
    }

    /// Vectors computed by a network from hashes of the id.
    pub fn dhe(schema: &Schema, shape: &Shape) -> Self {
        let dhe = RepresentationSpec::Dhe(shape.decoder(&shape.dhe));
        let options =
            TrainOptions { epochs: 2, average_from: Some(0.5), ..TrainOptions::default() };
        Self::uniform(schema, shape, &dhe, options)
    }

    /// A table's vector and a DHE's vector of every feature.
    pub fn hybrid(schema: &Schema, shape: &Shape) -> Self {
        let dhe = shape.decoder(&shape.hybrid_dhe);
        let hybrid = RepresentationSpec::Hybrid { dim: shape.dim, dhe };
        Self::uniform(schema, shape, &hybrid, TrainOptions::default())
    }

    /// DHE for the [`Shape::select_dhe`] features with the most ids, a table for the others.
    pub fn select(schema: &Schema, shape: &Shape) -> Self {
        let mut by_ids: Vec<usize> = (0..schema.sparse().len()).collect();
        by_ids.sort_by_key(|&feature| std::cmp::Reverse(schema.sparse()[feature].cardinality));
        let mut features = vec![RepresentationSpec::Table { dim: shape.dim }; by_ids.len()];
        for &feature in by_ids.iter().take(shape.select_dhe) {
            features[feature] = RepresentationSpec::Dhe(shape.decoder(&shape.dhe));
        }
        Self::mixed(schema, shape, features, renewing())
    }

    fn uniform(
        schema: &Schema,
        shape: &Shape,
        representation: &RepresentationSpec,
        options: TrainOptions,
    ) -> Self {
        let features = vec![representation.clone(); schema.sparse().len()];
        Self::mixed(schema, shape, features, options)
    }

    fn mixed(
        schema: &Schema,
        shape: &Shape,
        features: Vec<RepresentationSpec>,
        options: TrainOptions,
    ) -> Self {
        let Shape { interaction, bottom, top, .. } = shape;
        Self { spec: DlrmSpec::new(schema, features, *interaction, bottom, top), options }
    }
}

/// Two epochs, the second with new rows, averaged over its second half.
fn renewing() -> TrainOptions {
    TrainOptions {
        epochs: 2,
        renew_rows: true,
        average_from: Some(0.75),
        ..TrainOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use mprec_representations::SparseFeature;

    use super::*;

    #[test]
    fn every_recipe_fits_its_schema_and_has_valid_options() {
        let sparse = [3, 5000, 201]
            .map(|cardinality| SparseFeature { name: format!("of {cardinality}"), cardinality });
        let schema = Schema::new(vec!["x".into()], sparse.into(), Default::default()).unwrap();
        for name in Recipe::NAMES {
            let shape = Shape { select_dhe: 1, ..Shape::default() };
            let recipe = Recipe::named(name, &schema, &shape).unwrap();
            recipe.spec.check(&schema).unwrap();
            recipe.options.check().unwrap();
        }
        assert_eq!(Recipe::named("tabel", &schema, &Shape::default()), None);
        let names = |recipe: Recipe| -> Vec<&str> {
            recipe.spec.features.iter().map(RepresentationSpec::name).collect()
        };
        let shape = Shape { select_dhe: 1, ..Shape::default() };
        assert_eq!(names(Recipe::select(&schema, &shape)), ["table", "dhe", "table"]);
        let quotients = names(Recipe::quotient_remainder(&schema, &shape));
        assert_eq!(quotients, ["table", "quotient_remainder", "quotient_remainder"]);
    }
}
