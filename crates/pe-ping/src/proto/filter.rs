//! The programs with which the kernel discards what does not concern us before it reaches the socket's buffer.
//!
//! Classic BPF (`bpf(4)`, the kernel's `Documentation/networking/filter.rst`): echo replies with one of our identifiers
//! and ICMP errors that quote a request with one of them pass, nothing else. A raw IPv4 socket's filter sees the IP
//! header, a raw IPv6 socket's starts at the ICMP header.

use pe_scrape::Family;

use super::icmp::{self, next_header};

/// One instruction, as the kernel's `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instruction {
    pub(crate) code: u16,
    pub(crate) if_true: u8,
    pub(crate) if_false: u8,
    pub(crate) operand: u32,
}

/// Identifiers that a filter lets pass: a block of a power of two, aligned to its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IdBlock {
    first: u16,
    size: u16,
}

impl IdBlock {
    /// The block of `size` (a power of two) that holds `id`.
    pub(crate) fn around(id: u16, size: u16) -> Self {
        debug_assert!(size.is_power_of_two());
        Self {
            first: id & !(size - 1),
            size,
        }
    }

    /// The `n`-th identifier of the block.
    #[inline]
    pub(crate) fn id(self, n: u16) -> u16 {
        self.first | (n & (self.size - 1))
    }

    /// The position of an identifier in the block.
    #[inline]
    pub(crate) fn position(self, id: u16) -> Option<u16> {
        (id & !(self.size - 1) == self.first).then_some(id & (self.size - 1))
    }
}

const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
const LOAD_HALF: u16 = 0x28; // BPF_LD | BPF_H | BPF_ABS
const LOAD_BYTE_X: u16 = 0x50; // BPF_LD | BPF_B | BPF_IND
const LOAD_HALF_X: u16 = 0x48; // BPF_LD | BPF_H | BPF_IND
const X_HEADER_SIZE: u16 = 0xb1; // BPF_LDX | BPF_B | BPF_MSH: X = 4 * (byte & 0x0f)
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const SHIFT_LEFT: u16 = 0x64; // BPF_ALU | BPF_LSH | BPF_K
const ADD_X: u16 = 0x0c; // BPF_ALU | BPF_ADD | BPF_X
const A_TO_X: u16 = 0x07; // BPF_MISC | BPF_TAX
const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

const ACCEPT: u32 = u32::MAX;
const DROP: u32 = 0;

