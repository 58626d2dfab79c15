//! Prepared folders that are not whole: every one is an error that names the file.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::common::{criteo, lines, write};
use mprec_datasets::{Dataset, DatasetError, Preprocessor, Split, prepare};
use proptest::prelude::*;
use tempfile::TempDir;

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let input = write(folder.path(), "rows", lines(1_200, 1));
    let out = folder.path().join("out");
    prepare(&criteo(&[&input], &out), |_| ()).unwrap();
    (folder, out)
}

/// Everything that a reader does.
fn use_all(out: &Path) -> Result<(), DatasetError> {
    let dataset = Dataset::open(out)?;
    dataset.batch(dataset.rows(Split::All))?;
    dataset.verify()?;
    Preprocessor::open(out)?.encode(b"")?;
    Ok(())
}

#[test]
fn every_file_is_missed_when_it_is_gone_or_cut() {
    let (_keep, out) = folder();
    use_all(&out).unwrap();
    for name in ["manifest.json", "shard-00000.bin", "shard-00001.bin", "vocabulary.bin"] {
        let path = out.join(name);
        let whole = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        use_all(&out).unwrap_err();
        // Without its last newline, a manifest is still whole.
        let lengths = (64..whole.len() - 1).step_by(whole.len() / 40);
        for length in (0..64).chain(lengths).chain([whole.len() - 2]) {
            fs::write(&path, &whole[..length]).unwrap();
            let error = use_all(&out).unwrap_err();
            assert!(error.to_string().contains(name), "{length} bytes of {name}: {error}");
        }
        fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
        use_all(&out).unwrap_err();
        fs::write(&path, whole).unwrap();
    }
    use_all(&out).unwrap();
}

#[test]
fn a_manifest_that_contradicts_itself_is_refused() {
    let (_keep, out) = folder();
    let path = out.join("manifest.json");
    let whole = fs::read_to_string(&path).unwrap();
    for (from, to) in [
        ("\"format_version\": 1", "\"format_version\": 2"),
        ("\"rows\": 1200", "\"rows\": 1201"),
        ("\"rows\": 1200", "\"rows\": 0"),
        ("\"rows\": 1200", "\"rows\": 18446744073709551615"),
        ("\"train\": 960", "\"train\": 18446744073709551615"),
        ("\"shard_rows\": 1000", "\"shard_rows\": 0"),
        ("\"shard_rows\": 1000", "\"shard_rows\": 9223372036854775808"),
        ("\"rows\": 200", "\"rows\": 201"),
        ("shard-00000.bin", "../rows"),
        ("vocabulary.bin", "/etc/passwd"),
        ("\"labelled\": true", "\"labelled\": false"),
        ("\"name\": \"I1\"", "\"name\": \"I2\""),
        ("\"name\": \"rows\"", "\"name\": \"a\\nb\""),
        ("\"min_count\": 4", "\"min_count\": 0"),
        ("\"cardinality\": 4", "\"cardinality\": 0"),
        ("\"cardinality\": 4", "\"cardinality\": 9223372036854775808"),
        ("\"malformed_lines\": 0", "\"malformed_lines\": 0, \"more\": 1"),
        ("\"malformed_lines\": 0,", ""),
    ] {
        assert!(whole.contains(from), "{from}");
        fs::write(&path, whole.replacen(from, to, 1)).unwrap();
        let error = use_all(&out).unwrap_err();
        let typed =
            matches!(error, DatasetError::Damaged { .. } | DatasetError::Version { found: 2, .. });
        assert!(typed, "{from} as {to}: {error}");
    }
}

#[test]
fn an_id_beyond_its_cardinality_is_not_read_as_another() {
    let (_keep, out) = folder();
    let path = out.join("shard-00001.bin");
    let mut bytes = fs::read(&path).unwrap();
    // The first id stands behind the header and 200 rows of 13 values, at a multiple of 64.
    let at = (64 + 200 * 13 * 4_usize).next_multiple_of(64);
    bytes[at..at + 4].fill(0xff);
    fs::write(&path, bytes).unwrap();
    let dataset = Dataset::open(&out).unwrap();
    assert!(dataset.batch(0..1000).is_ok());
    for result in [dataset.batch(990..1010), dataset.gather(&[3, 1000])] {
        assert!(matches!(result, Err(DatasetError::Damaged { .. })));
    }
    let range = dataset.rows(Split::All);
    let statistics = mprec_datasets::AccessStatistics::count(&dataset, range, &[]);
    assert!(matches!(statistics, Err(DatasetError::Damaged { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn every_flipped_bit_is_found(seed in any::<u64>()) {
        // One folder for all cases of this seed: preparing one takes longer than checking it.
        let (_keep, out) = folder();
        for (round, name) in ["shard-00000.bin", "shard-00001.bin", "vocabulary.bin"]
            .iter().cycle().take(30).enumerate()
        {
            let path = out.join(name);
            let whole = fs::read(&path).unwrap();
            let place = (seed.wrapping_mul(round as u64 * 2 + 1) % (whole.len() as u64 * 8)) as usize;
            let mut bytes = whole.clone();
            bytes[place / 8] ^= 1 << (place % 8);
            fs::write(&path, bytes).unwrap();
            let error = use_all(&out);
            prop_assert!(error.is_err(), "bit {} of {}", place, name);
            fs::write(&path, whole).unwrap();
        }
    }

    #[test]
    fn no_manifest_makes_it_panic(at in any::<prop::sample::Index>(), byte in 32_u8..127) {
        let (_keep, out) = folder();
        let path = out.join("manifest.json");
        let mut bytes = fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        fs::write(&path, bytes).unwrap();
        // Some changes are harmless, such as those of a name or of a count that nothing checks.
        let _ = use_all(&out);
    }
}
