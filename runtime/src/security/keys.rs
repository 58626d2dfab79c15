//! The keys of a server.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};

use super::{
    KeysError,
    key::{digest, is_key_name},
    read_within,
};
use crate::metrics::{Counter, Label};

/// Largest file of keys.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// Every request is compared with all of them, and each is the value of a label.
const MAX_KEYS: usize = 256;

/// Longest key that is looked at; the longest that this program makes has 70 bytes.
const MAX_KEY_BYTES: usize = 256;

/// What a key is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Asking for scores, and what there is.
    Infer,
    /// Loading and unloading models, and all of the above.
    Admin,
}

/// Why a request was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRefusal {
    /// It has no key.
    Missing,
    /// Its header is not `Bearer` and one key.
    Malformed,
    /// Its key is none of the server's.
    Unknown,
    /// Its key is not good for this.
    Scope,
}

impl Label for KeyRefusal {
    const NAMES: &'static [&'static str] = &["missing", "malformed", "unknown", "scope"];

    fn index(self) -> usize {
        self as usize
    }
}

/// The digest of a key that was let in, to ask for it again.
#[derive(Clone, Copy)]
pub(crate) struct Pass([u8; 32]);

impl fmt::Debug for Pass {
    /// Nothing of it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Pass")
    }
}

/// The keys that a file had when it was last read. Requests never wait for who reads it again.
pub struct KeyRing {
    keys: ArcSwap<Keys>,
}

struct Keys {
    file: PathBuf,
    entries: Vec<Entry>,
}

struct Entry {
    name: String,
    digest: [u8; 32],
    scope: Scope,
    /// Requests that had this key. Outlives the entry, for the next reading of the file.
    used: Arc<Counter>,
}

impl KeyRing {
    /// Reads a file: on each line a name, `sha256:` with the digest of the key in hexadecimal, and perhaps what it is good for,
    /// `infer` or `admin`. Empty lines, and lines that begin with `#`, are skipped.
    ///
    /// # Errors
    ///
    /// [`KeysError`], which has the number of a wrong line and nothing of it.
    pub fn read(file: &Path) -> Result<Self, KeysError> {
        Ok(Self { keys: ArcSwap::from_pointee(Keys::read(file, &[])?) })
    }

    /// Reads `file`, or else the file of before, again. Of a key whose name stays, the count goes on.
    ///
    /// # Errors
    ///
    /// [`KeysError`], and then the keys stay as they are.
    pub fn read_again(&self, file: Option<&Path>) -> Result<(), KeysError> {
        let old = self.keys.load_full();
        let new = Keys::read(file.unwrap_or(&old.file), &old.entries)?;
        self.keys.store(Arc::new(new));
        Ok(())
    }

    /// Lets a key in, and counts it.
    ///
    /// # Errors
    ///
    /// [`KeyRefusal::Malformed`], [`KeyRefusal::Unknown`], [`KeyRefusal::Scope`].
    pub fn admit(&self, key: &[u8], need: Scope) -> Result<(), KeyRefusal> {
        self.pass(key, need).map(drop)
    }

    /// The same, with what [`KeyRing::admits_still`] takes.
    pub(crate) fn pass(&self, key: &[u8], need: Scope) -> Result<Pass, KeyRefusal> {
        if !(1..=MAX_KEY_BYTES).contains(&key.len()) {
            return Err(KeyRefusal::Malformed);
        }
        let pass = Pass(digest(key));
        self.find(pass, need)?.add_one();
        Ok(pass)
    }

    /// Whether a key that was let in would be let in now. Counts nothing.
    ///
    /// # Errors
    ///
    /// [`KeyRefusal::Unknown`], [`KeyRefusal::Scope`].
    pub(crate) fn admits_still(&self, pass: Pass, need: Scope) -> Result<(), KeyRefusal> {
        self.find(pass, need).map(drop)
    }

    /// The count of the key of this digest.
    fn find(&self, Pass(presented): Pass, need: Scope) -> Result<Arc<Counter>, KeyRefusal> {
        let keys = self.keys.load();
        // All are compared, each to its last byte: how long it takes says nothing of how near a guess is.
        let mut found = u32::MAX;
        for (at, entry) in (0..).zip(&keys.entries) {
            found.conditional_assign(&at, presented.ct_eq(&entry.digest));
        }
        let entry = keys.entries.get(found as usize).ok_or(KeyRefusal::Unknown)?;
        if entry.scope < need {
            return Err(KeyRefusal::Scope);
        }
        Ok(Arc::clone(&entry.used))
    }

