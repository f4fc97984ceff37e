//! Recorded work: a CUDA graph, which one call launches instead of one call a kernel.

use crate::device::{device_error, driver_error};
use cudarc::driver::{CudaGraph, CudaStream, sys};
use std::sync::Arc;
use tfm_core::backend::{Outcome, Replay};

/// A graph that was captured on a stream.
pub(crate) struct Graph(CudaGraph);

// SAFETY: any thread may call the driver's functions on graphs, one thread at a time; and one
// thread at a time uses the session that owns a recording.
unsafe impl Send for Graph {}

impl Graph {
    /// Records what `work` launches on the stream, without running it.
    ///
    /// # Errors
    /// Those of the driver and of `work`.
    pub(crate) fn capture(
        stream: &Arc<CudaStream>,
        work: &mut dyn FnMut() -> Outcome,
    ) -> Outcome<Graph> {
        // A capture forbids some calls. This mode forbids them to this thread only; other workers
        // go on.
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        let failed = |error| driver_error("recording", error);
        stream.begin_capture(mode).map_err(failed)?;
        let outcome = work();
        let flags = sys::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
        let graph = stream.end_capture(flags);
        outcome?;
        let graph = graph.map_err(failed)?;
        graph.map(Graph).ok_or_else(|| device_error("recording: the driver recorded nothing"))
    }
}

impl Replay for Graph {
    fn replay(&self) -> Outcome {
        self.0.launch().map_err(|error| driver_error("a recorded run", error))
    }
}
