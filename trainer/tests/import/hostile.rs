//! Files made to harm: refused with the right error, without memory for what they promise.

use mprec_trainer::import::{Arch, Checkpoint, ImportError};

use super::{
    allocator::most_held,
    arch,
    archive::{Entry, entry, pickled, state, tensor, text, tuple, zip},
    read_bytes,
};

/// More than any refusal here may take: the largest pickle that is read becomes about this much.
const MEMORY: usize = 512 << 20;

fn refused(bytes: &[u8]) -> ImportError {
    refused_within(bytes, 1 << 20)
}

fn refused_within(bytes: &[u8], memory: usize) -> ImportError {
    let arch = arch("dlrm-dot");
    let (result, most) = most_held(|| read_bytes(bytes, &arch).map(drop));
    assert!(most <= memory, "{most} bytes were held for a file of {}", bytes.len());
    result.unwrap_err()
}

fn refused_pickle(pickle: &[u8]) -> ImportError {
    refused(&pickled(pickle))
}

/// A good tensor, so that what is refused elsewhere is refused for its one fault.
fn good() -> Vec<u8> {
    tensor("0", 16, 0, &[4, 4], &[4, 1])
}

#[test]
fn the_parts_make_a_checkpoint() {
    let file = pickled(&state("emb_l.0.weight", &good()));
    let mut named = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut named, &file).unwrap();
    let checkpoint = Checkpoint::open(named.path()).unwrap();
    assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["emb_l.0.weight"]);
    // The model lacks the rest.
    let error = refused(&file);
    assert!(matches!(error, ImportError::Features { tables: 1, .. }), "{error}");
}