    /// The name of every key, with the number of requests that had it.
    pub fn uses(&self) -> Vec<(String, Arc<Counter>)> {
        let keys = self.keys.load();
        keys.entries.iter().map(|entry| (entry.name.clone(), Arc::clone(&entry.used))).collect()
    }
}

impl fmt::Debug for KeyRing {
    /// Names only.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.keys.load();
        formatter.debug_list().entries(keys.entries.iter().map(|entry| &entry.name)).finish()
    }
}

impl Keys {
    fn read(file: &Path, old: &[Entry]) -> Result<Self, KeysError> {
        let bytes = read_within(file, MAX_FILE_BYTES)
            .map_err(|source| KeysError::Read { file: file.to_owned(), source })?;
        let bytes = bytes
            .ok_or_else(|| KeysError::TooLarge { file: file.to_owned(), limit: MAX_FILE_BYTES })?;
        let entries = parse(&bytes, file, old)?;
        Ok(Self { file: file.to_owned(), entries })
    }
}

fn parse(bytes: &[u8], file: &Path, old: &[Entry]) -> Result<Vec<Entry>, KeysError> {
    let mut entries: Vec<Entry> = Vec::new();
    for (line, bytes) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
        let wrong = |problem| KeysError::Line { file: file.to_owned(), line, problem };
        let text = str::from_utf8(bytes).map_err(|_| wrong("it is not text"))?.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let mut words = text.split_whitespace();
        let name = words.next().filter(|name| is_key_name(name));
        let name = name.ok_or_else(|| {
            wrong("it does not begin with a name of at most 64 of `A-Z a-z 0-9 _ . -`")
        })?;
        let digest = words.next().and_then(|word| unhex(word.strip_prefix("sha256:")?));
        let digest = digest
            .ok_or_else(|| wrong("the second word is not `sha256:` and 64 hexadecimal digits"))?;
        let scope = match words.next() {
            None | Some("infer") => Scope::Infer,
            Some("admin") => Scope::Admin,
            Some(_) => return Err(wrong("the third word is neither `infer` nor `admin`")),
        };
        if words.next().is_some() {
            return Err(wrong("there is more than three words"));
        }
        if entries.iter().any(|entry| entry.name == name) {
            return Err(wrong("an earlier line has the same name"));
        }
        if entries.iter().any(|entry| entry.digest == digest) {
            return Err(wrong("an earlier line has the same key"));
        }
        if entries.len() == MAX_KEYS {
            return Err(KeysError::TooMany { file: file.to_owned(), limit: MAX_KEYS });
        }
        let before = old.iter().find(|entry| entry.name == name);
        let used = before.map_or_else(Arc::default, |entry| Arc::clone(&entry.used));
        entries.push(Entry { name: name.to_owned(), digest, scope, used });
    }
    if entries.is_empty() {
        return Err(KeysError::Empty { file: file.to_owned() });
    }
    Ok(entries)
}

