//! Click logs to prepared folders.

use std::{collections::HashMap, fs, path::Path};

use crate::common::{assert_same, criteo, files, gzip, lines, with_gaps, write, xz, zstd};
use mprec_datasets::{
    Coding, Dataset, DatasetError, Layout, LineError, PrepareError, PrepareOptions, Preprocessor,
    Recipe, Source, Split, Stage, prepare,
};
use proptest::prelude::*;

/// The obvious way: everything in memory, text as tokens.
fn reference(text: &str, train: usize, min_count: usize) -> Vec<Vec<u64>> {
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    (14..40)
        .map(|column| {
            let mut counts: HashMap<&str, usize> = HashMap::new();
            for row in &rows[..train] {
                *counts.entry(row[column]).or_default() += 1;
            }
            let mut order: Vec<_> =
                counts.into_iter().filter(|(_, count)| *count >= min_count).collect();
            // Hexadecimal digits of one width sort as their values do; missing comes last.
            order.sort_by_key(|&(token, count)| {
                (std::cmp::Reverse(count), token.is_empty(), token.to_owned())
            });
            let ids: HashMap<_, _> =
                order.iter().enumerate().map(|(at, (token, _))| (*token, at as u64 + 1)).collect();
            rows.iter().map(|row| ids.get(row[column]).copied().unwrap_or(0)).collect()
        })
        .collect()
}

/// Some categories made missing.
fn no_progress(_: mprec_datasets::Progress) {}

#[test]
fn ids_dense_values_and_labels_are_those_of_the_obvious_way() {
    let folder = tempfile::tempdir().unwrap();
    let text = with_gaps(&lines(5_500, 1));
    let input = write(folder.path(), "rows.tsv", &text);
    let out = folder.path().join("out");
    let report = prepare(&criteo(&[&input], &out), no_progress).unwrap();
    assert_eq!(
        (report.lines, report.manifest.rows, report.manifest.shards.len()),
        (5_500, 5_500, 6)
    );

    let dataset = Dataset::open(&out).unwrap();
    dataset.verify().unwrap();
    assert_eq!(dataset.rows(Split::Train), 0..4_400);
    let expected = reference(&text, 4_400, 4);
    let all = dataset.batch(dataset.rows(Split::All)).unwrap();
    let mut unknown = 0;
    for (feature, ids) in expected.iter().enumerate() {
        assert_eq!(all.batch.bags(feature).ids(), ids, "feature {feature}");
        let most = ids.iter().max().unwrap() + 1;
        assert_eq!(dataset.schema().sparse()[feature].cardinality, most);
        unknown += ids.iter().filter(|id| **id == 0).count();
    }
    assert!(unknown > 100, "rare values become id 0: {unknown}");
    for (row, line) in text.lines().enumerate() {
        let values: Vec<_> = line.split('\t').collect();
        assert_eq!(all.labels[row].to_string(), values[0]);
        for feature in 0..13 {
            let value: f64 = values[1 + feature].parse().unwrap_or(0.0);
            let expected = (1.0 + value.max(0.0)).ln() as f32;
            let got = all.batch.dense()[row * 13 + feature];
            assert!((got - expected).abs() <= 1e-6, "{got} for {value}");
        }
    }
    let clicks = text.lines().take(4_400).filter(|line| line.starts_with('1')).count();
    assert_eq!(dataset.positives(Split::Train), clicks as u64);
}

#[test]
fn compression_threads_and_cuts_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // Several runs of text, so that their order could go wrong.
    let text = lines(30_000, 2);
    let mut expected = None;
    let mut check = |inputs: &[&std::path::PathBuf], threads| {
        let out = folder.path().join("out");
        let mut options = criteo(inputs, &out);
        options.threads = Some(threads);
        options.shard_rows = 7_000;
        options.replace = true;
        let report = prepare(&options, no_progress).unwrap();
        let got = (files(&out), report.manifest.shards, report.manifest.schema);
        let expected = expected.get_or_insert(got.clone());
        assert!(*expected == got, "{inputs:?} on {threads} threads differ");
    };
    let plain = write(folder.path(), "plain", &text);
    for threads in [1, 2, 5] {
        check(&[&plain], threads);
    }
    // Names say nothing: the first bytes do.
    let packed = [gzip(text.as_bytes()), xz(text.as_bytes()), zstd(text.as_bytes())]
        .iter()
        .zip(["rows.txt", "rows.gz", "rows"])
        .map(|(bytes, name)| write(folder.path(), name, bytes))
        .collect::<Vec<_>>();
    for input in &packed {
        check(&[input], 2);
    }
    // Several files are one, in their order; the first ends without a newline.
    let cut = text.match_indices('\n').nth(12_344).unwrap().0;
    let first = write(folder.path(), "a.zst", zstd(&text.as_bytes()[..cut]));
    let second = write(folder.path(), "b", &text[cut + 1..]);
    check(&[&first, &second], 3);
}

