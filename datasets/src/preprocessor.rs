//! Raw rows encoded as those of a prepared folder were: what serving does with them.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use mprec_representations::{BatchShape, Schema};

use crate::{
    dataset::LabelledBatch,
    error::DatasetError,
    folder::{
        Coding, FileEntry, Manifest, Preprocessing, Vocabulary, damaged, map, read_limited,
        sha256_hex, vocabulary::Lookup,
    },
    layout::{LineFields, MAX_TABLE_BYTES, Table},
    raw::Sources,
    read::{ParsedRows, parse_line},
    token::Token,
};

/// The preprocessing of a prepared folder or of a bundle, ready to encode.
///
/// The vocabulary's file is mapped, not copied, and must not be changed as long as this or a clone of it lives; finding its tokens takes 6 to 12 bytes
/// of memory for each beside it.
#[derive(Debug, Clone)]
pub struct Preprocessor {
    schema: Schema,
    pub(crate) shape: BatchShape,
    preprocessing: Preprocessing,
    vocabulary: Option<Vocabulary>,
    coders: Arc<Vec<Coder>>,
    tables: BTreeMap<String, Arc<Table>>,
    pub(crate) sources: Arc<Sources>,
}

/// How the tokens of one feature become ids.
#[derive(Debug, Clone)]
pub(crate) enum Coder {
    Known(Lookup),
    Hashed { feature: usize, rows: u64, seed: u64 },
}

impl Coder {
    /// The token's id, which is 0 for all that are not listed.
    pub(crate) fn id(&self, token: Token) -> u32 {
        self.known(token).unwrap_or(0)
    }

    /// The token's id; `None` if it is not listed.
    pub(crate) fn known(&self, token: Token) -> Option<u32> {
        match self {
            Self::Known(lookup) => lookup.id(token),
            // At most 2^32 rows, so the last id fits.
            Self::Hashed { feature, rows, seed } => {
                Some(token.hashed(*feature, *rows, *seed) as u32)
            }
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
        Self::of_files(folder, &manifest.schema, preprocessing)
    }

    /// The preprocessing whose files lie in `folder`, for features whose names were compared with it.
    pub(crate) fn of_files(
        folder: &Path,
        schema: &Schema,
        preprocessing: &Preprocessing,
    ) -> Result<Self, DatasetError> {
        let check = |file: &Path, bytes: &[u8], entry: &FileEntry| {
            if bytes.len() as u64 != entry.bytes || sha256_hex(bytes) != entry.sha256 {
                return Err(damaged(file, "its digest is not that of the manifest"));
            }
            Ok(())
        };
        let features = schema.sparse().len();
        let vocabulary = match &preprocessing.vocabulary {
            None => None,
            Some(entry) => {
                let file = folder.join(&entry.file);
                let bytes = map(&file, entry.bytes)?;
                check(&file, &bytes, entry)?;
                let vocabulary = Vocabulary::mapped(&file, bytes)?;
                let cardinalities = schema.sparse().iter().map(|feature| feature.cardinality);
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
                if schema.sparse().iter().any(|feature| feature.cardinality != rows) {
                    return Err(damaged(folder, "it hashes to other rows than its schema has"));
                }
                (0..features).map(|feature| Coder::Hashed { feature, rows, seed }).collect()
            }
            (None, Coding::Vocabulary { .. }) => {
                // `Preprocessing::check` found that they agree.
                return Err(damaged(folder, "it names no vocabulary"));
            }
        };
        let fields = preprocessing.layout.fields();
        let mut tables = BTreeMap::new();
        for (join, entry) in fields.joins.iter().zip(&preprocessing.tables) {
            let file = folder.join(&entry.file);
            let text = read_limited(&file, MAX_TABLE_BYTES.min(entry.bytes))?;
            check(&file, &text, entry)?;
            let table = Table::parse(&join.table, text, fields.delimiter as u8, &join.key)?;
            tables.insert(join.table.clone(), Arc::new(table));
        }
        Ok(Self {
            schema: schema.clone(),
            shape: BatchShape::new(schema),
            sources: Arc::new(Sources::of(&preprocessing.layout, &tables)?),
            preprocessing: preprocessing.clone(),
            vocabulary: vocabulary.map(|(_, vocabulary)| vocabulary),
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
        self.vocabulary.as_ref()
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
    /// is left out. [`DatasetError::Layout`] when the header lacks a column. [`DatasetError::Batch`] for the first token
    /// that is not listed, if the schema refuses such; they count as unknown otherwise.
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
        let columns = rows.tokens.iter().enumerate();
        let ids: Vec<i64> = columns
            .flat_map(|(feature, column)| column.iter().map(move |&token| (feature, token)))
            .map(|(feature, token)| self.id_or_unknown(feature, token))
            .collect();
        let batch = self.shape.from_columns(rows.dense, &ids)?;
        Ok(LabelledBatch { batch, labels: rows.labels.iter().map(|&label| label.into()).collect() })
    }

    /// The token's id. One that is not listed gets the first id outside the vocabulary, which the schema's rule makes the
    /// row of all of these, or refuses; either way it counts as unknown.
    pub(crate) fn id_or_unknown(&self, feature: usize, token: Token) -> i64 {
        let known = self.coders[feature].known(token).map(i64::from);
        known.unwrap_or(self.schema.sparse()[feature].cardinality as i64)
    }

    pub(crate) fn coders(&self) -> &[Coder] {
        &self.coders
    }

    pub(crate) fn tables(&self) -> &BTreeMap<String, Arc<Table>> {
        &self.tables
    }
}
