//! A problem for a session: a graph with its data, and the recipe that makes it.

use super::{Bounds, Data, Interval};
use crate::graph::Renamed;
use crate::op::Op;
use crate::reference::Reference;
use crate::{
    CompileOptions, DType, DeviceTensor, Graph, HostSlice, Layout, ParameterSource, Program,
    Session, Shape, Tensor, TensorData, Value,
};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Parameters in host memory, by name.
#[derive(Debug, Clone, Default)]
pub struct Parameters(HashMap<String, Tensor>);

impl Parameters {
    /// The parameters of several problems, whose names differ.
    pub fn of<'a>(problems: impl IntoIterator<Item = &'a Problem>) -> Self {
        let entries = |problem: &Problem| problem.parameters.0.clone();
        Parameters(problems.into_iter().flat_map(entries).collect())
    }
}

impl ParameterSource for Parameters {
    fn load(&self, name: &str) -> Result<Tensor, String> {
        self.0.get(name).cloned().ok_or_else(|| "is not in the problem".into())
    }
}

/// How operands lie in memory; the values are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperandLayout {
    /// Contiguous.
    Contiguous,
    /// Permuted, inside larger tensors whose other elements are NaN (integers: 0), and broadcast
    /// where the data repeats.
    Strided,
}

/// How weights enter the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weights {
    /// As parameters, which are folded and packed.
    Parameters,
    /// As inputs.
    Inputs,
}

/// A graph and all that a run of it takes.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The computation.
    pub graph: Graph,
    /// Its inputs.
    pub inputs: Vec<(String, Tensor)>,
    /// Its parameters.
    pub parameters: Arc<Parameters>,
    /// Its states, as they are before the run.
    pub states: Vec<(String, Tensor)>,
}

impl Problem {
    /// A model's graph as a problem: its parameters and states become inputs of what `weights` has
    /// for their names, so that derivatives with respect to them can be taken.
    ///
    /// # Errors
    /// A parameter that `weights` lacks; the graph's own fault.
    pub fn of_model(
        graph: &Graph,
        mut inputs: Vec<(String, Tensor)>,
        weights: impl Fn(&str) -> Option<Tensor>,
    ) -> Result<Problem, String> {
        let mut new = Graph::new();
        let mut renamed = Renamed::none_of(graph);
        for node in &graph.nodes {
            if let Op::Parameter { name } | Op::State { name } = &node.op {
                let tensor = weights(name).ok_or_else(|| format!("`{name}` is not there"))?;
                let old = node.outputs[0];
                let (dtype, shape) = (graph.dtype(old), graph.shape(old).clone());
                renamed.rename(&node.outputs, [new.input(name, dtype, shape)]);
                inputs.push((name.to_string(), tensor));
            }
        }
        new.include(graph, &mut renamed);
        new.outputs = graph.outputs().iter().filter_map(|&output| renamed.get(output)).collect();
        new.check().map_err(|error| error.to_string())?;
        let parameters = Arc::new(Parameters::default());
        Ok(Problem { graph: new, inputs, parameters, states: Vec::new() })
    }

    /// Compiles and runs the graph in a session on these parameters.
    ///
    /// # Errors
    /// The session's.
    pub fn run(
        &self,
        session: &mut Session,
        options: &CompileOptions,
    ) -> Result<Vec<Tensor>, String> {
        let program = session.compile(&self.graph, options).map_err(|error| error.to_string())?;
        self.run_program(session, &program)
    }

    /// Runs the compiled graph, on new states.
    ///
    /// # Errors
    /// The session's.
    pub fn run_program(
        &self,
        session: &mut Session,
        program: &Program,
    ) -> Result<Vec<Tensor>, String> {
        let words = |error: crate::Error| error.to_string();
        let mut states = self
            .states
            .iter()
            .map(|(_, tensor)| device_tensor(session, tensor).map_err(words))
            .collect::<Result<Vec<DeviceTensor>, String>>()?;
        let mut states: Vec<(&str, &mut DeviceTensor)> =
            self.states.iter().map(|(name, _)| name.as_str()).zip(&mut states).collect();
        session.run(program, &self.bindings(), &mut states).map_err(words)
    }

    /// The inputs as a run takes them.
    pub fn bindings(&self) -> Vec<(&str, HostSlice<'_>)> {
        self.inputs.iter().map(|(name, tensor)| (name.as_str(), tensor.as_slice())).collect()
    }

    /// The bounds of what a correct backend may answer.
    ///
    /// # Errors
    /// The session's: the problem itself is at fault.
    pub fn bounds(&self) -> Result<Vec<Bounds>, String> {
        let mut session = Session::new(Reference::<Interval>::new(), self.parameters.clone());
        let outputs = self.run(&mut session, &CompileOptions::default())?;
        Ok(outputs.into_iter().map(Bounds::new).collect())
    }
}