#[test]
fn the_vocabulary_knows_nothing_of_held_out_rows() {
    let folder = tempfile::tempdir().unwrap();
    let row = |token: &str| {
        let mut values = vec!["0"; 14];
        values.extend(vec![token; 26]);
        values.join("\t") + "\n"
    };
    // 0000000b is as frequent overall as the others, but late.
    let text = row("0000000c").repeat(5) + &row("0000000a").repeat(5) + &row("0000000b").repeat(10);
    let input = write(folder.path(), "rows", text);
    let out = folder.path().join("out");
    let mut options = criteo(&[&input], &out);
    options.train_fraction = 0.5;
    prepare(&options, no_progress).unwrap();
    let dataset = Dataset::open(&out).unwrap();
    let ids = |split| dataset.batch(dataset.rows(split)).unwrap().batch.bags(3).ids().to_vec();
    // Equally frequent tokens go by number.
    assert_eq!(ids(Split::Train), [2, 2, 2, 2, 2, 1, 1, 1, 1, 1]);
    assert_eq!(ids(Split::HeldOut), [0; 10]);
    assert_eq!((ids(Split::Test).len(), ids(Split::Validation).len()), (5, 5));
    assert_eq!(dataset.schema().sparse()[0].cardinality, 3);

    options.replace = true;
    let Recipe::New { coding, .. } = &mut options.recipe else { unreachable!() };
    *coding = Coding::Vocabulary { min_count: 1, max_tokens: Some(1) };
    prepare(&options, no_progress).unwrap();
    assert_eq!(Dataset::open(&out).unwrap().schema().sparse()[0].cardinality, 2);
}

#[test]
fn hashed_ids_need_no_vocabulary() {
    let folder = tempfile::tempdir().unwrap();
    let text = lines(500, 3);
    let input = write(folder.path(), "rows", &text);
    let out = folder.path().join("out");
    let mut options = criteo(&[&input], &out);
    let Recipe::New { coding, .. } = &mut options.recipe else { unreachable!() };
    *coding = Coding::Hashing { rows: 101, seed: 5 };
    prepare(&options, no_progress).unwrap();
    assert!(!out.join("vocabulary.bin").exists());
    let dataset = Dataset::open(&out).unwrap();
    assert!(dataset.schema().sparse().iter().all(|feature| feature.cardinality == 101));
    let batch = dataset.batch(0..500).unwrap().batch;
    let token = u32::from_str_radix(text.split(['\t', '\n']).nth(14 + 2).unwrap(), 16).unwrap();
    let expected = mprec_datasets::Token::of_value(token).hashed(2, 101, 5);
    assert_eq!(batch.bags(2).ids()[0], expected);
    assert!(batch.ids().iter().all(|id| (1..101).contains(id)));
    let again = Preprocessor::open(&out).unwrap().encode(text.as_bytes()).unwrap();
    assert_eq!(again, dataset.batch(0..500).unwrap());
}

