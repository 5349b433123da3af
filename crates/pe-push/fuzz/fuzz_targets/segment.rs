//! A file of any content.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pe_push::queue::{Disk, MemoryDisk, Order, Queue, QueueLimits, verify};

fuzz_target!(|data: &[u8]| {
    let mut disk = MemoryDisk::new();
    for name in ["0000000000000000.segment", "cursors.a"] {
        disk.create(name).expect("memory");
        disk.append(name, data).expect("memory");
    }
    let verified = verify(&mut disk).expect("memory can be read");
    let (mut queue, _) = Queue::open(Box::new(disk), QueueLimits::default()).expect("memory can be read");
    queue.attach("sink", Order::Strict).expect("memory can be read");
    let mut blocks = 0;
    while let Some((id, _)) = queue.next("sink").expect("memory can be read") {
        queue.acknowledge("sink", [id]);
        blocks += 1;
    }
    assert_eq!(blocks, verified.blocks);
    assert_eq!(queue.backlog("sink").expect("memory can be read").samples, 0);
});