/// Device memory with a tensor's content.
pub(super) fn device_tensor(session: &mut Session, tensor: &Tensor) -> crate::Result<DeviceTensor> {
    let mut state = session.allocate(tensor.dtype(), tensor.shape().clone())?;
    if tensor.shape().elements() == 0 {
        return Ok(state);
    }
    let mut graph = Graph::new();
    let rows = tensor.shape()[0];
    let content = graph.input("content", tensor.dtype(), tensor.shape().clone());
    let target = graph.state("state", tensor.dtype(), tensor.shape().clone());
    let ids = graph.indices("ids", rows, [rows]);
    graph.write_rows(target, content, ids);
    let program = session.compile(&graph, &CompileOptions::default())?;
    let ids: Vec<i32> = (0..rows as i32).collect();
    let inputs = [("content", tensor.as_slice()), ("ids", ids[..].into())];
    session.run(&program, &inputs, &mut [("state", &mut state)])?;
    Ok(state)
}

/// How to build one problem, whatever the layout of its operands.
#[derive(Clone)]
pub struct Recipe {
    description: String,
    dtype: DType,
    seed: u64,
    build: Arc<dyn Fn(&mut Builder) + Send + Sync>,
}

impl Recipe {
    /// A recipe whose operands are floats of `dtype` drawn from `seed`.
    pub fn new(
        description: String,
        dtype: DType,
        seed: u64,
        build: impl Fn(&mut Builder) + Send + Sync + 'static,
    ) -> Self {
        Recipe { description, dtype, seed, build: Arc::new(build) }
    }

    /// The seed of its data.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The problem. The values are the same for every layout and kind of weights.
    pub fn problem(&self, layout: OperandLayout, weights: Weights) -> Problem {
        let data = Data::new(self.seed);
        let mut builder = Builder {
            graph: Graph::new(),
            dtype: self.dtype,
            seed: self.seed,
            layout_data: data.part(u32::MAX),
            data,
            layout,
            weights,
            inputs: Vec::new(),
            parameters: Parameters::default(),
            states: Vec::new(),
        };
        (self.build)(&mut builder);
        Problem {
            graph: builder.graph,
            inputs: builder.inputs,
            parameters: Arc::new(builder.parameters),
            states: builder.states,
        }
    }
}

impl fmt::Debug for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} (data seed {})", self.dtype, self.description, self.seed)
    }
}

/// The state of a recipe while it builds a problem.
pub struct Builder {
    /// The graph under construction.
    pub graph: Graph,
    /// The float type.
    pub dtype: DType,
    /// Random numbers.
    pub data: Data,
    seed: u64,
    layout_data: Data,
    layout: OperandLayout,
    weights: Weights,
    inputs: Vec<(String, Tensor)>,
    parameters: Parameters,
    states: Vec<(String, Tensor)>,
}

impl Builder {
    /// Floats around 0, mostly below `scale`. Some are the same along whole axes.
    pub fn floats(&mut self, shape: impl Into<Shape>, scale: f64) -> Value {
        let shape = shape.into();
        let drawn: Shape = shape
            .iter()
            .map(|&extent| if extent > 1 && self.data.once_in(12) { 1 } else { extent })
            .collect();
        let tensor = self.data.tensor(self.dtype, &drawn, scale);
        if self.layout == OperandLayout::Strided {
            let value = self.tensor(tensor);
            return self.graph.broadcast(value, shape);
        }
        let repeated = Layout::contiguous(&drawn).broadcast(&shape);
        self.tensor(pick(&tensor, &repeated))
    }

    /// A weight: floats as [`Builder::floats`], as a parameter or an input.
    pub fn weight(&mut self, shape: impl Into<Shape>, scale: f64) -> Value {
        let tensor = self.data.tensor(self.dtype, &shape.into(), scale);
        self.weight_of(tensor)
    }

    /// A weight of this content.
    pub fn weight_of(&mut self, tensor: Tensor) -> Value {
        self.laid_out(tensor, self.weights)
    }

    /// An input of this content.
    pub fn tensor(&mut self, tensor: Tensor) -> Value {
        self.laid_out(tensor, Weights::Inputs)
    }

    /// Floats of this content, rounded to the float type.
    pub fn values(&mut self, shape: impl Into<Shape>, values: Vec<f64>) -> Value {
        let tensor =
            crate::reference::tensor_from_f64(values.into_iter(), self.dtype, &shape.into());
        self.tensor(tensor)
    }

    /// Integers of this content.
    pub fn integers(&mut self, shape: impl Into<Shape>, data: Vec<i32>) -> Value {
        self.tensor(Tensor::from_i32(shape, data).expect("a recipe gives one integer an element"))
    }

