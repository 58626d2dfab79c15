//! Random damage: whatever becomes of a file's bytes, it is read or refused, without a panic and without much memory.

use mprec_trainer::import::Arch;
use proptest::prelude::*;

use super::{allocator::most_held, arch, archive::pickled, data, read_bytes};

/// Files of one of each kind are below 40 kB; what is made of one is a small multiple of that.
const MEMORY: usize = 2 << 20;

const FILES: [(&str, &str); 5] = [
    ("dlrm-dot", "pt"),
    ("mprec-hybrid", "pt"),
    ("mprec-select", "pt"),
    ("torchrec-dot", "safetensors"),
    ("torchrec-dcn", "pt"),
];

/// Reads a file, which may fail, and nothing else.
fn survives(bytes: &[u8], arch: &Arch) {
    let (_, most) = most_held(|| read_bytes(bytes, arch).map(drop));
    assert!(most <= MEMORY, "{most} bytes were held for a file of {}", bytes.len());
}

fn files() -> Vec<(Vec<u8>, Arch)> {
    let read = |(name, kind): &(&str, &str)| {
        (std::fs::read(data().join(format!("{name}.{kind}"))).unwrap(), arch(name))
    };
    FILES.iter().map(read).collect()
}

/// Bytes that a pickle is made of, so that random ones get somewhere.
fn instruction() -> impl Strategy<Value = Vec<u8>> {
    let plain = prop::sample::select(b"()N}]tRQbsuae\x88\x89\x85\x86\x87.".to_vec());
    prop_oneof![
        6 => plain.prop_map(|byte| vec![byte]),
        2 => (0..4_u8).prop_map(|key| vec![b'q', key]),
        2 => (0..4_u8).prop_map(|key| vec![b'h', key]),
        1 => any::<u8>().prop_map(|value| vec![b'K', value]),
        1 => any::<i64>().prop_map(|value| [&[0x8a, 8][..], &value.to_le_bytes()].concat()),
        2 => prop::sample::select(vec![
            &b"ccollections\nOrderedDict\n"[..],
            b"ctorch._utils\n_rebuild_tensor_v2\n",
            b"ctorch._utils\n_rebuild_parameter\n",
            b"ctorch\nFloatStorage\n",
            b"cnumpy\ndtype\n",
            b"X\x07\x00\x00\x00storage",
            b"X\x01\x00\x00\x000",
            b"X\x0a\x00\x00\x00state_dict",
            b"X\x0e\x00\x00\x00emb_l.0.weight",
        ]).prop_map(<[u8]>::to_vec),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_bytes_are_survived(
        which in 0..FILES.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let (mut bytes, arch) = files().swap_remove(which);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        survives(&bytes, &arch);
    }

    /// Where the structure is: the pickle or the header at the front, the directory at the back.
    #[test]
    fn changed_structure_is_survived(
        which in 0..FILES.len(),
        changes in prop::collection::vec((0..1500_usize, any::<bool>(), prop::sample::select(vec![0, 1, 2, 0x7f, 0x80, 0xff, b'R', b'.'])), 1..6),
    ) {
        let (mut bytes, arch) = files().swap_remove(which);
        for (at, back, byte) in changes {
            let last = bytes.len() - 1;
            let at = at.min(last);
            bytes[if back { last - at } else { at }] = byte;
        }
        survives(&bytes, &arch);
    }

    #[test]
    fn cut_and_joined_files_are_survived(
        which in 0..FILES.len(),
        from in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
        again in any::<prop::sample::Index>(),
    ) {
        let (bytes, arch) = files().swap_remove(which);
        let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
        let joined = [&bytes[..from.min(to)], &bytes[from.max(to)..]].concat();
        survives(&joined, &arch);
        survives(&bytes[..from], &arch);
        let again = again.index(bytes.len());
        survives(&[&bytes[..again], &bytes[from.min(again)..]].concat(), &arch);
    }

    #[test]
    fn random_pickles_are_survived(instructions in prop::collection::vec(instruction(), 0..60)) {
        let pickle = [&b"\x80\x02"[..], &instructions.concat(), b"."].concat();
        survives(&pickled(&pickle), &arch("dlrm-dot"));
    }

    #[test]
    fn random_files_are_survived(
        magic in prop::sample::select(vec![&b""[..], b"PK\x03\x04", b"\x80\x02", b"\x10\0\0\0\0\0\0\0{"]),
        rest in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        survives(&[magic, &rest].concat(), &arch("dlrm-dot"));
    }
}
