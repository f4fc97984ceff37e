//! A model of the matrix unit in plain Rust. It panics where the CPU would raise a fault. Tests can
//! have it make a mistake, as a kernel with that mistake would.

use std::cell::{Cell, RefCell};

use super::{MOST_ROWS, ROW_BYTES, Shapes, TILES, Unit};

/// The model. As on a CPU, the tiles belong to the thread.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::kernels) struct Model;

#[derive(Clone)]
struct Tile {
    rows: usize,
    data: [[u8; ROW_BYTES]; MOST_ROWS],
}

/// What a kernel may do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernels) enum Mistake {
    /// Takes half the distance between the rows of this tile, when it reads or writes it.
    Stride(u8),
    /// Does not read this tile.
    Unread(u8),
    /// Does not write this tile.
    Unwritten(u8),
    /// Adds products to the first tile that belong to the second.
    Sum(u8, u8),
    /// Multiplies the first tile where it should multiply the second.
    Operand(u8, u8),
}

thread_local! {
    /// The tiles, if they are configured.
    static TILES_OF_THREAD: RefCell<Option<Vec<Tile>>> = const { RefCell::new(None) };
    static MISTAKE: Cell<Option<Mistake>> = const { Cell::new(None) };
}

fn makes(mistake: Mistake) -> bool {
    MISTAKE.get() == Some(mistake)
}

fn with_tiles<R>(act: impl FnOnce(&mut [Tile]) -> R) -> R {
    TILES_OF_THREAD.with_borrow_mut(|tiles| act(tiles.as_mut().expect("tiles are configured")))
}

impl Model {
    /// Whether this thread has tiles that were not given back.
    pub(in crate::kernels) fn is_configured() -> bool {
        TILES_OF_THREAD.with_borrow(Option::is_some)
    }

    /// Calls `act`, during which this thread's model makes a mistake.
    pub(in crate::kernels) fn with_mistake<R>(mistake: Mistake, act: impl FnOnce() -> R) -> R {
        MISTAKE.set(Some(mistake));
        let result = act();
        MISTAKE.set(None);
        result
    }
}

impl Unit for Model {
    fn configure(self, rows: &Shapes) {
        assert!(rows.iter().all(|&rows| (1..=MOST_ROWS).contains(&usize::from(rows))));
        let empty = |&rows: &u8| Tile { rows: rows.into(), data: [[0; ROW_BYTES]; MOST_ROWS] };
        TILES_OF_THREAD.set(Some(rows.iter().map(empty).collect()));
    }

    fn release(self) {
        TILES_OF_THREAD.set(None);
    }

    unsafe fn load<const T: u8>(self, from: *const u8, stride: usize) {
        if makes(Mistake::Unread(T)) {
            return;
        }
        let stride = if makes(Mistake::Stride(T)) { stride / 2 } else { stride };
        with_tiles(|tiles| {
            let Tile { rows, data } = &mut tiles[usize::from(T)];
            for (i, row) in data[..*rows].iter_mut().enumerate() {
                // SAFETY: the caller's promise.
                *row = unsafe { from.add(i * stride).cast::<[u8; ROW_BYTES]>().read() };
            }
            data[*rows..].fill([0; ROW_BYTES]);
        });
    }

    unsafe fn store<const T: u8>(self, to: *mut u8, stride: usize) {
        if makes(Mistake::Unwritten(T)) {
            return;
        }
        let stride = if makes(Mistake::Stride(T)) { stride / 2 } else { stride };
        with_tiles(|tiles| {
            let Tile { rows, data } = &tiles[usize::from(T)];
            for (i, row) in data[..*rows].iter().enumerate() {
                // SAFETY: the caller's promise.
                unsafe { to.add(i * stride).cast::<[u8; ROW_BYTES]>().write(*row) };
            }
        });
    }

    fn dot_bytes<const C: u8, const A: u8, const B: u8>(self) {
        with_tiles(|tiles| {
            let wrong = |tile: u8| match MISTAKE.get() {
                Some(Mistake::Sum(is, should)) if tile == should && tile == C => is,
                Some(Mistake::Operand(is, should)) if tile == should && tile != C => is,
                _ => tile,
            };
            let [c, a, b] = [C, A, B].map(wrong).map(usize::from);
            assert!(c < TILES && a != b && a != c && b != c, "three different tiles");
            let (a, b) = (tiles[a].clone(), tiles[b].clone());
            assert!(a.rows == tiles[c].rows, "A has as many rows as C");
            assert!(b.rows * 4 == ROW_BYTES, "B has a row for four bytes of A");
            for (c, a) in tiles[c].data.iter_mut().zip(&a.data[..a.rows]) {
                let columns = c.as_chunks_mut::<4>().0;
                for (j, c) in columns.iter_mut().enumerate() {
                    let mut sum = i32::from_le_bytes(*c);
                    for (p, a) in a.as_chunks::<4>().0.iter().enumerate() {
                        let b = b.data[p][4 * j..].iter();
                        sum = a.iter().zip(b).fold(sum, |sum, (&a, &b)| {
                            sum.wrapping_add(i32::from(a) * i32::from(b as i8))
                        });
                    }
                    *c = sum.to_le_bytes();
                }
            }
        });
    }
}
