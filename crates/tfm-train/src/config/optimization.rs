//! `[optimizer]`, `[schedule]`, `[loss]` and `[dropout]`.

use super::table::Table;
use crate::schedule::{Decay, Schedule};

/// The optimiser.
#[derive(Debug, Clone, PartialEq)]
pub struct Optimizer {
    /// The rule.
    pub rule: Rule,
    /// The decay of the means of gradients and of their squares.
    pub betas: [f64; 2],
    /// What is added to the root of the squares' mean.
    pub epsilon: f64,
    /// The share of the weights, times the learning rate, that each update subtracts.
    pub weight_decay: f64,
    /// The largest Euclidean norm of the gradient of all parameters; larger gradients are clipped.
    pub clip_norm: Option<f64>,
    /// The decay of the moving average of the weights, which is validated and exported instead of
    /// them.
    pub ema: Option<f64>,
}

/// An update rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Kingma and Ba 2015; weight decay is a part of the gradient.
    Adam,
    /// Loshchilov and Hutter 2019; weight decay stands apart.
    AdamW,
    /// Shazeer and Stern 2018: second moments by rows and columns.
    Adafactor,
}

/// The loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loss {
    /// The probability that is taken from the right token and spread over all (section 5.4).
    pub label_smoothing: f64,
}

/// Dropout rates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// Of embeddings and of the outputs of sublayers (section 5.4).
    pub residual: f64,
    /// Of attention weights.
    pub attention: f64,
    /// Of the inner features of feed-forward networks.
    pub activation: f64,
}

impl Optimizer {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        let rules = [("adam", Rule::Adam), ("adamw", Rule::AdamW), ("adafactor", Rule::Adafactor)];
        let share = |number: f64| (0.0..1.0).contains(&number);
        let betas = table.pair("betas", "two numbers from 0 to below 1, as in [0.9, 0.98]", share);
        let epsilon = table.number("epsilon", "a number above 0, at most 1", |epsilon| {
            epsilon > 0.0 && epsilon <= 1.0
        });
        Optimizer {
            rule: table.choice("name", &rules).unwrap_or(Rule::Adam),
            betas: betas.unwrap_or([0.9, 0.98]),
            epsilon: epsilon.unwrap_or(1e-9),
            weight_decay: table
                .number("weight_decay", "a number from 0 to 1", |decay| {
                    (0.0..=1.0).contains(&decay)
                })
                .unwrap_or(0.0),
            clip_norm: table.number("clip_norm", "a number above 0", |norm| norm > 0.0),
            ema: table.number("ema", "a number above 0, below 1", |ema| ema > 0.0 && ema < 1.0),
        }
    }
}

/// The `[schedule]`. `updates` is the length of the training, where that is known.
pub(super) fn schedule(table: &mut Table<'_>, updates: Option<u64>) -> Option<Schedule> {
    #[derive(Clone, Copy, PartialEq)]
    enum Kind {
        Paper,
        InverseSqrt,
        Cosine,
        Linear,
        Constant,
    }
    let kinds = [
        ("paper", Kind::Paper),
        ("inverse_sqrt", Kind::InverseSqrt),
        ("cosine", Kind::Cosine),
        ("linear", Kind::Linear),
        ("constant", Kind::Constant),
    ];
    let kind = match table.has("kind") {
        true => table.choice("kind", &kinds),
        false => table.choice("kind", &kinds).or(Some(Kind::Paper)),
    };
    let rate = |number: f64| number > 0.0 && number <= 10.0;
    let factor = table.number("factor", "a number above 0", |factor| factor > 0.0);
    let peak = table.number("peak", "a learning rate above 0, at most 10", rate);
    let warmup = table.count("warmup", 0..=1 << 40);
    let span = table.count("updates", 1..=1 << 40);
    let last = table
        .number("final", "a learning rate from 0 to 10", |number| number == 0.0 || rate(number));
    let kind = kind?;
    let belongs = [
        ("factor", kind == Kind::Paper, "`kind` = \"paper\""),
        ("peak", kind != Kind::Paper, "the other kinds; \"paper\" has `factor`"),
        ("updates", matches!(kind, Kind::Cosine | Kind::Linear), "\"cosine\" and \"linear\""),
        ("final", matches!(kind, Kind::Cosine | Kind::Linear), "\"cosine\" and \"linear\""),
    ];
    for (key, fits, whose) in belongs {
        if !fits && table.has(key) {
            table.fault(key, format!("belongs to {whose}"));
        }
    }
    if kind == Kind::Paper {
        if warmup == Some(0) {
            table.fault("warmup", "is 0, but the paper's schedule needs 1 or more");
        }
        let warmup = warmup.unwrap_or(4000).max(1);
        return Some(Schedule::Paper { factor: factor.unwrap_or(1.0), warmup });
    }
    let peak = table.required("peak", peak)?;
    let decay = match kind {
        Kind::Constant => Decay::None,
        Kind::Cosine | Kind::Linear => {
            let Some(updates) = span.or(updates) else {
                if !table.has("updates") {
                    table.fault("updates", "is missing, as is run.updates: when does it end?");
                }
                return None;
            };
            if warmup.is_some_and(|warmup| warmup >= updates) {
                table.fault("warmup", format!("leaves nothing of {updates} updates to decay in"));
            }
            let last = last.unwrap_or(0.0);
            if last > peak {
                table.fault("final", format!("is {last}, above peak = {peak}"));
            }
            match kind {
                Kind::Cosine => Decay::Cosine { updates, last },
                _ => Decay::Linear { updates, last },
            }
        }
        _ => Decay::InverseSqrt,
    };
    let default = if decay == Decay::InverseSqrt { 4000 } else { 0 };
    Some(Schedule::Peak { peak, warmup: warmup.unwrap_or(default), decay })
}

impl Loss {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        Loss { label_smoothing: probability(table, "label_smoothing").unwrap_or(0.1) }
    }
}

impl Dropout {
    pub(super) fn read(table: &mut Table<'_>) -> Self {
        Dropout {
            residual: probability(table, "residual").unwrap_or(0.1),
            attention: probability(table, "attention").unwrap_or(0.0),
            activation: probability(table, "activation").unwrap_or(0.0),
        }
    }
}

fn probability(table: &mut Table<'_>, key: &'static str) -> Option<f64> {
    table.number(key, "a probability from 0 to below 1", |number| (0.0..1.0).contains(&number))
}
