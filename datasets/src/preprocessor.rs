//! Raw rows encoded as those of a prepared folder were: what serving does with them.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use mprec_representations::{BatchShape, Schema};

use crate::{
    dataset::LabelledBatch,
    error::DatasetError,
    folder::{
        Coding, Manifest, Preprocessing, Vocabulary, damaged, read_limited, sha256_hex,
        vocabulary::{Lookup, MAX_TOKENS},
    },
    layout::{LineFields, MAX_TABLE_BYTES, Table},
    read::{ParsedRows, parse_line},
    token::Token,
};

/// The preprocessing of a prepared folder, ready to encode.
#[derive(Debug, Clone)]
pub struct Preprocessor {
    schema: Schema,
    shape: BatchShape,
    preprocessing: Preprocessing,
    vocabulary: Option<Arc<Vocabulary>>,
    coders: Arc<Vec<Coder>>,
    tables: BTreeMap<String, Arc<Table>>,
}

/// How the tokens of one feature become ids.
#[derive(Debug, Clone)]
pub(crate) enum Coder {
    Known(Lookup),
    Hashed { feature: usize, rows: u64, seed: u64 },
}

impl Coder {
    pub(crate) fn id(&self, token: Token) -> u32 {
        match self {
            Self::Known(lookup) => lookup.id(token),
            // At most 2^32 rows, so the last id fits.
            Self::Hashed { feature, rows, seed } => token.hashed(*feature, *rows, *seed) as u32,
        }
    }
}

impl Preprocessor {
    /// Reads the preprocessing of a prepared folder; its rows are not needed. Digests are checked.
    ///
    /// # Errors
    ///
    /// [`DatasetError`] when the folder is not a prepared one, its rows were made up and so never
    /// raw, or a file is damaged.
    pub fn open(folder: &Path) -> Result<Self, DatasetError> {
        Self::of(folder, &Manifest::read(folder)?)
    }

    pub(crate) fn of(folder: &Path, manifest: &Manifest) -> Result<Self, DatasetError> {
        let Some(preprocessing) = &manifest.preprocessing else {
            let reason = "its rows were made up, so there is no way from raw rows to them";
            return Err(damaged(&folder.join(crate::folder::MANIFEST), reason));
        };
        let read = |entry: &crate::folder::FileEntry, limit: u64| {
            let file = folder.join(&entry.file);
            let bytes = read_limited(&file, limit.min(entry.bytes))?;
            if bytes.len() as u64 != entry.bytes || sha256_hex(&bytes) != entry.sha256 {
                return Err(damaged(&file, "its digest is not that of the manifest"));
            }
            Ok((file, bytes))
        };
        let features = manifest.schema.sparse().len();
        let vocabulary = match &preprocessing.vocabulary {
            None => None,
            Some(entry) => {
                let limit = 8 * (features as u64 + 1) * (MAX_TOKENS as u64 + 3);
                let (file, bytes) = read(entry, limit)?;
                let vocabulary = Vocabulary::from_bytes(&file, &bytes)?;
                let cardinalities = manifest.schema.sparse().iter().map(|f| f.cardinality);
                if vocabulary.features() != features
                    || !cardinalities.eq((0..features).map(|at| vocabulary.cardinality(at)))
                {
                    return Err(damaged(&file, "its counts are not the schema's cardinalities"));
                }
                Some((file, vocabulary))
            }
        };
        let coders = match (&vocabulary, &preprocessing.coding) {
            (Some((file, vocabulary)), _) => vocabulary
                .lookups()
                .map_err(|feature| {
                    damaged(file, format!("a token of feature {feature} is listed twice"))
                })?
                .into_iter()
                .map(Coder::Known)
                .collect(),
            (None, &Coding::Hashing { rows, seed }) => {
                (0..features).map(|feature| Coder::Hashed { feature, rows, seed }).collect()
            }
            (None, Coding::Vocabulary { .. }) => {
                // `Manifest::read` found that they agree.
                return Err(damaged(folder, "it names no vocabulary"));
            }
        };
        let fields = preprocessing.layout.fields();
        let mut tables = BTreeMap::new();
        for (join, entry) in fields.joins.iter().zip(&preprocessing.tables) {
            let (_, text) = read(entry, MAX_TABLE_BYTES)?;
            let table = Table::parse(&join.table, text, fields.delimiter as u8, &join.key)?;
            tables.insert(join.table.clone(), Arc::new(table));
        }
        Ok(Self {
            schema: manifest.schema.clone(),
            shape: BatchShape::new(&manifest.schema),
            preprocessing: preprocessing.clone(),
            vocabulary: vocabulary.map(|(_, vocabulary)| Arc::new(vocabulary)),
            coders: Arc::new(coders),
            tables,
        })
    }

    /// The features of what is encoded.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The settings.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// The tokens behind the ids, unless they are hashes.
    pub fn vocabulary(&self) -> Option<&Vocabulary> {
        self.vocabulary.as_deref()
    }

    /// The id of a value of a sparse feature, as its text stands in a raw row of kind
    /// [`SparseKind::Text`](crate::layout::SparseKind::Text), or of the token it makes.
    ///
    /// # Panics
    ///
    /// If there is no such feature.
    pub fn id(&self, feature: usize, token: Token) -> u64 {
        self.coders[feature].id(token).into()
    }

    /// Encodes raw lines. The first one is the header if the layout has one. Labels are read where
    /// the lines have them; without a header, lines of one column less have none.
    ///
    /// # Errors
    ///
    /// [`DatasetError::Line`] for the first line that is malformed: unlike a preparation, nothing
    /// is left out. [`DatasetError::Layout`] when the header lacks a column.
    pub fn encode(&self, text: &[u8]) -> Result<LabelledBatch, DatasetError> {
        let mut lines = text.split(|&byte| byte == b'\n').collect::<Vec<_>>();
        if lines.last().is_some_and(|line| line.is_empty()) {
            lines.pop();
        }
        let first = lines.first().copied().unwrap_or_default();
        let fields = LineFields::resolve(&self.preprocessing.layout, first, &self.tables)?;
        let mut rows = ParsedRows::new(fields.sparse.len());
        let mut values = Vec::new();
        for (line, number) in lines.iter().zip(1..).skip(fields.header.into()) {
            parse_line(&fields, line, &mut values, &mut rows)
                .map_err(|source| DatasetError::Line { line: number, source })?;
        }
        let ids: Vec<i64> = rows
            .tokens
            .iter()
            .zip(self.coders.iter())
            .flat_map(|(column, coder)| column.iter().map(|&token| coder.id(token).into()))
            .collect();
        let batch = self.shape.from_columns(rows.dense, &ids)?;
        Ok(LabelledBatch { batch, labels: rows.labels.iter().map(|&label| label.into()).collect() })
    }

    pub(crate) fn coders(&self) -> &[Coder] {
        &self.coders
    }

    pub(crate) fn tables(&self) -> &BTreeMap<String, Arc<Table>> {
        &self.tables
    }
}