/// A step of a program before the jumps are counted out.
enum Step {
    Plain(u16, u32),
    /// Goes to a label if the accumulator equals the operand, else on.
    JumpIf(u32, &'static str),
    /// Goes on if the accumulator equals the operand, else drops the packet.
    Demand(u32),
    Label(&'static str),
}

use Step::{Demand, JumpIf, Label, Plain};

fn is(kind: u8, label: &'static str) -> Step {
    JumpIf(kind.into(), label)
}

fn must_be(kind: u8) -> Step {
    Demand(kind.into())
}

fn assemble(steps: &[Step]) -> Vec<Instruction> {
    let position = |wanted: &str| {
        let at = steps
            .iter()
            .position(|step| matches!(step, Label(name) if *name == wanted))
            .unwrap_or(steps.len());
        steps[..at]
            .iter()
            .filter(|step| !matches!(step, Label(_)))
            .count()
    };
    let drop_at = position("drop");
    let mut program = Vec::with_capacity(steps.len());
    for step in steps {
        let next = program.len() + 1;
        let distance = |to: usize| (to - next) as u8;
        let (code, operand, if_true, if_false) = match *step {
            Label(_) => continue,
            Plain(code, operand) => (code, operand, 0, 0),
            JumpIf(operand, label) => (JUMP_EQUAL, operand, distance(position(label)), 0),
            Demand(operand) => (JUMP_EQUAL, operand, 0, distance(drop_at)),
        };
        program.push(Instruction {
            code,
            if_true,
            if_false,
            operand,
        });
    }
    program
}

/// The filter of a family's raw socket.
pub(crate) fn program(family: Family, ids: IdBlock) -> Vec<Instruction> {
    match family {
        Family::V4 => v4(ids),
        Family::V6 => v6(ids),
    }
}

/// The filter of the raw IPv4 socket.
fn v4(ids: IdBlock) -> Vec<Instruction> {
    let mask = u32::from(!(ids.size - 1));
    let first = u32::from(ids.first);
    assemble(&[
        Plain(X_HEADER_SIZE, 0),
        Plain(LOAD_BYTE_X, 0),
        is(icmp::v4::ECHO_REPLY, "reply"),
        is(icmp::v4::UNREACHABLE, "error"),
        is(icmp::v4::TIME_EXCEEDED, "error"),
        must_be(icmp::v4::PARAMETER_PROBLEM),
        Label("error"),
        Plain(LOAD_BYTE_X, 8 + 9),
        must_be(next_header::ICMP),
        // X becomes the size of both IP headers.
        Plain(LOAD_BYTE_X, 8),
        Plain(AND, 0x0f),
        Plain(SHIFT_LEFT, 2),
        Plain(ADD_X, 0),
        Plain(A_TO_X, 0),
        Plain(LOAD_BYTE_X, 8),
        must_be(icmp::v4::ECHO_REQUEST),
        Plain(LOAD_HALF_X, 8 + 4),
        Plain(AND, mask),
        JumpIf(first, "accept"),
        Plain(RETURN, DROP),
        Label("reply"),
        Plain(LOAD_HALF_X, 4),
        Plain(AND, mask),
        Demand(first),
        Label("accept"),
        Plain(RETURN, ACCEPT),
        Label("drop"),
        Plain(RETURN, DROP),
    ])
}

/// The filter of the raw IPv6 socket. Requests that were quoted behind extension headers pass unseen.
fn v6(ids: IdBlock) -> Vec<Instruction> {
    let mask = u32::from(!(ids.size - 1));
    let first = u32::from(ids.first);
    assemble(&[
        Plain(LOAD_BYTE, 0),
        is(icmp::v6::ECHO_REPLY, "reply"),
        is(icmp::v6::UNREACHABLE, "error"),
        is(icmp::v6::TOO_BIG, "error"),
        is(icmp::v6::TIME_EXCEEDED, "error"),
        must_be(icmp::v6::PARAMETER_PROBLEM),
        Label("error"),
        Plain(LOAD_BYTE, 8 + 6),
        is(next_header::HOP_BY_HOP, "accept"),
        is(next_header::ROUTING, "accept"),
        is(next_header::FRAGMENT, "accept"),
        is(next_header::DESTINATION_OPTIONS, "accept"),
        must_be(next_header::ICMPV6),
        Plain(LOAD_BYTE, 8 + 40),
        must_be(icmp::v6::ECHO_REQUEST),
        Plain(LOAD_HALF, 8 + 40 + 4),
        Plain(AND, mask),
        JumpIf(first, "accept"),
        Plain(RETURN, DROP),
        Label("reply"),
        Plain(LOAD_HALF, 4),
        Plain(AND, mask),
        Demand(first),
        Label("accept"),
        Plain(RETURN, ACCEPT),
        Label("drop"),
        Plain(RETURN, DROP),
    ])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::packet::{CookieKey, EchoKey, EchoTemplate, Message, parse_v4, parse_v6};
    use crate::proto::checksum::Sum;

    /// Runs a program as the kernel would. Returns whether the packet passes.
    fn passes(program: &[Instruction], packet: &[u8]) -> bool {
        let (mut a, mut x, mut at) = (0_u32, 0_u32, 0_usize);
        let load = |start: u32, size: usize| -> Option<u32> {
            let start = start as usize;
            let bytes = packet.get(start..start.checked_add(size)?)?;
            Some(
                bytes
                    .iter()
                    .fold(0, |value, byte| value << 8 | u32::from(*byte)),
            )
        };
        loop {
            let instruction = program[at];
            at += 1;
            let operand = instruction.operand;
            let loaded = match instruction.code {
                LOAD_BYTE => load(operand, 1),
                LOAD_HALF => load(operand, 2),
                LOAD_BYTE_X => load(x.wrapping_add(operand), 1),
                LOAD_HALF_X => load(x.wrapping_add(operand), 2),
                X_HEADER_SIZE => load(operand, 1).map(|byte| {
                    x = (byte & 0x0f) * 4;
                    a
                }),
                AND => Some(a & operand),
                SHIFT_LEFT => Some(a << operand),
                ADD_X => Some(a.wrapping_add(x)),
                A_TO_X => {
                    x = a;
                    Some(a)
                }
                JUMP_EQUAL => {
                    at += usize::from(if a == operand {
                        instruction.if_true
                    } else {
                        instruction.if_false
                    });
                    Some(a)
                }
                RETURN => return operand > 0,
                other => panic!("unknown instruction {other:#x}"),
            };
            // A load beyond the end drops the packet.
            let Some(value) = loaded else { return false };
            a = value;
        }
    }

    fn v4_packet(options: usize, kind: u8, rest: &[u8]) -> Vec<u8> {
        let header = 20 + 4 * options;
        let mut packet = vec![0; header];
        packet[0] = 0x40 | (header / 4) as u8;
        packet[2..4].copy_from_slice(&((header + 4 + rest.len()) as u16).to_be_bytes());
        packet[8] = 64;
        packet[9] = 1;
        packet.extend([kind, 0, 0, 0]);
        packet.extend(rest);
        let sum = Sum::default().bytes(&packet[header..]).checksum();
        packet[header + 2..header + 4].copy_from_slice(&sum.to_be_bytes());
        packet
    }

    fn echo(id: u16) -> [u8; 4] {
        let id = id.to_be_bytes();
        [id[0], id[1], 0, 7]
    }

    const IDS: IdBlock = IdBlock {
        first: 0x1240,
        size: 64,
    };

    #[test]
    fn a_block_holds_its_identifiers_and_no_other() {
        let ids = IdBlock::around(0x1277, 64);
        assert_eq!(ids, IDS);
        for n in 0..64 {
            assert_eq!(ids.position(ids.id(n)), Some(n));
        }
        assert_eq!((ids.position(0x123f), ids.position(0x1280)), (None, None));
    }

    #[test]
    fn only_ours_pass() {
        let (v4, v6) = (v4(IDS), v6(IDS));
        let template = EchoTemplate::new(CookieKey::new([1; 16]), 20);
        let mut request = vec![0; template.message_size()];
        template.prepare(&mut request);
        for (id, ours) in [
            (0x1240, true),
            (0x127f, true),
            (0x123f, false),
            (0x1280, false),
        ] {
            for options in [0, 1, 10] {
                assert_eq!(passes(&v4, &v4_packet(options, 0, &echo(id))), ours);
                template.write_v4(
                    &mut request,
                    EchoKey {
                        id,
                        sequence: 7,
                        generation: 1,
                        secret: [1; 8],
                    },
                );
                let quoted = v4_packet(options, 8, &request[4..12]);
                for kind in [3, 11, 12] {
                    let rest = [&[0; 4], &quoted[..]].concat();
                    let packet = v4_packet(0, kind, &rest);
                    assert_eq!(passes(&v4, &packet), ours);
                    let message = parse_v4(&packet, false).unwrap().message;
                    assert!(matches!(message, Message::Error { quote, .. } if quote.id == id));
                }
                assert!(!passes(
                    &v4,
                    &v4_packet(0, 5, &[&[0; 4], &quoted[..]].concat())
                ));
                // A quoted reply, and a quoted packet of another protocol, are not a request of ours.
                let reply = v4_packet(options, 0, &request[4..12]);
                assert!(!passes(
                    &v4,
                    &v4_packet(0, 3, &[&[0; 4], &reply[..]].concat())
                ));
                let mut other = quoted.clone();
                other[9] = 17;
                assert!(!passes(
                    &v4,
                    &v4_packet(0, 3, &[&[0; 4], &other[..]].concat())
                ));
            }
            assert!(!passes(&v4, &v4_packet(0, 8, &echo(id))));

            let reply = [&[129, 0, 0, 0], &echo(id)[..]].concat();
            assert_eq!(passes(&v6, &reply), ours);
            let mut quoted = vec![0_u8; 40];
            (quoted[0], quoted[6]) = (0x60, 58);
            quoted.extend([128, 0, 0, 0]);
            quoted.extend(echo(id));
            for kind in [1, 2, 3, 4] {
                let packet = [&[kind, 0, 0, 0, 0, 0, 0, 0], &quoted[..]].concat();
                assert_eq!(passes(&v6, &packet), ours);
            }
            assert!(!passes(&v6, &[&[128, 0, 0, 0], &echo(id)[..]].concat()));
        }
    }

    proptest! {
        /// Whatever the parsers find to be ours must get through the filter.
        #[test]
        fn nothing_of_ours_is_held_back(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..6_usize, fix: bool) {
            if fix && bytes.len() >= 80 {
                // Make it likely to be something.
                bytes[0] = 0x45;
                bytes[9] = 1;
                let length = bytes.len() as u16;
                bytes[2..4].copy_from_slice(&length.to_be_bytes());
                bytes[20] = [0, 3, 11, 12, 3, 11][kind];
                bytes[28] = 0x45;
                bytes[34..36].fill(0);
                bytes[37] = 1;
                bytes[48..50].copy_from_slice(&[8, 0]);
                bytes[22..24].fill(0);
                let sum = Sum::default().bytes(&bytes[20..]).checksum();
                bytes[22..24].copy_from_slice(&sum.to_be_bytes());
            }
            let id_of = |message| match message {
                Message::EchoReply { id, .. } => id,
                Message::Error { quote, .. } => quote.id,
            };
            if let Ok(packet) = parse_v4(&bytes, false) {
                let ids = IdBlock::around(id_of(packet.message), 64);
                prop_assert!(passes(&v4(ids), &bytes));
            }
            if let Ok(message) = parse_v6(&bytes, false) {
                let ids = IdBlock::around(id_of(message), 64);
                prop_assert!(passes(&v6(ids), &bytes));
            }
        }
    }
}
