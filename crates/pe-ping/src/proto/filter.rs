//! The programs with which the kernel discards what does not concern us before it reaches the socket's buffer.
//!
//! Classic BPF (`bpf(4)`, the kernel's `Documentation/networking/filter.rst`): echo replies with one of our identifiers
//! and ICMP errors that quote a request with one of them pass, nothing else. A raw IPv4 socket's filter sees the IP
//! header, a raw IPv6 socket's starts at the ICMP header.

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

/// The filter of the raw IPv4 socket.
pub(crate) fn v4(ids: IdBlock) -> Vec<Instruction> {
    let mask = u32::from(!(ids.size - 1));
    let first = u32::from(ids.first);
    assemble(&[
        Plain(X_HEADER_SIZE, 0),
        Plain(LOAD_BYTE_X, 0),
        JumpIf(0, "reply"),
        JumpIf(3, "error"),
        JumpIf(11, "error"),
        Demand(12),
        Label("error"),
        Plain(LOAD_BYTE_X, 8 + 9),
        Demand(1),
        // X becomes the size of both IP headers.
        Plain(LOAD_BYTE_X, 8),
        Plain(AND, 0x0f),
        Plain(SHIFT_LEFT, 2),
        Plain(ADD_X, 0),
        Plain(A_TO_X, 0),
        Plain(LOAD_BYTE_X, 8),
        Demand(8),
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
pub(crate) fn v6(ids: IdBlock) -> Vec<Instruction> {
    let mask = u32::from(!(ids.size - 1));
    let first = u32::from(ids.first);
    assemble(&[
        Plain(LOAD_BYTE, 0),
        JumpIf(129, "reply"),
        JumpIf(1, "error"),
        JumpIf(2, "error"),
        JumpIf(3, "error"),
        Demand(4),
        Label("error"),
        Plain(LOAD_BYTE, 8 + 6),
        JumpIf(0, "accept"),
        JumpIf(43, "accept"),
        JumpIf(44, "accept"),
        JumpIf(60, "accept"),
        Demand(58),
        Plain(LOAD_BYTE, 8 + 40),
        Demand(128),
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
