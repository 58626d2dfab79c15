//! What a recipe names, read before anything is written.

use std::{collections::BTreeMap, io::Read, path::Path, sync::Arc};

use mprec_representations::{OutOfVocabulary, Schema, SparseFeature};

use super::Recipe;
use crate::{
    error::PrepareError,
    folder::{Coding, Vocabulary},
    layout::{Layout, MAX_TABLE_BYTES, Table},
    preprocessor::{Coder, Preprocessor},
    read::Input,
};

/// The recipe with everything that it names read.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) layout: Layout,
    pub(super) coding: Coding,
    pub(super) tables: BTreeMap<String, Arc<Table>>,
    /// Another folder's preprocessing, and its schema.
    pub(super) same: Option<Preprocessor>,
    /// Ways to final ids, if there are any before all rows are read.
    pub(super) coders: Vec<Coder>,
}

impl Plan {
    /// Reads what the recipe names.
    pub(super) fn of(recipe: &Recipe) -> Result<Self, PrepareError> {
        match recipe {
            Recipe::Same(folder) => {
                let same = Preprocessor::open(folder)?;
                Ok(Self {
                    layout: same.preprocessing().layout.clone(),
                    coding: same.preprocessing().coding.clone(),
                    tables: same.tables().clone(),
                    coders: same.coders().to_vec(),
                    same: Some(same),
                })
            }
            Recipe::New { layout, coding, tables } => {
                let fields = layout.fields();
                let read = fields
                    .joins
                    .iter()
                    .filter_map(|join| Some((join, tables.get(&join.table)?)))
                    .map(|(join, path)| {
                        let text = read_table(path)?;
                        let table =
                            Table::parse(&join.table, text, fields.delimiter as u8, &join.key)?;
                        Ok((join.table.clone(), Arc::new(table)))
                    })
                    .collect::<Result<_, PrepareError>>()?;
                // Features that make no schema are found out before anything is read.
                features(layout, |_| 1)?;
                let coders = match *coding {
                    Coding::Vocabulary { .. } => Vec::new(),
                    Coding::Hashing { rows, seed } => (0..fields.sparse.len())
                        .map(|feature| Coder::Hashed { feature, rows, seed })
                        .collect(),
                };
                Ok(Self {
                    layout: layout.clone(),
                    coding: coding.clone(),
                    tables: read,
                    coders,
                    same: None,
                })
            }
        }
    }

    /// The schema, given the vocabulary if one was learned.
    pub(super) fn schema(&self, learned: Option<&Vocabulary>) -> Result<Schema, PrepareError> {
        if let Some(same) = &self.same {
            return Ok(same.schema().clone());
        }
        features(&self.layout, |feature| match (learned, &self.coding) {
            (Some(vocabulary), _) => vocabulary.cardinality(feature),
            (None, Coding::Hashing { rows, .. }) => *rows,
            // Without learners there is hashing or another folder.
            (None, Coding::Vocabulary { .. }) => 0,
        })
    }
}

/// The schema of a layout's features with these cardinalities.
fn features(layout: &Layout, cardinality: impl Fn(usize) -> u64) -> Result<Schema, PrepareError> {
    let fields = layout.fields();
    let sparse = fields.sparse.iter().enumerate().map(|(feature, sparse)| SparseFeature {
        name: sparse.name.clone(),
        cardinality: cardinality(feature),
    });
    let dense = fields.dense.iter().map(|dense| dense.name.clone());
    Ok(Schema::new(dense.collect(), sparse.collect(), OutOfVocabulary::Zero)?)
}

/// A table's text, compressed or not.
fn read_table(path: &Path) -> Result<Vec<u8>, PrepareError> {
    let fail = |source| PrepareError::Read { file: path.into(), source };
    let mut text = Vec::new();
    let reader = Input::find(path)?.open(&Arc::default()).map_err(fail)?;
    // One byte more than allowed is enough to be refused.
    reader.take(MAX_TABLE_BYTES + 1).read_to_end(&mut text).map_err(fail)?;
    Ok(text)
}
