use super::*;

fn agent(warp: u32, clock: u32, known: &[u32]) -> Agent<'_> {
    Agent { stamp: Stamp { block: 1, warp, clock }, known, first_block: 1, ..Agent::default() }
}

#[test]
fn unordered_accesses_are_races_and_ordered_ones_are_not() {
    let mut region = Shared::new(64, 2, false);
    let mut out = [0; 4];
    region.write(0, &[1; 4], &agent(0, 1, &[1, 0])).unwrap();
    // Different bytes of one word do not conflict.
    region.write(4, &[1; 2], &agent(0, 1, &[1, 0])).unwrap();
    region.write(6, &[1; 2], &agent(1, 1, &[0, 1])).unwrap();
    // The other warp does not know of the write at first; later it does.
    let race = region.read(0, &mut out, &agent(1, 1, &[0, 1]));
    assert!(matches!(race, Err(Problem::Race { .. })), "{race:?}");
    region.read(0, &mut out, &agent(1, 2, &[1, 2])).unwrap();
    // The writer does not know of that read.
    let race = region.write(0, &[2; 4], &agent(0, 2, &[2, 1]));
    assert!(matches!(race, Err(Problem::Race { .. })), "{race:?}");
    region.write(0, &[2; 4], &agent(0, 3, &[3, 2])).unwrap();
    // Atomic operations race with writes but not with one another.
    region.fill(8, &[0; 4]);
    region.update(8, 4, &agent(0, 3, &[3, 2]), |x| x + 1).unwrap();
    region.update(8, 4, &agent(1, 3, &[1, 3]), |x| x + 1).unwrap();
    let race = region.write(8, &[0; 4], &agent(0, 3, &[3, 2]));
    assert!(matches!(race, Err(Problem::Race { .. })), "{race:?}");
}

#[test]
fn wild_accesses_are_found() {
    let mut global = Global::default();
    let (a, b) = (global.allocate(10), global.allocate(16));
    assert!(b - a > 10 + 1000);
    let known = [1];
    let me = agent(0, 1, &known);
    let mut out = [0; 4];
    assert!(matches!(global.region(a + 10, 4), Err(Problem::OutOfBounds { .. })));
    let region = global.region(a + 8, 4).unwrap();
    assert!(matches!(region.read(a + 8, &mut out, &me), Err(Problem::OutOfBounds { .. })));
    assert!(matches!(region.read(a + 2, &mut out, &me), Err(Problem::Misaligned { .. })));
    assert!(matches!(region.read(a, &mut out, &me), Err(Problem::Uninitialised { .. })));
    assert!(region.content(0, 1).is_err());
    region.fill(0, &[7; 10]);
    region.read(a + 4, &mut out, &me).unwrap();
    assert_eq!((out, region.content(0, 10).unwrap()), ([7; 4], &[7; 10][..]));
    assert!(global.free(b) && !global.free(b));
}