#[test]
fn raw_rows_are_encoded_as_prepared_ones_were() {
    let folder = tempfile::tempdir().unwrap();
    let (text, later) = (with_gaps(&lines(2_000, 4)), lines(300, 5));
    let input = write(folder.path(), "rows", &text);
    let out = folder.path().join("out");
    prepare(&criteo(&[&input], &out), no_progress).unwrap();
    let dataset = Dataset::open(&out).unwrap();
    let preprocessor = Preprocessor::open(&out).unwrap();
    assert_eq!(preprocessor.schema(), dataset.schema());
    assert_same(&preprocessor.encode(text.as_bytes()).unwrap(), &dataset.batch(0..2_000).unwrap());

    // Later rows, prepared the same way.
    let second = write(folder.path(), "later", &later);
    let more = folder.path().join("more");
    let options = PrepareOptions::same_as(vec![second], more.clone(), out);
    let report = prepare(&options, no_progress).unwrap();
    assert_eq!(report.manifest.schema, *dataset.schema());
    assert_eq!(report.manifest.preprocessing, dataset.manifest().preprocessing);
    assert_eq!((report.manifest.splits.train, report.manifest.name.as_str()), (0, "later"));
    let later_rows = Dataset::open(&more).unwrap();
    later_rows.verify().unwrap();
    let expected = preprocessor.encode(later.as_bytes()).unwrap();
    assert_same(&expected, &later_rows.batch(0..300).unwrap());
    assert!(expected.batch.unknown_ids() > 0);

    // Serving has no labels, and leaves no line out.
    let bare: String =
        later.lines().map(|line| line[line.find('\t').unwrap() + 1..].to_owned() + "\n").collect();
    let unlabelled = preprocessor.encode(bare.as_bytes()).unwrap();
    assert_eq!((unlabelled.batch, unlabelled.labels), (expected.batch, Vec::new()));
    let broken = later.replacen("\t", "\tx", 20);
    let error = preprocessor.encode(broken.as_bytes()).unwrap_err();
    assert!(matches!(error, DatasetError::Line { line: 1, .. }), "{error}");
    assert_eq!(preprocessor.encode(b"").unwrap().batch.samples(), 0);
}

#[test]
fn malformed_lines_are_counted_by_file_and_number() {
    let folder = tempfile::tempdir().unwrap();
    let good = lines(3_000, 6);
    let (first, second) = (good.lines().take(1_000), good.lines().skip(1_000));
    let mut one: Vec<_> = first.map(str::to_owned).collect();
    let mut two: Vec<_> = second.map(str::to_owned).collect();
    one.insert(4, "no row".into());
    two.insert(0, String::new());
    two.push(two[0].clone() + "\t");
    two.push("x".repeat(5 << 20));
    let one = write(folder.path(), "one", one.join("\n") + "\n");
    let two = write(folder.path(), "two.gz", gzip(two.join("\n").as_bytes()));
    let out = folder.path().join("out");
    let options = criteo(&[&one, &two], &out);
    let report = prepare(&options, no_progress).unwrap();
    let named: Vec<_> =
        report.malformed.iter().map(|line| (line.file.as_str(), line.line)).collect();
    assert_eq!(named, [("one", 5), ("two.gz", 1), ("two.gz", 2_002), ("two.gz", 2_003)]);
    assert_eq!(report.malformed[3].reason, LineError::TooLong);
    assert_eq!((report.lines, report.manifest.rows), (3_004, 3_000));
    assert_eq!(report.manifest.malformed_lines, 4);
    // What is left is what would be there without them.
    let clean = write(folder.path(), "clean", &good);
    let other = folder.path().join("other");
    prepare(&criteo(&[&clean], &other), no_progress).unwrap();
    assert!(files(&out) == files(&other));
}

#[test]
fn too_many_malformed_lines_stop_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let good = lines(100, 7);
    let input = write(folder.path(), "rows", good.clone() + &"bad\n".repeat(11));
    let out = folder.path().join("out");
    let mut options = criteo(&[&input], &out);
    let error = prepare(&options, no_progress).unwrap_err();
    let PrepareError::TooManyMalformed { malformed: 11, lines: 111, limit: 10, first, examples } =
        &error
    else {
        panic!("{error}")
    };
    assert_eq!((first.line, examples.len()), (101, 11));
    assert!(error.to_string().contains("`rows` line 101"), "{error}");
    assert!(matches!(Dataset::open(&out), Err(DatasetError::NotPrepared { .. })));
    // An interrupted folder may be replaced; a larger limit lets the lines pass.
    options.replace = true;
    options.malformed.fraction = 0.1;
    assert_eq!(prepare(&options, no_progress).unwrap().manifest.malformed_lines, 11);
    // No line at all is a row: a wrong layout is found out soon and said plainly.
    let wrong = write(folder.path(), "wrong", "a,b\n".repeat(100_000));
    options.inputs = vec![wrong];
    let error = prepare(&options, no_progress).unwrap_err();
    assert!(error.to_string().contains("1 columns where 40"), "{error}");
}

