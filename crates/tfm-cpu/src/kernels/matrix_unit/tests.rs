use super::*;

/// Bytes without a pattern.
fn bytes(seed: u32, count: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let next = || {
        state = state.wrapping_mul(0x9E37_79B1).rotate_left(13) ^ 0x5851_F42D;
        (state >> 11) as u8
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// What a unit makes of random operands: tile 3 += tile 1 · tile 2, with `rows` rows.
fn product(unit: impl Unit, rows: usize, a: &[u8], b: &[u8], c: &[u8], stride: usize) -> Vec<u8> {
    let mut out = vec![0xEE; MOST_ROWS * stride];
    let mut shapes = [MOST_ROWS as u8; TILES];
    [shapes[1], shapes[3]] = [rows as u8; 2];
    unit.configure(&shapes);
    // SAFETY: the slices have 16 rows of `stride` bytes.
    unsafe {
        unit.load::<1>(a.as_ptr(), stride);
        unit.load::<2>(b.as_ptr(), stride);
        unit.load::<3>(c.as_ptr(), stride);
        unit.dot_bytes::<3, 1, 2>();
        unit.store::<3>(out.as_mut_ptr(), stride);
    }
    unit.release();
    out
}

#[test]
fn the_model_multiplies_as_the_definition_says() {
    let stride = ROW_BYTES + 5;
    let [a, b, c] = [1, 2, 3].map(|seed| bytes(seed, MOST_ROWS * stride));
    for rows in 1..=MOST_ROWS {
        let out = product(Model, rows, &a, &b, &c, stride);
        for (i, row) in out.chunks(stride).enumerate() {
            for j in 0..16 {
                let word = |x: &[u8]| i32::from_le_bytes(x[4 * j..4 * j + 4].try_into().unwrap());
                let products = (0..ROW_BYTES).map(|p| {
                    let b = b[p / 4 * stride + 4 * j + p % 4] as i8;
                    i32::from(a[i * stride + p]) * i32::from(b)
                });
                let sum = products.fold(word(&c[i * stride..]), i32::wrapping_add);
                let want = if i < rows { sum } else { i32::from_le_bytes([0xEE; 4]) };
                assert_eq!(word(row), want, "{rows} rows, at {i}, {j}");
            }
            assert_eq!(row[ROW_BYTES..], [0xEE; 5], "wrote between the rows");
        }
    }
    assert!(!Model::is_configured());
}

#[test]
fn a_stride_of_nothing_repeats_a_row() {
    let start = bytes(4, ROW_BYTES);
    let mut out = vec![0; MOST_ROWS * ROW_BYTES];
    Model.configure(&[5; TILES]);
    // SAFETY: one row is read, and five are written.
    unsafe {
        Model.load::<0>(start.as_ptr(), 0);
        Model.store::<0>(out.as_mut_ptr(), ROW_BYTES);
    }
    Model.release();
    assert!(out[..5 * ROW_BYTES].chunks(ROW_BYTES).all(|row| row == start));
    assert!(out[5 * ROW_BYTES..].iter().all(|&x| x == 0));
}

#[test]
fn the_unit_of_the_cpu_gives_what_the_model_gives() {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if let Some(amx) = Amx::detect() {
        for (seed, stride) in (1..200).map(|seed| (seed, ROW_BYTES + seed as usize % 7 * 16)) {
            let [a, b, c] = [1, 2, 3].map(|i| bytes(seed * 7 + i, MOST_ROWS * stride));
            let rows = 1 + seed as usize % MOST_ROWS;
            let model = product(Model, rows, &a, &b, &c, stride);
            assert_eq!(product(amx, rows, &a, &b, &c, stride), model);
        }
        return;
    }
    println!("skipped: this CPU has no matrix unit, or the system does not allow its use");
}
