//! How fast memory is read and copied.

use super::best;
use std::hint::black_box;

/// Bytes that each thread goes through in one repeat, in about a millisecond.
const PIECE: usize = 8 << 20;
/// Bytes that each thread goes through before it starts again. It is far more than caches hold.
const WHOLE: usize = 192 << 20;
/// The size of a number in bytes.
const NUMBER: usize = size_of::<u64>();

/// A thread's buffers, and where the next repeat begins in it.
struct Buffers {
    from: Vec<u64>,
    to: Vec<u64>,
    next: usize,
}

impl Buffers {
    fn new(from: usize, to: usize) -> Buffers {
        // Write the memory, since all pages that nobody has written are the same page of zeros.
        let numbers = |bytes: usize| (0..(bytes / NUMBER) as u64).collect();
        Buffers { from: numbers(from), to: numbers(to), next: 0 }
    }

    /// The numbers of the next piece.
    fn turn(&mut self) -> std::ops::Range<usize> {
        let piece = PIECE / NUMBER;
        let start = self.next;
        self.next = (start + piece) % self.from.len();
        start..start + piece
    }
}

/// Bytes a second that `threads` read from beyond the caches.
pub fn read(threads: usize, repeats: usize) -> f64 {
    best(
        threads,
        repeats,
        || Buffers::new(WHOLE, 0),
        |buffers| {
            let piece = buffers.turn();
            black_box(sum(&buffers.from[piece]));
            PIECE as f64
        },
    )
}

/// Bytes a second that `threads` read and write, copying from beyond the caches to there.
pub fn copy(threads: usize, repeats: usize) -> f64 {
    best(
        threads,
        repeats,
        || Buffers::new(WHOLE, WHOLE),
        |buffers| {
            let piece = buffers.turn();
            buffers.to[piece.clone()].copy_from_slice(black_box(&buffers.from[piece]));
            black_box(&mut buffers.to);
            2.0 * PIECE as f64
        },
    )
}

/// Bytes a second that `threads` threads read again and again from `bytes` bytes in all.
pub fn read_within(threads: usize, repeats: usize, bytes: usize) -> f64 {
    let each = (bytes / threads).max(NUMBER);
    let times = (2 * PIECE).div_ceil(each);
    best(
        threads,
        repeats,
        || Buffers::new(each, 0),
        |buffers| {
            for _ in 0..times {
                black_box(sum(black_box(&buffers.from)));
            }
            (times * each) as f64
        },
    )
}

/// The sum in so many lanes that memory, not addition, takes the time.
fn sum(numbers: &[u64]) -> u64 {
    let mut lanes = [0u64; 32];
    for chunk in numbers.chunks_exact(lanes.len()) {
        for (lane, number) in lanes.iter_mut().zip(chunk) {
            *lane = lane.wrapping_add(*number);
        }
    }
    lanes.iter().fold(0, |sum, lane| sum.wrapping_add(*lane))
}