#[test]
fn unlabelled_files_are_prepared_and_not_mixed() {
    let folder = tempfile::tempdir().unwrap();
    let text = lines(50, 8);
    let bare: String = text.lines().map(|line| line[2..].to_owned() + "\n").collect();
    let labelled = write(folder.path(), "labelled", &text);
    let bare = write(folder.path(), "bare", &bare);
    let out = folder.path().join("out");
    prepare(&criteo(&[&bare], &out), no_progress).unwrap();
    let dataset = Dataset::open(&out).unwrap();
    assert!(!dataset.is_labelled());
    let got = dataset.batch(10..20).unwrap();
    assert_eq!((got.batch.samples(), got.labels.len()), (10, 0));
    assert_eq!(dataset.gather(&[3, 1]).unwrap().labels.len(), 0);
    let mixed = folder.path().join("mixed");
    let error = prepare(&criteo(&[&labelled, &bare], &mixed), no_progress).unwrap_err();
    assert!(matches!(error, PrepareError::MixedLabels { labelled: false, .. }), "{error}");
}

#[test]
fn rows_can_be_few() {
    let folder = tempfile::tempdir().unwrap();
    let text = lines(40, 9);
    let input = write(folder.path(), "rows.tsv", &text);
    let out = folder.path().join("out");
    let mut options = criteo(&[&input], &out);
    options.name = None;
    options.max_rows = Some(7);
    let report = prepare(&options, no_progress).unwrap();
    assert_eq!((report.manifest.rows, report.manifest.name.as_str()), (7, "rows"));
    let one = write(folder.path(), "one", text.lines().next().unwrap());
    let single = folder.path().join("single");
    assert_eq!(prepare(&criteo(&[&one], &single), no_progress).unwrap().manifest.rows, 1);
    let none = write(folder.path(), "none", "");
    let empty = folder.path().join("empty");
    assert!(matches!(prepare(&criteo(&[&none], &empty), no_progress), Err(PrepareError::NoRows)));
}

#[test]
fn what_cannot_be_read_or_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let text = lines(2_000, 10);
    let fails = |options: &PrepareOptions| prepare(options, no_progress).unwrap_err();
    for (name, packed) in [
        ("cut.gz", gzip(text.as_bytes())),
        ("cut.xz", xz(text.as_bytes())),
        ("cut.zst", zstd(text.as_bytes())),
    ] {
        let input = write(folder.path(), name, &packed[..packed.len() / 2]);
        let mut options = criteo(&[&input], &out);
        options.replace = true;
        let error = fails(&options);
        assert!(matches!(error, PrepareError::Read { .. }), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
    let missing = folder.path().join("missing");
    assert!(matches!(fails(&criteo(&[&missing], &out)), PrepareError::Read { .. }));
    assert!(matches!(
        fails(&criteo(&[&folder.path().to_path_buf()], &out)),
        PrepareError::Read { .. }
    ));
    // A folder of other things is never emptied.
    let input = write(folder.path(), "rows", &text);
    let mut options = criteo(&[&input], folder.path());
    options.replace = true;
    assert!(matches!(fails(&options), PrepareError::NotEmpty { .. }));
    assert!(input.exists());
    let option = |change: fn(&mut PrepareOptions)| {
        let mut options = criteo(&[&input], &out);
        options.replace = true;
        change(&mut options);
        assert!(matches!(fails(&options), PrepareError::Option { .. }));
    };
    option(|options| options.inputs.clear());
    option(|options| options.train_fraction = f64::NAN);
    option(|options| options.malformed.fraction = 2.0);
    option(|options| options.shard_rows = 0);
    option(|options| options.name = Some("two\nlines".into()));
    option(|options| {
        let Recipe::New { coding, .. } = &mut options.recipe else { return };
        *coding = Coding::Hashing { rows: 1, seed: 0 };
    });
}

#[test]
fn batches_of_every_kind_hold_the_same_rows() {
    let folder = tempfile::tempdir().unwrap();
    let input = write(folder.path(), "rows", lines(2_500, 11));
    let out = folder.path().join("out");
    prepare(&criteo(&[&input], &out), no_progress).unwrap();
    let dataset = Dataset::open(&out).unwrap();
    let all = dataset.batch(0..2_500).unwrap();

    // In order, over the ends of shards.
    let mut source = dataset.source(0..2_500).unwrap();
    let mut at = 0;
    for batch in dataset.batches(0..2_500, 300) {
        let batch = batch.unwrap();
        assert_eq!(source.next_batch(300).unwrap().as_ref(), Some(&batch));
        let end = at + batch.batch.samples();
        assert_eq!(batch.batch, all.batch.slice(at..end));
        assert_eq!(batch.labels, all.labels[at..end]);
        let rows: Vec<_> = (at..end).collect();
        assert_eq!(dataset.gather(&rows).unwrap(), batch);
        at = end;
    }
    assert_eq!((at, source.next_batch(1).unwrap(), source.rows_left()), (2_500, None, Some(0)));

    // Shuffled: every row of the part once, in an order of the seed.
    let clicks = |seed| {
        let mut count = 0.0;
        let mut order = Vec::new();
        for batch in dataset.shuffled_batches(dataset.rows(Split::Train), 128, seed) {
            let batch = batch.unwrap();
            count += batch.labels.iter().sum::<f32>();
            order.extend_from_slice(batch.batch.bags(2).ids());
        }
        (count as u64, order)
    };
    let (count, order) = clicks(1);
    assert_eq!((count, order.len()), (dataset.positives(Split::Train), 2_000));
    assert_eq!(clicks(1).1, order);
    assert_ne!(clicks(2).1, order);
    let mut sorted = [order, all.batch.bags(2).ids()[..2_000].to_vec()];
    sorted.iter_mut().for_each(|ids| ids.sort_unstable());
    assert_eq!(sorted[0], sorted[1]);

    for result in
        [dataset.batch(2_499..2_501), dataset.gather(&[2_500]), dataset.gather(&[usize::MAX])]
    {
        assert!(matches!(result, Err(DatasetError::Rows { .. })));
    }
    assert_eq!(dataset.gather(&[]).unwrap().batch.samples(), 0);
    assert_eq!(dataset.batch(2_500..2_500).unwrap().batch.samples(), 0);
}

#[test]
fn progress_goes_through_every_stage_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let input = write(folder.path(), "rows.gz", gzip(lines(30_000, 12).as_bytes()));
    let mut told = Vec::new();
    let report = prepare(&criteo(&[&input], &folder.path().join("out")), |progress| {
        told.push((progress.stage, progress.done, progress.total));
    })
    .unwrap();
    assert_eq!(report.manifest.rows, 30_000);
    assert!(told.windows(2).all(|pair| pair[0].0 != pair[1].0 || pair[0].1 <= pair[1].1));
    let bytes = fs::metadata(&input).unwrap().len();
    for end in
        [(Stage::Reading, bytes, bytes), (Stage::Counting, 26, 26), (Stage::Encoding, 30, 30)]
    {
        assert!(told.contains(&end), "{end:?} in {told:?}");
    }
}