/// 64 hexadecimal digits, of either case.
fn unhex(text: &str) -> Option<[u8; 32]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let pairs: &[[u8; 2]; 32] = pairs.try_into().ok().filter(|_| rest.is_empty())?;
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut bytes = [0; 32];
    for (byte, &[high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = u8::try_from(digit(high)? * 16 + digit(low)?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::security::NewKey;

    fn new_key(name: &str, scope: Scope) -> NewKey {
        NewKey::new(name, scope).unwrap().unwrap()
    }

    fn read(text: &str) -> Result<KeyRing, KeysError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys.txt");
        std::fs::write(&file, text).unwrap();
        KeyRing::read(&file)
    }

    #[test]
    fn a_key_opens_what_its_line_says_and_nothing_else_does() {
        let (web, ops) = (new_key("web", Scope::Infer), new_key("ops", Scope::Admin));
        let text = format!("# keys\r\n\n{}\r\n  {}  \n", web.line(), ops.line().to_uppercase());
        // The scope and the prefix are written in small letters; digits may be of either case.
        let text = text.replace("SHA256", "sha256").replace("ADMIN", "admin");
        let keys = read(&text).unwrap();
        assert_eq!(keys.admit(web.key().as_bytes(), Scope::Infer), Ok(()));
        assert_eq!(keys.admit(web.key().as_bytes(), Scope::Admin), Err(KeyRefusal::Scope));
        assert_eq!(keys.admit(ops.key().as_bytes(), Scope::Infer), Ok(()));
        assert_eq!(keys.admit(ops.key().as_bytes(), Scope::Admin), Ok(()));
        let uses = keys.uses().into_iter().map(|(name, used)| (name, used.get()));
        assert_eq!(uses.collect::<Vec<_>>(), [("web".into(), 1), ("OPS".into(), 2)]);

        let near = format!("{}0", &web.key()[..web.key().len() - 1]);
        let near = if near == web.key() { near.replace('0', "1") } else { near };
        let digest = web.line().split_once("sha256:").unwrap().1;
        for wrong in [&near, digest, &web.key().to_uppercase(), "x"] {
            assert_eq!(keys.admit(wrong.as_bytes(), Scope::Infer), Err(KeyRefusal::Unknown));
        }
        for wrong in ["", &"x".repeat(257)] {
            assert_eq!(keys.admit(wrong.as_bytes(), Scope::Infer), Err(KeyRefusal::Malformed));
        }
        assert_eq!(format!("{keys:?}"), "[\"web\", \"OPS\"]");
    }

    #[test]
    fn keys_are_long_and_differ() {
        let (one, other) = (new_key("a", Scope::Infer), new_key("a", Scope::Infer));
        assert_ne!(one.key(), other.key());
        assert_eq!(one.key().len(), "mprec_".len() + 64);
        assert!(!one.line().contains(one.key()));
        for name in ["", "a b", "ü", "a#", &"x".repeat(65)] {
            assert!(NewKey::new(name, Scope::Infer).unwrap().is_none(), "{name}");
        }
    }

    #[test]
    fn a_wrong_line_is_named_by_its_number_and_not_quoted() {
        let good = new_key("web", Scope::Infer);
        let (line, secret) = (good.line(), "a1b2c3d4".repeat(8));
        for (wrong, problem) in [
            (format!("sec!ret sha256:{secret}"), "begin with a name"),
            (format!("other {secret}"), "the second word"),
            (format!("other sha256:{}", &secret[1..]), "the second word"),
            (format!("other sha256:{}+", &secret[1..]), "the second word"),
            (format!("other sha256:{secret} root"), "the third word"),
            (format!("other sha256:{secret} infer {secret}"), "more than three"),
            (format!("web sha256:{secret}"), "the same name"),
            (line.replace("web", "other"), "the same key"),
        ] {
            let error = read(&format!("\n{line}\n{wrong}\n")).unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(error.to_string().contains("line 3") && text.contains(problem), "{text}");
            assert!(!text.contains(&secret[1..]) && !text.contains("sec!ret"), "{text}");
        }
        assert!(matches!(read("# nothing\n").unwrap_err(), KeysError::Empty { .. }));
        let long = "#".repeat(MAX_FILE_BYTES as usize + 1);
        assert!(matches!(read(&long).unwrap_err(), KeysError::TooLarge { .. }));
        let many = |count: usize| -> String {
            (0..count).map(|at| format!("k{at} sha256:{at:064x}\n")).collect()
        };
        assert!(read(&many(MAX_KEYS)).is_ok());
        assert!(matches!(read(&many(MAX_KEYS + 1)).unwrap_err(), KeysError::TooMany { .. }));
        let absent = KeyRing::read(Path::new("no/such.txt")).unwrap_err();
        assert!(absent.to_string().contains("no/such.txt"), "{absent}");
    }

    #[test]
    fn a_file_that_is_read_again_replaces_the_keys_unless_it_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys.txt");
        let (old, new) = (new_key("old", Scope::Infer), new_key("new", Scope::Infer));
        let admits = |ring: &KeyRing, key: &NewKey| ring.admit(key.key().as_bytes(), Scope::Infer);
        std::fs::write(&file, old.line()).unwrap();
        let ring = KeyRing::read(&file).unwrap();
        assert!(admits(&ring, &old).is_ok() && admits(&ring, &new).is_err());

        std::fs::write(&file, format!("{}\n{}", new.line(), old.line())).unwrap();
        ring.read_again(None).unwrap();
        assert!(admits(&ring, &old).is_ok() && admits(&ring, &new).is_ok());
        assert_eq!(ring.uses()[1].1.get(), 2, "the count goes on");

        std::fs::write(&file, "nonsense").unwrap();
        assert!(ring.read_again(None).is_err());
        std::fs::remove_file(&file).unwrap();
        assert!(ring.read_again(None).is_err());
        assert!(admits(&ring, &old).is_ok() && admits(&ring, &new).is_ok());

        // Another file, which is then the one that is read again.
        let other = folder.path().join("other.txt");
        std::fs::write(&other, new.line()).unwrap();
        ring.read_again(Some(&other)).unwrap();
        ring.read_again(None).unwrap();
        assert!(admits(&ring, &old).is_err() && admits(&ring, &new).is_ok());
    }

    proptest! {
        #[test]
        fn any_file_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes, Path::new("keys.txt"), &[]);
        }
    }
}
