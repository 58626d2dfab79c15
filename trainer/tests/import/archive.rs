//! Zip archives and pickles as `torch.save` makes them, from parts that a test may spoil.

/// One entry as the directory describes it, and its bytes.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) data: Vec<u8>,
    pub(crate) method: u16,
    pub(crate) flags: u16,
    /// Where the directory says the entry begins, if not where it does.
    pub(crate) offset: Option<u32>,
    /// The size that the directory states, if not the real one.
    pub(crate) size: Option<u32>,
    /// The name in the entry's own header, if not the same.
    pub(crate) local_name: Option<String>,
}

pub(crate) fn entry(name: &str, data: &[u8]) -> Entry {
    Entry {
        name: format!("archive/{name}"),
        data: data.to_vec(),
        method: 0,
        flags: 0,
        offset: None,
        size: None,
        local_name: None,
    }
}

/// An archive of stored entries, each padded to 64 bytes.
pub(crate) fn zip(entries: &[Entry]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        let start = file.len() as u32;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&entry.data);
        let crc32 = hasher.finalize();
        let size = entry.size.unwrap_or(entry.data.len() as u32);
        let name = entry.local_name.as_ref().unwrap_or(&entry.name);
        let header = file.len() + 30 + name.len() + 4;
        let padding = header.next_multiple_of(64) - header;
        file.extend(b"PK\x03\x04\x00\x00");
        file.extend([entry.flags, entry.method, 0, 0].iter().flat_map(|field| field.to_le_bytes()));
        file.extend([crc32, size, size].iter().flat_map(|field| field.to_le_bytes()));
        file.extend((name.len() as u16).to_le_bytes());
        file.extend((padding as u16 + 4).to_le_bytes());
        file.extend(name.as_bytes());
        file.extend(b"FB");
        file.extend((padding as u16).to_le_bytes());
        file.extend(std::iter::repeat_n(b'Z', padding));
        file.extend(&entry.data);

        directory.extend(b"PK\x01\x02\x00\x00\x00\x00");
        let fields = [entry.flags, entry.method, 0, 0];
        directory.extend(fields.iter().flat_map(|field| field.to_le_bytes()));
        directory.extend([crc32, size, size].iter().flat_map(|field| field.to_le_bytes()));
        directory.extend((entry.name.len() as u16).to_le_bytes());
        directory.extend([0; 12]);
        directory.extend(entry.offset.unwrap_or(start).to_le_bytes());
        directory.extend(entry.name.as_bytes());
    }
    let (start, length, count) = (file.len() as u32, directory.len() as u32, entries.len() as u16);
    file.extend(directory);
    file.extend(b"PK\x05\x06\x00\x00\x00\x00");
    file.extend([count, count].iter().flat_map(|field| field.to_le_bytes()));
    file.extend([length, start].iter().flat_map(|field| field.to_le_bytes()));
    file.extend([0, 0]);
    file
}

/// An archive with this pickle and one storage of 64 bytes.
pub(crate) fn pickled(pickle: &[u8]) -> Vec<u8> {
    zip(&[entry("data.pkl", pickle), entry("data/0", &[0; 64])])
}

/// A text.
pub(crate) fn text(text: &str) -> Vec<u8> {
    let mut bytes = vec![b'X'];
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

/// An integer of 64 bits.
pub(crate) fn integer(value: i64) -> Vec<u8> {
    [&[0x8a, 8][..], &value.to_le_bytes()].concat()
}

/// A tuple of values.
pub(crate) fn tuple(values: &[i64]) -> Vec<u8> {
    let values: Vec<u8> = values.iter().flat_map(|&value| integer(value)).collect();
    [b"(", &values[..], b"t"].concat()
}

/// A tensor of 32-bit floats in storage `key` of `count` elements.
pub(crate) fn tensor(
    key: &str,
    count: i64,
    offset: i64,
    shape: &[i64],
    strides: &[i64],
) -> Vec<u8> {
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
        text("storage"),
        b"ctorch\nFloatStorage\n".to_vec(),
        text(key),
        text("cpu"),
        integer(count),
        b"tQ".to_vec(),
        integer(offset),
        tuple(shape),
        tuple(strides),
        b"\x89ccollections\nOrderedDict\n)RtR".to_vec(),
    ]
    .concat()
}

/// A state dict of one value.
pub(crate) fn state(name: &str, value: &[u8]) -> Vec<u8> {
    [b"\x80\x02}", &text(name)[..], value, b"s."].concat()
}