#[test]
fn nothing_is_executed() {
    let calls: [(&[u8], &str); 6] = [
        (b"\x80\x02cos\nsystem\n", "os.system"),
        (b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.", "posix.system"),
        (b"\x80\x02cbuiltins\neval\n", "builtins.eval"),
        (b"\x80\x02c__builtin__\ngetattr\n", "__builtin__.getattr"),
        (b"\x80\x02ctorch\nload\n", "torch.load"),
        (b"\x80\x02ctorch.storage\n_load_from_bytes\n", "torch.storage._load_from_bytes"),
    ];
    for (pickle, asked) in calls {
        let error = refused_pickle(pickle);
        assert!(matches!(&error, ImportError::Global { name, .. } if name == asked), "{error}");
    }
    // Beside a good state dict as well.
    let before = [b"\x80\x02}(", &text("state_dict")[..], b"}", &text("a")].concat();
    let error = refused_pickle(&[&before[..], b"cos\nsystem\n)Ru."].concat());
    assert!(matches!(&error, ImportError::Global { name, .. } if name == "os.system"), "{error}");
    // Known names called as they never are.
    for call in [
        &b"ccollections\nOrderedDict\n)\x85R"[..],
        b"ctorch\nFloatStorage\n)R",
        b"ctorch._utils\n_rebuild_tensor_v2\n)R",
        b"X\x02\x00\x00\x00os)R",
        b"ccollections\nOrderedDict\nNR",
    ] {
        let error = refused_pickle(&[b"\x80\x02", call, b"."].concat());
        assert!(matches!(error, ImportError::Pickle { .. }), "{error}");
    }
    // Long and odd names are not repeated in full.
    let long = [b"\x80\x02c", &b"x\x1b[2J"[..], &[b'y'; 200], b"\nz\n."].concat();
    let shown = refused_pickle(&long).to_string();
    assert!(!shown.contains('\x1b') && shown.len() < 400, "{shown}");
}

#[test]
fn instructions_that_no_state_dict_needs_are_refused() {
    let known = b"\x80.(qrhjN\x88\x89KMJ\x8aGX}])\x85\x86\x87taesubcQR";
    for opcode in 0..=255_u8 {
        let error = refused_pickle(&[0x80, 2, opcode, b'x', b'\n', b'.']);
        if !known.contains(&opcode) {
            let expected = format!("instruction 0x{opcode:02x} is none");
            assert!(error.to_string().contains(&expected), "{opcode}: {error}");
        }
    }
    for protocol in [0, 1, 3, 4, 5, 255] {
        let error = refused_pickle(&[0x80, protocol, b'N', b'.']);
        assert!(error.to_string().contains(&format!("protocol {protocol}")), "{error}");
    }
}

#[test]
fn pickles_that_are_not_well_formed_are_refused() {
    for pickle in [
        &b""[..],
        b"\x80",
        b"\x80\x02",
        b"\x80\x02.",
        b"\x80\x02N",
        b"\x80\x02NN.",
        b"\x80\x02(N.",
        b"\x80\x02N.N",
        b"\x80\x02t.",
        b"\x80\x02h\x00.",
        b"\x80\x02j\xff\xff\xff\xff.",
        b"\x80\x02q\x00.",
        b"\x80\x02X\xff\xff\xff\xffab.",
        b"\x80\x02X\x02\x00\x00\x00\xff\xfe.",
        b"\x80\x02\x8a\x09123456789.",
        b"\x80\x02\x8a\xff.",
        b"\x80\x02\x85.",
        b"\x80\x02(\x85.",
        b"\x80\x02}K\x01s.",
        b"\x80\x02}(K\x01u.",
        b"\x80\x02K\x01(NNu.",
        b"\x80\x02K\x01Na.",
        b"\x80\x02K\x01Nb.",
        b"\x80\x02ctorch\nFloatSto",
        b"\x80\x02NQ.",
        b"\x80\x02)Q.",
        b"\x80\x02G1234.",
    ] {
        let error = refused_pickle(pickle);
        assert!(matches!(error, ImportError::Pickle { .. }), "{pickle:?}: {error}");
    }
    for (pickle, part) in [(&b"\x80\x02N."[..], "it is None"), (b"\x80\x02}.", "0 keys")] {
        let error = refused_pickle(pickle);
        let ImportError::NoStateDict { what } = &error else { panic!("{error}") };
        assert!(what.contains(part), "{what}");
    }
}

#[test]
fn depth_and_repetition_cost_nothing() {
    // Tuples in tuples, a million deep.
    let deep = [&b"\x80\x02"[..], &[b'('; 1 << 20], &[b't'; 1 << 20], b"."].concat();
    let error = refused_within(&pickled(&deep), MEMORY);
    assert!(matches!(error, ImportError::NoStateDict { .. }), "{error}");
    // Each tuple holds the one before twice: 2^100,000 values, were they copied.
    let doubled =
        [&b"\x80\x02()q\x00"[..], &b"h\x00h\x00\x86q\x00".repeat(100_000), b"t."].concat();
    let error = refused_within(&pickled(&doubled), MEMORY);
    assert!(matches!(error, ImportError::NoStateDict { .. }), "{error}");
    // A dict that holds itself.
    let error = refused_pickle(b"\x80\x02}q\x00X\x0a\x00\x00\x00state_dicth\x00s.");
    assert!(error.to_string().contains("`state_dict` is a dict"), "{error}");
    // Four million values, and a pickle of one byte more than is read.
    let many = [&b"\x80\x02("[..], &[b'N'; (4 << 20) - 5], b"t."].concat();
    let error = refused_within(&pickled(&many), MEMORY);
    assert!(matches!(error, ImportError::NoStateDict { .. }), "{error}");
    let long = [&b"\x80\x02("[..], &[b'N'; (4 << 20) - 4], b"t."].concat();
    let error = refused_pickle(&long);
    assert!(error.to_string().contains("at most 4194304 are read"), "{error}");
}

#[test]
fn tensors_lie_within_their_storage() {
    let huge = i64::MAX;
    for (tensor, part) in [
        (tensor("0", 16, 0, &[4, 5], &[5, 1]), "does not lie within"),
        (tensor("0", 16, 1, &[4, 4], &[4, 1]), "does not lie within"),
        (tensor("0", 16, 17, &[0], &[1]), "does not lie within"),
        (tensor("0", 16, huge, &[1], &[1]), "does not lie within"),
        (tensor("0", 16, 0, &[0, huge], &[1, 1]), "no elements"),
        (tensor("0", 16, -1, &[4, 4], &[4, 1]), "negative"),
        (tensor("0", 16, 0, &[-4, 4], &[4, 1]), "negative"),
        (tensor("0", 16, 0, &[huge, huge], &[huge, 1]), "does not lie within"),
        (tensor("0", 16, 0, &[huge, huge, 0], &[0, 0, 1]), "does not lie within"),
        (tensor("0", 16, 0, &[4, 4], &[1, 4]), "row by row"),
        (tensor("0", 16, 0, &[4, 4], &[0, 0]), "row by row"),
        (tensor("0", 16, 0, &[4, 4], &[-4, 1]), "row by row"),
        (tensor("0", 16, 0, &[4, 4], &[4]), "strides"),
        (tensor("0", 15, 0, &[1], &[1]), "has 64 bytes"),
        (tensor("0", huge, 0, &[1], &[1]), "has 64 bytes"),
        (tensor("0", -16, 0, &[1], &[1]), "negative"),
        (tensor("1", 16, 0, &[1], &[1]), "not in the archive"),
        (tensor("../../../etc/passwd", 16, 0, &[1], &[1]), "not in the archive"),
        (b"N".to_vec(), "is None"),
        (tuple(&[1]), "is a tuple"),
    ] {
        let (wrapper, name) = (text("state_dict"), text("bot_l.0.weight"));
        let error =
            refused_pickle(&[b"\x80\x02}", &wrapper[..], b"}", &name, &tensor, b"ss."].concat());
        let named = matches!(&error, ImportError::Tensor { tensor, what }
            if tensor == "bot_l.0.weight" && what.contains(part));
        assert!(named, "{part}: {error}");
    }
    let nine = tensor("0", 16, 0, &[1; 9], &[1; 9]);
    let error = refused_pickle(&state("a", &nine)).to_string();
    assert!(error.contains("9 dimensions"), "{error}");
    let long = refused_pickle(&state(&"a".repeat(513), &good())).to_string();
    assert!(long.contains("a name of 513 bytes") && long.len() < 300, "{long}");
    let number = refused_pickle(&[b"\x80\x02}(K\x01", &good()[..], b"u."].concat());
    assert!(matches!(number, ImportError::NoStateDict { .. }), "{number}");
    let twice = [&text("a")[..], &good(), &text("a"), &good()].concat();
    let twice = refused_pickle(&[b"\x80\x02}(", &twice[..], b"u."].concat()).to_string();
    assert!(twice.contains("is there twice"), "{twice}");
}

fn archives() -> Vec<(Vec<u8>, &'static str)> {
    let pickle = || entry("data.pkl", &state("emb_l.0.weight", &good()));
    let data = || entry("data/0", &[0; 64]);
    let with = |change: &dyn Fn(&mut Entry)| {
        let mut changed = data();
        change(&mut changed);
        zip(&[pickle(), changed])
    };
    let whole = zip(&[pickle(), data()]);
    let end = whole.len() - 22;
    let patched = |at: usize, bytes: &[u8]| {
        let mut file = whole.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    let name = |name: &str| {
        let name = name.to_owned();
        with(&move |entry| entry.name.clone_from(&name))
    };
    vec![
        (zip(&[data()]), "no `data.pkl`"),
        (zip(&[]), "no `data.pkl`"),
        (zip(&[pickle(), pickle(), data()]), "two entries"),
        (zip(&[pickle(), data(), entry("byteorder", b"big")]), "big-endian"),
        (with(&|entry| entry.method = 8), "compressed"),
        (with(&|entry| entry.flags = 1), "encrypted"),
        (with(&|entry| entry.flags = 1 << 6), "encrypted"),
        (with(&|entry| entry.offset = Some(0)), "two headers that differ"),
        (with(&|entry| entry.offset = Some(7)), "not where it is said to be"),
        (with(&|entry| entry.offset = Some(u32::MAX - 1)), "cut off"),
        (with(&|entry| entry.offset = Some(u32::MAX)), "cut off"),
        (with(&|entry| entry.size = Some(1 << 31)), "cut off"),
        (with(&|entry| entry.size = Some(u32::MAX)), "cut off"),
        (with(&|entry| entry.size = Some(100)), "overlap"),
        (with(&|entry| entry.local_name = Some("archive/data/1".into())), "differ"),
        (name("archive/../data/0"), "has an entry"),
        (name("archive//data/0"), "has an entry"),
        (name("/archive/data/0"), "has an entry"),
        (name("archive/data\\0"), "has an entry"),
        (name("archive/data/"), "has an entry"),
        (name(&format!("archive/{}", "d".repeat(2000))), "has an entry"),
        (name("other/data/0"), "not in one folder"),
        (whole[..end].to_vec(), "no directory"),
        (whole[..end + 21].to_vec(), "no directory"),
        (whole[..30].to_vec(), "no directory"),
        (whole[..10].to_vec(), "cut off"),
        ([&whole[..], b"x"].concat(), "no directory"),
        (patched(end + 4, &[1]), "several disks"),
        (patched(end + 8, &[1]), "several disks"),
        (patched(end + 8, &[1, 0, 1, 0]), "does not end after"),
        (patched(end + 8, &[3, 0, 3, 0]), "smaller than its entries"),
        (patched(end + 8, &[255; 4]), "smaller than its entries"),
        (patched(end + 12, &[255; 4]), "lies outside"),
        (patched(end + 16, &[255; 4]), "lies outside"),
        (patched(end + 16, &[1]), "damaged"),
    ]
}

#[test]
fn archives_that_torch_does_not_write_are_refused() {
    for (at, (file, part)) in archives().into_iter().enumerate() {
        let error = refused(&file);
        let ImportError::Archive { what } = &error else { panic!("{at}, {part}: {error}") };
        assert!(what.contains(part), "{at}, {part}: {what}");
    }
}

/// As `torch.save` writes it always: counts and places in 64 bits before the old end.
#[test]
fn directories_of_64_bits_are_read_and_bounded() {
    let whole = pickled(&state("emb_l.0.weight", &good()));
    let end = whole.len() - 22;
    let number = |at: usize| u32::from_le_bytes(whole[end + at..end + at + 4].try_into().unwrap());
    let (length, start) = (u64::from(number(12)), u64::from(number(16)));
    let wide = |count: u64, length: u64, start: u64, at: u64| {
        let mut file = whole[..end].to_vec();
        file.extend(b"PK\x06\x06");
        file.extend(44_u64.to_le_bytes());
        file.extend([0; 12]);
        file.extend([count, count, length, start].iter().flat_map(|field| field.to_le_bytes()));
        file.extend(b"PK\x06\x07\0\0\0\0");
        file.extend(at.to_le_bytes());
        file.extend(1_u32.to_le_bytes());
        file.extend(b"PK\x05\x06\0\0\0\0");
        file.extend([0xff; 12]);
        file.extend([0, 0]);
        file
    };
    let at = end as u64;
    let error = refused(&wide(2, length, start, at));
    assert!(matches!(error, ImportError::Features { tables: 1, .. }), "{error}");
    for (file, part) in [
        (wide(u64::MAX, length, start, at), "entries, at most"),
        (wide(100_000, length, start, at), "smaller than its entries"),
        (wide(2, u64::MAX, start, at), "lies outside"),
        (wide(2, length, u64::MAX, at), "lies outside"),
        (wide(2, length, start, u64::MAX), "not where it is said to be"),
        (wide(2, length, start, 0), "not where it is said to be"),
    ] {
        let error = refused(&file);
        let ImportError::Archive { what } = &error else { panic!("{part}: {error}") };
        assert!(what.contains(part), "{part}: {what}");
    }
}

#[test]
fn other_formats_are_refused_with_what_to_do() {
    let script = zip(&[entry("constants.pkl", b""), entry("data.pkl", b"")]);
    for (file, part) in [
        (script, "torch.jit.load"),
        (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.".to_vec(), "torch.save(torch.load("),
        (Vec::new(), "empty"),
        (b"\x89HDF\r\n\x1a\n".to_vec(), "no known format"),
    ] {
        let error = refused(&file);
        assert!(matches!(error, ImportError::Format { .. }), "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
    let folder = Checkpoint::open(std::env::temp_dir()).unwrap_err();
    assert!(folder.to_string().contains("not a file"), "{folder}");
    // A header of more bytes than there are, and one that is no header.
    for (length, header) in [(u64::MAX, "{}"), (1 << 40, "{}"), (2, "{}")] {
        let file = [&length.to_le_bytes()[..], header.as_bytes()].concat();
        let error = refused(&file);
        let safetensors = matches!(error, ImportError::Safetensors { .. });
        assert!(safetensors || matches!(error, ImportError::NoStateDict { .. }), "{error}");
    }
}

#[test]
fn damaged_parameters_are_refused() {
    let path = super::data().join("dlrm-dot.pt");
    let file = std::fs::read(path).unwrap();
    let (checkpoint, imported) = read_bytes(&file, &arch("dlrm-dot")).unwrap();
    let table = imported.weights.get("emb_l.1.weight").unwrap().as_bytes();
    let at = file.windows(table.len()).position(|window| window == table).unwrap();
    drop(checkpoint);
    let mut flipped = file.clone();
    flipped[at + 9] ^= 1;
    let error = refused(&flipped);
    assert!(
        matches!(&error, ImportError::Checksum { entry } if entry.contains("/data/")),
        "{error}"
    );
    // Without checksums it passes, as the values are still numbers; infinite ones do not.
    let unchecked = |bytes: &[u8]| {
        let mut named = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut named, bytes).unwrap();
        let checkpoint = Checkpoint::open(named.path()).unwrap();
        let imported = mprec_trainer::import::import(&checkpoint, &arch("dlrm-dot")).unwrap();
        imported.verify(&checkpoint, false, &mut |_| {})
    };
    unchecked(&flipped).unwrap();
    flipped[at + 8..at + 12].copy_from_slice(&f32::INFINITY.to_le_bytes());
    let error = unchecked(&flipped).unwrap_err();
    let named = matches!(&error, ImportError::NotFinite { tensor, at: 2, .. } if tensor == "emb_l.1.weight");
    assert!(named, "{error}");
}

#[test]
fn element_types_that_a_bundle_lacks_are_named() {
    let float =
        |shape: &[i64]| tensor("0", 16, 0, shape, &[*shape.last().unwrap(), 1][2 - shape.len()..]);
    let mut table = tensor("0", 8, 0, &[4, 2], &[2, 1]);
    let at = table.windows(12).position(|window| window == b"FloatStorage").unwrap();
    table.splice(at..at + 5, *b"Double");
    let tensors = [
        ("bot_l.0.weight", float(&[2, 1])),
        ("bot_l.0.bias", float(&[2])),
        ("emb_l.0.weight", table),
        ("top_l.0.weight", float(&[1, 3])),
        ("top_l.0.bias", float(&[1])),
    ];
    let items: Vec<u8> =
        tensors.iter().flat_map(|(name, tensor)| [text(name), tensor.clone()].concat()).collect();
    let pickle = [b"\x80\x02}(", &items[..], b"u."].concat();
    // One table for one feature.
    let features = "dense = 1\nsparse = [{ name = \"a\" }]";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("arch.toml");
    std::fs::write(&path, features).unwrap();
    let arch = Arch::open(path).unwrap();
    let error = read_bytes(&pickled(&pickle), &arch).unwrap_err();
    let named = matches!(&error, ImportError::DType { tensor, got, .. }
        if tensor == "emb_l.0.weight" && got == "F64");
    assert!(named, "{error}");
}
