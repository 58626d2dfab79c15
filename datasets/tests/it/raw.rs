//! Raw values by feature become what lines with them become, in a folder's preprocessing and in a bundle's.

use std::{fs, path::Path};

use crate::common::{assert_same, criteo, lines, with_gaps, write};
use mprec_datasets::{
    Coding, Dataset, DatasetError, LabelledBatch, PrepareOptions, Preprocessor, RawDense, RawError,
    RawProblem, Recipe, ValueError, bundle_preprocessing, prepare,
};
use mprec_representations::{
    BatchError, Bundle, BundleError, BundleWriter, DlrmSpec, Interaction, OutOfVocabulary,
    RepresentationSpec, Schema, Tensor, Weights,
};
use proptest::prelude::*;

fn prepared(folder: &Path, rows: u64) -> Preprocessor {
    let input = write(folder, "rows", with_gaps(&lines(rows, 1)));
    prepare(&criteo(&[&input], &folder.join("out")), |_| ()).unwrap();
    Preprocessor::open(&folder.join("out")).unwrap()
}

/// Rows of the same data, of which some were prepared and some are new.
fn rows_after(first: usize, end: u64) -> String {
    let text = with_gaps(&lines(end, 1));
    text.split_inclusive('\n').skip(first).collect()
}

/// Values of a row in the Criteo layout that nothing is wrong with.
fn row() -> (Vec<&'static [u8]>, Vec<&'static [u8]>) {
    (vec![b"3"; 13], vec![b"0000000a"; 26])
}

/// A bundle of a small model with the preprocessing of a prepared folder, under another rule for unknown ids.
fn bundle(folder: &Path, data: &Path, rule: OutOfVocabulary) -> Result<Bundle, BundleError> {
    let dataset = Dataset::open(data).unwrap();
    let (dense, sparse) = (dataset.schema().dense().to_vec(), dataset.schema().sparse().to_vec());
    let schema = Schema::new(dense, sparse, rule).unwrap();
    let dot = Interaction::Dot { itself: false };
    let spec = DlrmSpec::uniform(&schema, &RepresentationSpec::Table { dim: 2 }, dot, &[], &[]);
    let mut weights = Weights::new();
    for tensor in spec.tensors(&schema) {
        let zeros = vec![0.0_f32; tensor.shape.iter().product()];
        weights.insert(tensor.name, Tensor::new(&tensor.shape, zeros));
    }
    let mut writer = BundleWriter::create(folder, "m", "1", schema, None)?;
    writer.set_preprocessing(bundle_preprocessing(dataset.manifest()), data)?;
    writer.add("table", &spec, &weights, None)?;
    writer.finish()?;
    Bundle::open(folder)
}

#[test]
fn values_become_what_lines_become() {
    let folder = tempfile::tempdir().unwrap();
    let preprocessor = prepared(folder.path(), 2_000);
    let text = rows_after(1_900, 2_500);
    let rows: Vec<Vec<&[u8]>> =
        text.lines().map(|line| line.split('\t').map(str::as_bytes).collect()).collect();
    let dense: Vec<&[u8]> = rows.iter().flat_map(|row| &row[1..14]).copied().collect();
    let sparse: Vec<&[u8]> = rows.iter().flat_map(|row| &row[14..]).copied().collect();
    let expected = preprocessor.encode(text.as_bytes()).unwrap().batch;
    let batch = preprocessor.encode_values(RawDense::Texts(&dense), &sparse).unwrap();
    assert_eq!(batch, expected);
    assert!(batch.unknown_ids() > 0 && batch.ids().iter().any(|&id| id > 20));

    // Where none is missing, dense values may be numbers.
    let integers: Vec<i64> = dense
        .iter()
        .map(|text| std::str::from_utf8(text).unwrap().parse().unwrap_or_default())
        .collect();
    assert_eq!(preprocessor.encode_values(RawDense::Integers(&integers), &sparse), Ok(batch));
    let none = preprocessor.encode_values(RawDense::Integers(&[]), &[]).unwrap();
    assert_eq!(none.samples(), 0);
}

