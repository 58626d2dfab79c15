//! A zip archive of stored entries, read strictly.
//!
//! Refused, beside damage: compression and encryption, several disks, entries that overlap each other or the directory,
//! names that repeat, leave the folder or are absolute, and headers that contradict the directory.

use std::{collections::BTreeMap, ops::Range};

use super::super::error::{ImportError, shown};

/// Most entries that an archive may have.
const MAX_ENTRIES: usize = 1 << 17;

/// Longest name of an entry, in bytes.
const MAX_NAME: usize = 1024;

/// End of the directory, without the comment that may follow it.
const END: usize = 22;
const LOCATOR: usize = 20;
const END64: usize = 56;
const HEADER: usize = 46;
const LOCAL: usize = 30;

/// Flags that entries may have: sizes after the data, and names in UTF-8.
const FLAGS: u16 = 1 << 3 | 1 << 11;

/// Entries by name within the one folder that holds them all.
#[derive(Debug)]
pub(super) struct Archive<'a> {
    entries: BTreeMap<&'a str, Entry<'a>>,
}

/// Where an entry's bytes lie: within the file, and in no other entry.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a str,
    pub(super) range: Range<usize>,
    pub(super) crc32: u32,
}

pub(super) fn error(what: impl Into<String>) -> ImportError {
    ImportError::Archive { what: what.into() }
}

/// `N` bytes at `at`, if the file has them.
fn bytes<const N: usize>(file: &[u8], at: usize) -> Result<[u8; N], ImportError> {
    let found = at.checked_add(N).and_then(|end| file.get(at..end));
    let found = found.ok_or_else(|| error("it is cut off"))?;
    Ok(found.try_into().expect("the slice has N bytes"))
}

fn u16_at(file: &[u8], at: usize) -> Result<u16, ImportError> {
    Ok(u16::from_le_bytes(bytes(file, at)?))
}

fn u32_at(file: &[u8], at: usize) -> Result<u32, ImportError> {
    Ok(u32::from_le_bytes(bytes(file, at)?))
}

/// A 64-bit count or offset, which must be one of this machine.
fn u64_at(file: &[u8], at: usize) -> Result<usize, ImportError> {
    let value = u64::from_le_bytes(bytes(file, at)?);
    usize::try_from(value).map_err(|_| error("it states a size beyond this machine's"))
}

impl<'a> Archive<'a> {
    pub(super) fn open(file: &'a [u8]) -> Result<Self, ImportError> {
        let (count, directory) = directory(file)?;
        if count > MAX_ENTRIES {
            return Err(error(format!("it has {count} entries, at most {MAX_ENTRIES} are read")));
        }
        if count.checked_mul(HEADER).is_none_or(|least| least > directory.len()) {
            return Err(error("its directory is smaller than its entries"));
        }
        let mut entries = BTreeMap::new();
        let mut taken = Vec::with_capacity(count + 1);
        taken.push(directory.clone());
        let mut folder = None;
        let mut at = directory.start;
        for _ in 0..count {
            let (entry, occupied, next) = entry(file, at, directory.end)?;
            at = next;
            let (top, name) = entry.name.split_once('/').unwrap_or(("", entry.name));
            check_name(entry.name)?;
            if *folder.get_or_insert(top) != top {
                return Err(error("its entries are not in one folder"));
            }
            taken.push(occupied);
            if entries.insert(name, entry).is_some() {
                return Err(error(format!("it has two entries `{}`", shown(name))));
            }
        }
        if at != directory.end {
            return Err(error("its directory does not end after its entries"));
        }
        taken.sort_by_key(|range| range.start);
        if taken.windows(2).any(|pair| pair[0].end > pair[1].start) {
            return Err(error("its entries overlap"));
        }
        Ok(Self { entries })
    }

    /// The entry of this name, without the folder.
    pub(super) fn find(&self, name: &str) -> Option<&Entry<'a>> {
        self.entries.get(name)
    }
}

/// Names of plain relative paths, as `torch.save` writes them.
fn check_name(name: &str) -> Result<(), ImportError> {
    let plain = name.len() <= MAX_NAME
        && !name.contains(['\\', '\0'])
        && name.split('/').all(|part| !["", ".", ".."].contains(&part));
    if plain { Ok(()) } else { Err(error(format!("it has an entry `{}`", shown(name)))) }
}

