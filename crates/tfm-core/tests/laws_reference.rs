//! The laws, on the reference backend itself: they must hold for it, and they test what every backend
//! relies on (passes, plan, session, decompositions).

use tfm_core::reference::Reference;
use tfm_core::testing::{Candidate, laws};

#[test]
fn the_reference_obeys_the_laws() {
    let subject = Candidate::new(Reference::<f64>::new());
    laws::assert_all(&subject, &laws::Config::from_environment());
}