#[test]
fn joined_values_are_looked_up_and_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let mut options = super::open_bandit::options(out.clone());
    options.max_rows = Some(5_000);
    prepare(&options, |_| ()).unwrap();
    let carried = bundle(&folder.path().join("model"), &out, OutOfVocabulary::Zero).unwrap();
    let preprocessor = Preprocessor::of_bundle(&carried).unwrap().unwrap();
    let header =
        "item_id,position,user_feature_0,user_feature_1,user_feature_2,user_feature_3,timestamp";
    for item in ["men-7", "all-1", "nobody's", ""] {
        let line = format!("{header}\n{item},2,a,b,c,d,2019-11-25 12:30:00\n");
        let expected = preprocessor.encode(line.as_bytes()).unwrap().batch;
        let time = b"2019-11-25 12:30:00";
        let sparse = [item.as_bytes(), b"2", b"a", b"b", b"c", b"d", b"", b"", b"", time].to_vec();
        let dense: [&[u8]; 2] = [b"", time];
        let batch = preprocessor.encode_values(RawDense::Texts(&dense), &sparse).unwrap();
        assert_eq!(batch, expected, "{item}");

        let given: [&[u8]; 2] = [b"0.5", time];
        let error = preprocessor.encode_values(RawDense::Texts(&given), &sparse).unwrap_err();
        let RawError::Value { sample: 0, feature, is_dense: true, problem } = error else {
            panic!("{error}")
        };
        assert_eq!((feature.as_str(), problem), ("item_feature_0", RawProblem::Joined));
        let error = preprocessor.encode_values(RawDense::Integers(&[0, 0]), &sparse).unwrap_err();
        assert!(error.to_string().contains("BYTES, with this feature empty"), "{error}");
        // The header may end in a carriage return, as the lines may.
        let windows = line.replace('\n', "\r\n");
        assert_eq!(preprocessor.encode(windows.as_bytes()).unwrap().batch, expected, "{item}");
        // Any column may be the last one of a file with a header, where a carriage return is none of the value.
        let mut returned = sparse.clone();
        returned[2] = b"a\r";
        let error = preprocessor.encode_values(RawDense::Texts(&dense), &returned).unwrap_err();
        assert!(
            error.to_string().contains("user_feature_0` of sample 0 holds a line end"),
            "{error}"
        );
        // A quote is no part of a value in a file whose columns are separated by commas.
        let mut quoted = sparse.clone();
        quoted[2] = b"\"a\"";
        let error = preprocessor.encode_values(RawDense::Texts(&dense), &quoted).unwrap_err();
        assert!(error.to_string().contains("user_feature_0"), "{error}");
    }
}

#[test]
fn what_no_line_could_hold_is_refused_by_sample_and_feature() {
    let folder = tempfile::tempdir().unwrap();
    let preprocessor = prepared(folder.path(), 1_000);
    let (good_dense, good_sparse) = row();
    let refuse = |dense: &[&[u8]], sparse: &[&[u8]]| {
        let dense = [&good_dense, dense].concat();
        let sparse = [&good_sparse, sparse].concat();
        preprocessor.encode_values(RawDense::Texts(&dense), &sparse).unwrap_err()
    };
    let integer = RawProblem::Value(ValueError::Integer);
    for (text, expected) in [
        (&b"x"[..], integer),
        (b"1.5", integer),
        (b" 1", integer),
        (b"+1", integer),
        (b"9223372036854775808", integer),
        (b"\xff", integer),
        (b"1\r", integer),
        (b"1\t2", RawProblem::Delimited),
        (b"1\n", RawProblem::Delimited),
    ] {
        let mut dense = good_dense.clone();
        dense[4] = text;
        let RawError::Value { sample, feature, is_dense, problem } = refuse(&dense, &good_sparse)
        else {
            panic!("{text:?}")
        };
        assert_eq!((sample, feature.as_str(), is_dense), (1, "I5", true));
        assert_eq!(problem, expected, "{text:?}");
    }
    let hex = RawProblem::Value(ValueError::Hex);
    for (text, expected) in [
        (&b"a"[..], hex),
        (b"0000000g", hex),
        (b"0x00000a", hex),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff", hex),
        (b"000000000000000a", hex),
        (b"000\n000a", RawProblem::Delimited),
        (b"0000000a\r", RawProblem::Delimited),
    ] {
        let mut sparse = good_sparse.clone();
        sparse[25] = text;
        let RawError::Value { sample, feature, is_dense, problem } = refuse(&good_dense, &sparse)
        else {
            panic!("{text:?}")
        };
        assert_eq!((sample, feature.as_str(), is_dense), (1, "C26", false));
        assert_eq!(problem, expected, "{text:?}");
    }
    // Digits without end are one value, which a line has no room for.
    let long = vec![b'0'; mprec_datasets::read::MAX_LINE_BYTES];
    let mut dense = good_dense.clone();
    dense[0] = &long;
    assert_eq!(refuse(&dense, &good_sparse), RawError::TooLong { sample: 1 });

    for (dense, sparse) in [(13, 25), (12, 26), (0, 26), (13, 0)] {
        let refused = preprocessor
            .encode_values(RawDense::Texts(&good_dense[..dense]), &good_sparse[..sparse]);
        assert!(matches!(refused, Err(RawError::Batch(_))), "{dense} {sparse}");
    }
}

