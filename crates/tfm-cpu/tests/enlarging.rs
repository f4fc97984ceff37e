//! States get more rows without a copy.

use std::sync::Arc;

use tfm_core::{NoParameters, Session, Tensor};
use tfm_cpu::CpuBackend;

#[test]
fn a_state_keeps_its_rows_when_it_gets_more() {
    let backend = CpuBackend::new(1).expect("threads start");
    let session = Session::new(backend, Arc::new(NoParameters));
    let (rows, row) = (3000, 128);
    let values: Vec<f32> = (0..rows * row).map(|i| i as f32).collect();
    let tensor = Tensor::from_f32([rows, row], values.clone()).expect("as many elements");
    let mut state = session.upload(&tensor).expect("memory");
    let fewer = session.enlarge(&mut state, rows - 1).expect("no error");
    assert!(!fewer && state.shape()[..] == [rows, row]);
    // If the system cannot move pages, the caller copies, and nothing has changed.
    let more =
        if session.enlarge(&mut state, 3 * rows).expect("no error") { 3 * rows } else { rows };
    assert!(more > rows || !cfg!(target_os = "linux"));
    assert_eq!(state.shape()[..], [more, row]);
    let now = session.download(&state).expect("the session's own");
    assert_eq!(now.as_f32().expect("floats")[..rows * row], values);
}
