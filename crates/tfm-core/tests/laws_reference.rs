//! The laws, on the reference backend itself: they must hold for it, and they test what every
//! backend relies on (passes, plan, session, decompositions).

use std::collections::BTreeSet;
use tfm_core::DType;
use tfm_core::fused::Fused;
use tfm_core::reference::Reference;
use tfm_core::testing::{Candidate, laws, recipes};

#[test]
fn the_reference_obeys_the_laws() {
    let subject = Candidate::new(Reference::<f64>::new());
    laws::assert_all(&subject, &laws::Config::from_environment());
}

#[test]
fn every_fused_op_is_in_the_laws() {
    let families = recipes::fused(&recipes::Range::new(&[DType::F32]));
    // A family of cases is named by its op, with what is particular to them after a comma.
    let op = |name: &'static str| name.split_once(',').map_or(name, |(op, _)| op);
    let tested: BTreeSet<&str> = families.iter().map(|family| op(family.name)).collect();
    assert_eq!(tested, Fused::NAMES.iter().copied().collect());
}