#[test]
fn a_bundle_carries_what_its_data_was_prepared_with() {
    let folder = tempfile::tempdir().unwrap();
    let theirs = prepared(folder.path(), 2_000);
    let (data, model) = (folder.path().join("out"), folder.path().join("model"));
    let carried = bundle(&model, &data, OutOfVocabulary::Zero).unwrap();
    carried.verify().unwrap();
    // Nothing of the folder is needed any more.
    fs::remove_dir_all(&data).unwrap();
    let ours = Preprocessor::of_bundle(&carried).unwrap().unwrap();
    let later = rows_after(1_900, 2_200);
    let same: [LabelledBatch; 2] =
        [&theirs, &ours].map(|preprocessor| preprocessor.encode(later.as_bytes()).unwrap());
    assert_same(&same[0], &same[1]);
    assert_eq!(same[0], same[1]);
    assert_eq!(ours.preprocessing().coding, theirs.preprocessing().coding);
    assert_eq!(ours.vocabulary(), theirs.vocabulary());

    // Variants come and go, and the vocabulary stays; what the bundle never had is not touched.
    fs::write(model.join("vocabulary-000000000000.bin"), b"other").unwrap();
    let mut writer = BundleWriter::open(&model).unwrap();
    writer.add_ensemble("both", &["table", "table"], None);
    writer.finish().unwrap();
    assert!(model.join("vocabulary-000000000000.bin").exists());
    Bundle::open(&model).unwrap().verify().unwrap();
}

#[test]
fn unknown_tokens_follow_the_bundles_rule() {
    let folder = tempfile::tempdir().unwrap();
    prepared(folder.path(), 1_000);
    let data = folder.path().join("out");
    let (dense, mut sparse) = row();
    sparse[3] = b"fffffffe";
    let with = |name: &str, rule| {
        let carried = bundle(&folder.path().join(name), &data, rule).unwrap();
        let preprocessor = Preprocessor::of_bundle(&carried).unwrap().unwrap();
        preprocessor.encode_values(RawDense::Texts(&dense), &sparse)
    };
    // Offline they are id 0, and so they are whatever the rule does with numbers.
    let zero = with("zero", OutOfVocabulary::Zero).unwrap();
    assert_eq!(zero.bags(3).ids(), [0]);
    assert!(zero.unknown_ids() >= 1);
    assert_eq!(with("modulo", OutOfVocabulary::Modulo).unwrap().ids(), zero.ids());
    let refused = with("refuse", OutOfVocabulary::Refuse).unwrap_err();
    let outside = matches!(refused, RawError::Batch(BatchError::OutOfVocabulary { .. }));
    assert!(outside, "{refused}");
}

#[test]
fn hashed_rows_need_no_vocabulary_in_a_bundle_either() {
    let folder = tempfile::tempdir().unwrap();
    let text = lines(500, 3);
    let input = write(folder.path(), "rows", &text);
    let out = folder.path().join("out");
    let mut options: PrepareOptions = criteo(&[&input], &out);
    let Recipe::New { coding, .. } = &mut options.recipe else { unreachable!() };
    *coding = Coding::Hashing { rows: 101, seed: 5 };
    prepare(&options, |_| ()).unwrap();
    let model = folder.path().join("model");
    let carried = bundle(&model, &out, OutOfVocabulary::Refuse).unwrap();
    let preprocessor = Preprocessor::of_bundle(&carried).unwrap().unwrap();
    let stored = Dataset::open(&out).unwrap().batch(0..500).unwrap();
    assert_eq!(preprocessor.encode(text.as_bytes()).unwrap(), stored);
    // Another number of rows than the model has is found.
    edit(&model, "\"rows\": 101", "\"rows\": 102");
    let error = Preprocessor::of_bundle(&Bundle::open(&model).unwrap()).unwrap_err();
    assert!(error.to_string().contains("rows"), "{error}");
}

