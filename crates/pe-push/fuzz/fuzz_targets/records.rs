//! Records of any content with the right checksums. The input is a row of records: a byte (its lowest bit: shape or block), a length
//! (a byte), and the payload; that of a shape is compressed here.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pe_push::queue::{Disk, MemoryDisk, verify};

fuzz_target!(|data: &[u8]| {
    let mut file = b"PEQUEUE\n\x01\0\0\0".to_vec();
    file.resize(28, 0);
    file.extend(crc32fast::hash(&file).to_le_bytes());
    let (mut rest, mut blocks) = (data, 0_u64);
    while let [kind, length, more @ ..] = rest {
        let (payload, more) = more.split_at(more.len().min(usize::from(*length)));
        rest = more;
        if kind & 1 == 0 {
            let packed = snap::raw::Encoder::new().compress_vec(payload).expect("short");
            record(&mut file, 1, u64::from(kind >> 1), &packed);
        } else {
            record(&mut file, 2, blocks, payload);
            blocks += 1;
        }
    }
    let mut disk = MemoryDisk::new();
    let name = "0000000000000000.segment";
    disk.create(name).expect("memory");
    disk.append(name, &file).expect("memory");
    let verified = verify(&mut disk).expect("memory can be read");
    assert_eq!(verified.blocks + verified.damaged_blocks, blocks);
});

fn record(file: &mut Vec<u8>, kind: u8, number: u64, payload: &[u8]) {
    let start = file.len();
    file.extend([0xF1, b'Q', b'E', b'P', kind, 0, 0, 0]);
    file.extend(u32::try_from(payload.len()).expect("short").to_le_bytes());
    file.extend(number.to_le_bytes());
    file.extend([0; 12]);
    file.extend(crc32fast::hash(payload).to_le_bytes());
    file.extend(crc32fast::hash(&file[start..]).to_le_bytes());
    file.extend_from_slice(payload);
}