#[test]
fn features_that_make_no_schema_are_found_before_reading() {
    let folder = tempfile::tempdir().unwrap();
    let input = write(folder.path(), "rows", lines(10, 13));
    let mut fields = Layout::criteo_kaggle().fields().clone();
    fields.sparse[4].name = "C1".into();
    let mut options = criteo(&[&input], &folder.path().join("out"));
    let Recipe::New { layout, .. } = &mut options.recipe else { unreachable!() };
    *layout = Layout::new(fields).unwrap();
    assert!(matches!(prepare(&options, no_progress), Err(PrepareError::Schema(_))));
    assert!(!folder.path().join("out").exists());
}

fn prepared(folder: &Path, text: &str) -> Result<u64, PrepareError> {
    let input = write(folder, "rows", text);
    let mut options = criteo(&[&input], &folder.join("out"));
    options.replace = true;
    options.malformed.fraction = 1.0;
    prepare(&options, no_progress).map(|report| report.manifest.rows)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_is_damaged_the_rest_is_kept(
        rows in 1_u64..60, seed in 0_u64..1000, damage in prop::collection::vec((0_usize..9000, any::<u8>()), 0..8),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut text = lines(rows, seed).into_bytes();
        for (at, byte) in damage {
            let end = text.len();
            text[at % end] = byte;
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        match prepared(folder.path(), &text) {
            Ok(kept) => {
                let dataset = Dataset::open(&folder.path().join("out")).unwrap();
                prop_assert_eq!(dataset.manifest().malformed_lines + kept,
                    text.split_terminator('\n').count() as u64);
                prop_assert!(dataset.batch(0..kept as usize).is_ok());
            }
            Err(PrepareError::NoRows | PrepareError::TooManyMalformed { .. }) => (),
            Err(other) => prop_assert!(false, "{other}"),
        }
        fs::remove_dir_all(folder.path().join("out")).unwrap();
    }
}