fn edit(model: &Path, from: &str, to: &str) {
    let path = model.join("manifest.json");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from}");
    fs::write(&path, text.replacen(from, to, 1)).unwrap();
    // A manifest without a digest is usable.
    let _ = fs::remove_file(model.join("manifest.sha256"));
}

/// Everything that a server does.
fn use_bundle(model: &Path) -> Result<(), String> {
    let bundle = Bundle::open(model).map_err(|error| error.to_string())?;
    bundle.verify().or_else(|error| match error {
        BundleError::NoManifestDigest { .. } => Ok(()),
        error => Err(error.to_string()),
    })?;
    Preprocessor::of_bundle(&bundle).map_err(|error| error.to_string())?;
    Ok(())
}

#[test]
fn a_bundle_whose_vocabulary_is_not_its_own_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    prepared(folder.path(), 1_000);
    let model = folder.path().join("model");
    bundle(&model, &folder.path().join("out"), OutOfVocabulary::Zero).unwrap();
    use_bundle(&model).unwrap();
    let manifest = fs::read_to_string(model.join("manifest.json")).unwrap();
    let stated: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let entry = &stated["preprocessing"]["raw"]["vocabulary"];
    let file = model.join(entry["file"].as_str().unwrap());

    let whole = fs::read(&file).unwrap();
    for length in [0, 7, 8, 24, whole.len() - 8] {
        fs::write(&file, &whole[..length]).unwrap();
        let error = use_bundle(&model).unwrap_err();
        assert!(error.contains("vocabulary-"), "{length}: {error}");
    }
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    fs::write(&file, &flipped).unwrap();
    let opened = Bundle::open(&model).unwrap();
    assert!(matches!(opened.verify(), Err(BundleError::RawDigest { .. })));
    let damaged = Preprocessor::of_bundle(&opened).unwrap_err();
    assert!(matches!(damaged, DatasetError::Damaged { .. }), "{damaged}");
    fs::remove_file(&file).unwrap();
    use_bundle(&model).unwrap_err();
    fs::write(&file, &whole).unwrap();
    use_bundle(&model).unwrap();

    let digest = entry["sha256"].as_str().unwrap();
    let name = entry["file"].as_str().unwrap();
    let other = format!("{:0>64}", "1");
    for (from, to) in [
        (digest, other.as_str()),
        (name, "../out/vocabulary.bin"),
        (name, "/etc/passwd"),
        (name, ".hidden"),
        ("\"name\": \"I1\"", "\"name\": \"I77\""),
        ("\"delimiter\": \"\\t\"", "\"delimiter\": \"ab\""),
        ("\"min_count\": 4", "\"min_count\": 0"),
        ("\"min_count\": 4", "\"min_count\": -4"),
        ("\"coding\": {", "\"more\": 1, \"coding\": {"),
    ] {
        edit(&model, from, to);
        assert!(use_bundle(&model).is_err(), "{from} as {to}");
        fs::write(model.join("manifest.json"), &manifest).unwrap();
    }
    use_bundle(&model).unwrap();

    // What is copied is what the folder's manifest says.
    let mut spoilt = fs::read(folder.path().join("out/vocabulary.bin")).unwrap();
    spoilt[30] ^= 1;
    fs::write(folder.path().join("out/vocabulary.bin"), spoilt).unwrap();
    let refused =
        bundle(&folder.path().join("other"), &folder.path().join("out"), OutOfVocabulary::Zero);
    assert!(matches!(refused, Err(BundleError::RawDigest { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_values_make_it_panic(
        dense in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..12), 0..30),
        sparse in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..12), 0..60),
    ) {
        static SHARED: std::sync::OnceLock<(tempfile::TempDir, Preprocessor)> = std::sync::OnceLock::new();
        let (_, preprocessor) = SHARED.get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            let preprocessor = prepared(folder.path(), 500);
            (folder, preprocessor)
        });
        let dense: Vec<&[u8]> = dense.iter().map(Vec::as_slice).collect();
        let sparse: Vec<&[u8]> = sparse.iter().map(Vec::as_slice).collect();
        let _ = preprocessor.encode_values(RawDense::Texts(&dense), &sparse);
    }
}
