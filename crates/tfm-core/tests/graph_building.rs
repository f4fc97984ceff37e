//! Whatever is called with whatever operands: a graph is refused or can be compiled, without a
//! panic.

use proptest::prelude::*;
use tfm_core::testing::graph_from_bytes;

/// Inputs first, so that later ops have something to work on.
fn calls() -> impl Strategy<Value = Vec<u8>> {
    let beginning = proptest::collection::vec((0..8u8, any::<[u8; 7]>()), 0..4);
    let rest = proptest::collection::vec(any::<u8>(), 0..120);
    (beginning, rest).prop_map(|(beginning, rest)| {
        let head = beginning.into_iter().flat_map(|(op, bytes)| [op].into_iter().chain(bytes));
        head.chain(rest).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_call_panics(bytes in calls()) {
        let _ = graph_from_bytes(&bytes);
    }
}

/// Some graphs get through, so the property is about compilation too.
#[test]
fn a_sound_graph_is_accepted() {
    // An input [3, 4], its softmax, and that as the output.
    assert_eq!(graph_from_bytes(&[0, 0, 0, 2, 3, 4, 33, 0, 38, 0]), Ok(()));
}
