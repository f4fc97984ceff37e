//! Laws 4 and 8 on whole models: the gradients of the loss are its derivatives, and no logit
//! depends on a later token.

use std::path::Path;
use std::sync::Arc;
use tfm_core::op::ReduceOp;
use tfm_core::reference::Reference;
use tfm_core::testing::{Problem, laws};
use tfm_core::{CompileOptions, DType, HostSlice, ParameterSource, Session, Shape, Tensor};
use tfm_model::transformer::{DropoutRates, Learning, Network, RANDOM_KEY};
use tfm_model::{Checkpoint, Pair, Pairs, Parameters, learnable};

fn open(name: &str) -> Arc<Checkpoint> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tfm/tests/fixtures");
    Arc::new(Checkpoint::open(models.join(name)).unwrap())
}

fn learning(checkpoint: &Checkpoint, rate: f32) -> Learning {
    Learning {
        learnt: learnable(checkpoint.config()).into_iter().map(|(name, _)| name).collect(),
        dropout: DropoutRates { residual: rate, attention: rate, activation: rate },
        adapters: None,
    }
}

fn tensor(data: HostSlice<'_>, shape: Shape) -> Tensor {
    match data {
        HostSlice::I32(data) => Tensor::from_i32(shape, data.to_vec()).unwrap(),
        HostSlice::F32(data) => Tensor::from_f32(shape, data.to_vec()).unwrap(),
        _ => unreachable!("batches are of integers"),
    }
}

#[test]
fn the_gradients_of_the_loss_are_its_derivatives() {
    let names = ["marian_swish_tied", "marian_gelu_separate_vocab", "nn_transformer_pre"];
    for (seed, name) in (1u64..).zip(names) {
        let checkpoint = open(name);
        let config = checkpoint.config();
        let sources: [&[u32]; 2] = [&[5, 9, 4, 2], &[7]];
        // Not the start token: Marian's tables do not learn its row by looking it up.
        let targets: [&[u32]; 2] = [&[4, 6, 3], &[8, 4]];
        let pairs = sources.iter().zip(&targets).map(|(source, target)| Pair { source, target });
        let pairs = Pairs::new(config, &pairs.collect::<Vec<_>>()).unwrap();
        let learning = learning(&checkpoint, 0.2);
        let mut net = Network::learning(config, &learning);
        let logits = pairs.logits(&mut net);
        let labels = net.graph.indices("labels", config.target.vocabulary, [5]);
        let losses = net.graph.cross_entropy(logits, labels, 0.1);
        let loss = net.graph.reduce(ReduceOp::Sum, losses, 0);
        net.graph.output(loss);

        let mut inputs: Vec<(String, Tensor)> = Vec::new();
        for (input, data) in pairs.inputs() {
            let shape = Shape::from([data.len()]);
            inputs.push((input.into(), tensor(data, shape)));
        }
        inputs.push(("labels".into(), Tensor::from_i32([5], vec![3, 5, 2, 7, 2]).unwrap()));
        inputs.push((RANDOM_KEY.into(), Tensor::from_i32([3], vec![1, 2, 3]).unwrap()));
        let parameters = Parameters::new(checkpoint.clone());
        let weights = |name: &str| parameters.load(name).ok();
        let problem = Problem::of_model(&net.graph, inputs, weights).unwrap();
        laws::check_gradients(&problem, seed).unwrap_or_else(|fault| panic!("{name}: {fault}"));
    }
}

#[test]
fn no_logit_depends_on_a_later_token() {
    // Where nothing is tied, each of these tokens has a parameter of its own: its row of the
    // target's table.
    let checkpoint = open("marian_relu_all_separate");
    let config = checkpoint.config();
    assert!(!config.shared_embeddings && !config.output.tied);
    let target = [4, 6, 3, 9, 5];
    let pair = Pair { source: &[5, 9, 4, 2], target: &target };
    let pairs = Pairs::new(config, &[pair]).unwrap();
    let learning = learning(&checkpoint, 0.0);
    let source = Arc::new(Parameters::new(checkpoint.clone()));
    let sessions = [
        Session::new(Reference::<f64>::new(), source.clone()),
        Session::new(tfm_cpu::CpuBackend::new(1).unwrap(), source),
    ];
    for mut session in sessions {
        for row in 0..target.len() {
            let mut net = Network::learning(config, &learning);
            let logits = pairs.logits(&mut net);
            let graph = &mut net.graph;
            let chosen = graph.slice(logits, 0, row, 1);
            let chosen = graph.mul(chosen, chosen);
            let sum = graph.reduce(ReduceOp::Sum, chosen, 1);
            let name = "target_embedding.weight";
            let learnt = net.learnt();
            let (_, table) = learnt.iter().find(|(other, _)| other == name).unwrap();
            let gradient = net.graph.gradients(sum, &[*table], &[])[0];
            net.graph.output(gradient);
            let program = session.compile(&net.graph, &CompileOptions::default()).unwrap();
            let states = learnt.iter().map(|(name, _)| {
                (name.as_str(), session.upload(&checkpoint.load(name).unwrap()).unwrap())
            });
            let mut states: Vec<_> = states.collect();
            let mut bound: Vec<_> = states.iter_mut().map(|(name, state)| (*name, state)).collect();
            let outputs = session.run(&program, &pairs.inputs(), &mut bound).unwrap();
            assert_eq!(outputs[0].dtype(), DType::F32);
            let (d, gradient) = (config.d_model, outputs[0].to_f64());
            for (j, token) in target.into_iter().enumerate() {
                let first = token as usize * d;
                let is_zero = gradient[first..first + d].iter().all(|&x| x == 0.0);
                assert_eq!(is_zero, j > row, "{}: logits of {row}, token {j}", session.name());
            }
        }
    }
}