/// Number of entries, and where the directory lies.
fn directory(file: &[u8]) -> Result<(usize, Range<usize>), ImportError> {
    // The comment reaches to the end of the file, so a signature within it is not taken for the end.
    let first = file.len().saturating_sub(END + usize::from(u16::MAX));
    let last = file.len().checked_sub(END).ok_or_else(|| error("it is cut off"))?;
    let found = (first..=last).rev().find(|&at| {
        let comment = u16_at(file, at + 20);
        file[at..].starts_with(b"PK\x05\x06")
            && comment.is_ok_and(|comment| at + END + usize::from(comment) == file.len())
    });
    let end = found.ok_or_else(|| error("it is cut off: it has no directory"))?;
    let disks = [u16_at(file, end + 4)?, u16_at(file, end + 6)?];
    let (here, all) = (u16_at(file, end + 8)?, u16_at(file, end + 10)?);
    let (length, start) = (u32_at(file, end + 12)?, u32_at(file, end + 16)?);
    let mut count = usize::from(all);
    let (mut length, mut start) = (length as usize, start as usize);
    let mut stop = end;
    let locator = end.checked_sub(LOCATOR).filter(|&at| file[at..].starts_with(b"PK\x06\x07"));
    if let Some(locator) = locator {
        let at = u64_at(file, locator + 8)?;
        if at.checked_add(END64).is_none_or(|after| after > locator)
            || !file[at..].starts_with(b"PK\x06\x06")
        {
            return Err(error("the end of its directory is not where it is said to be"));
        }
        if (u32_at(file, at + 16)?, u32_at(file, at + 20)?) != (0, 0) {
            return Err(error("it is one of several disks"));
        }
        count = u64_at(file, at + 32)?;
        if u64_at(file, at + 24)? != count {
            return Err(error("it is one of several disks"));
        }
        (length, start) = (u64_at(file, at + 40)?, u64_at(file, at + 48)?);
        stop = at;
    } else if disks != [0, 0] || here != all {
        return Err(error("it is one of several disks"));
    }
    match start.checked_add(length) {
        Some(after) if after <= stop => Ok((count, start..after)),
        _ => Err(error("its directory lies outside of it")),
    }
}

/// The entry whose header in the directory is at `at`, the bytes that it takes, and where the next header is.
fn entry(
    file: &[u8],
    at: usize,
    end: usize,
) -> Result<(Entry<'_>, Range<usize>, usize), ImportError> {
    let directory = &file[..end];
    if &bytes::<4>(directory, at)? != b"PK\x01\x02" {
        return Err(error("its directory is damaged"));
    }
    let (flags, method) = (u16_at(directory, at + 8)?, u16_at(directory, at + 10)?);
    let crc32 = u32_at(directory, at + 16)?;
    let (packed, size) = (u32_at(directory, at + 20)?, u32_at(directory, at + 24)?);
    let lengths = [28, 30, 32].map(|field| u16_at(directory, at + field).map(usize::from));
    let [name, extra, comment] = lengths;
    let (name, extra, comment) = (name?, extra?, comment?);
    let disk = u16_at(directory, at + 34)?;
    let local = u32_at(directory, at + 42)?;
    let next = at + HEADER + name + extra + comment;
    if next > end {
        return Err(error("its directory is damaged"));
    }
    let text = &directory[at + HEADER..][..name];
    let text = str::from_utf8(text).map_err(|_| error("it has a name that is not UTF-8"))?;
    let extra = &directory[at + HEADER + name..][..extra];
    let (packed, size, local) = sizes64(extra, [packed, size, local])?;
    if flags & !FLAGS != 0 {
        return Err(error(format!("its entry `{}` is encrypted or of an odd kind", shown(text))));
    }
    if method != 0 || packed != size {
        return Err(error(format!("its entry `{}` is compressed; save it anew", shown(text))));
    }
    if disk != 0 {
        return Err(error("it is one of several disks"));
    }
    let data = local_header(file, local, text)?;
    let range = match data.checked_add(size) {
        Some(after) if after <= file.len() => data..after,
        _ => return Err(error(format!("its entry `{}` is cut off", shown(text)))),
    };
    let occupied = local..range.end;
    Ok((Entry { name: text, range, crc32 }, occupied, next))
}

/// Sizes and offset of an entry, taken from its 64-bit field where the directory has no room for them.
fn sizes64(
    extra: &[u8],
    [packed, size, local]: [u32; 3],
) -> Result<(usize, usize, usize), ImportError> {
    let mut field: &[u8] = &[];
    let mut rest = extra;
    while rest.len() >= 4 {
        let (tag, length) = (u16_at(rest, 0)?, usize::from(u16_at(rest, 2)?));
        let body = rest.get(4..4 + length).ok_or_else(|| error("its directory is damaged"))?;
        if tag == 1 {
            field = body;
        }
        rest = &rest[4 + length..];
    }
    // Only those that do not fit are there, in this order.
    let mut at = 0;
    let mut wide = |narrow: u32| {
        if narrow != u32::MAX {
            return Ok(narrow as usize);
        }
        at += 8;
        u64_at(field, at - 8)
    };
    let size = wide(size)?;
    Ok((wide(packed)?, size, wide(local)?))
}

/// Where the bytes after a local header begin. Sizes in it may be zero, as they follow the data; the name may not differ.
fn local_header(file: &[u8], at: usize, name: &str) -> Result<usize, ImportError> {
    if &bytes::<4>(file, at)? != b"PK\x03\x04" {
        return Err(error(format!("its entry `{}` is not where it is said to be", shown(name))));
    }
    let (flags, method) = (u16_at(file, at + 6)?, u16_at(file, at + 8)?);
    let length = usize::from(u16_at(file, at + 26)?);
    let extra = usize::from(u16_at(file, at + 28)?);
    let same = file.get(at + LOCAL..).and_then(|rest| rest.get(..length)) == Some(name.as_bytes());
    if flags & !FLAGS != 0 || method != 0 || !same {
        return Err(error(format!("its entry `{}` has two headers that differ", shown(name))));
    }
    Ok(at + LOCAL + length + extra)
}
