//! The graph, its passes and plan, the Backend trait, the f64 reference backend and the laws.