    /// Indices of this content, declared to be below `bound`. Always contiguous.
    pub fn indices(&mut self, bound: usize, shape: impl Into<Shape>, data: Vec<i32>) -> Value {
        let tensor = Tensor::from_i32(shape, data).expect("a recipe gives one index an element");
        let name = format!("input {}", self.inputs.len());
        let value = self.graph.indices(&name, bound, tensor.shape().clone());
        self.inputs.push((name, tensor));
        value
    }

    /// A state of this content before the run.
    pub fn state(&mut self, tensor: Tensor) -> Value {
        let name = format!("state {}", self.states.len());
        let value = self.graph.state(&name, tensor.dtype(), tensor.shape().clone());
        self.states.push((name, tensor));
        value
    }

    /// A source of this content, laid out as operands shall be.
    fn laid_out(&mut self, tensor: Tensor, weights: Weights) -> Value {
        let shape = tensor.shape().clone();
        if self.layout == OperandLayout::Contiguous {
            return self.source(tensor, weights);
        }
        // The stored tensor has its axes in another order, and more before and after along each.
        let rank = shape.len();
        let order: Vec<usize> = if self.layout_data.once_in(2) {
            (0..rank).collect()
        } else {
            self.layout_data.distinct(rank, rank).into_iter().map(|axis| axis as usize).collect()
        };
        let mut gap = || if self.layout_data.once_in(2) { 0 } else { self.layout_data.below(4) };
        let gaps: Vec<(usize, usize)> = (0..rank).map(|_| (gap(), gap())).collect();
        let padded: Shape =
            (0..rank).map(|axis| gaps[axis].0 + shape[axis] + gaps[axis].1).collect();
        let mut inverse = vec![0; rank];
        order.iter().enumerate().for_each(|(axis, &stored)| inverse[stored] = axis);
        let stored_shape: Shape = inverse.iter().map(|&axis| padded[axis]).collect();

        let mut layout = Layout::contiguous(&stored_shape).permute(&order);
        for (axis, &(before, _)) in gaps.iter().enumerate() {
            layout = layout.slice(axis, before, shape[axis]);
        }
        let stored = embed(&tensor, &layout, &stored_shape);
        let mut value = self.source(stored, weights);
        if rank > 0 {
            value = self.graph.permute(value, &order);
        }
        for (axis, &(before, after)) in gaps.iter().enumerate() {
            if before + after > 0 {
                value = self.graph.slice(value, axis, before, shape[axis]);
            }
        }
        value
    }

    fn source(&mut self, tensor: Tensor, weights: Weights) -> Value {
        let (dtype, shape) = (tensor.dtype(), tensor.shape().clone());
        match weights {
            Weights::Inputs => {
                let name = format!("input {}", self.inputs.len());
                let value = self.graph.input(&name, dtype, shape);
                self.inputs.push((name, tensor));
                value
            }
            Weights::Parameters => {
                // Problems may share a session, so the name is the recipe's own.
                let name = format!("parameter {:x}.{}", self.seed, self.parameters.0.len());
                let value = self.graph.parameter(&name, dtype, shape);
                self.parameters.0.insert(name, tensor);
                value
            }
        }
    }
}

/// The elements of `tensor` that `layout` names.
pub(super) fn pick(tensor: &Tensor, layout: &Layout) -> Tensor {
    fn of<T: Copy>(data: &[T], layout: &Layout) -> Vec<T> {
        layout.positions().map(|position| data[position]).collect()
    }
    let data = match tensor.data() {
        TensorData::F32(data) => TensorData::F32(of(data, layout)),
        TensorData::F16(data) => TensorData::F16(of(data, layout)),
        TensorData::BF16(data) => TensorData::BF16(of(data, layout)),
        TensorData::I32(data) => TensorData::I32(of(data, layout)),
    };
    Tensor::new(layout.shape().clone(), data).expect("a layout has one position an element")
}

/// A tensor of shape `stored` that holds `tensor` where `layout` says, and NaN (integers: 0)
/// elsewhere.
fn embed(tensor: &Tensor, layout: &Layout, stored: &Shape) -> Tensor {
    fn of<T: Copy>(data: &[T], layout: &Layout, filler: T, elements: usize) -> Vec<T> {
        let mut stored = vec![filler; elements];
        layout.positions().zip(data).for_each(|(position, &x)| stored[position] = x);
        stored
    }
    let n = stored.elements();
    let data = match tensor.data() {
        TensorData::F32(data) => TensorData::F32(of(data, layout, f32::NAN, n)),
        TensorData::F16(data) => TensorData::F16(of(data, layout, half::f16::NAN, n)),
        TensorData::BF16(data) => TensorData::BF16(of(data, layout, half::bf16::NAN, n)),
        TensorData::I32(data) => TensorData::I32(of(data, layout, 0, n)),
    };
    Tensor::new(stored.clone(), data).expect("one value an element")
}
